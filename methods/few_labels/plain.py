"""Features where there is no pretrained encoder: edges and colours, a network whose weights are written down, not learnt."""
import numpy as np

import minigrad as mg
from minigrad import Tensor, nn

SIZE, CELL, DIRECTIONS = 48, 8, 8


class PlainFeatures(nn.Encoder):
    """Histograms of gradients (as Dalal and Triggs 2005) and mean colours of cells of 8 x 8 pixels: (N, 3, 48, 48) to (N, 396).

        g_k = max(0, d/dx cos a_k + d/dy sin a_k) of the grey picture, a_k = 2 pi k / 8
        features: sqrt of the mean of g_k over each cell, and the mean colour of each cell

    Args:
        num_classes: of the head; 0 for none.
    """

    def __init__(self, num_classes: int = 0):
        angles = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
        sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
        kernels = np.cos(angles)[:, None, None] * sobel + np.sin(angles)[:, None, None] * sobel.T
        self.kernels = nn.Parameter(kernels[:, None].astype(np.float32), requires_grad=False)
        super().__init__((DIRECTIONS + 3) * (SIZE // CELL) ** 2, num_classes)

    def features(self, x: Tensor) -> Tensor:
        edges = mg.relu(mg.conv2d(x.mean(1, keepdims=True), self.kernels, padding=1))
        cells = mg.concatenate([mg.sqrt(mg.avg_pool2d(edges, CELL) + 1e-4), mg.avg_pool2d(x, CELL)], 1)
        return mg.flatten(cells, 1)


def preprocessing() -> nn.Preprocessing:
    """The preprocessing that belongs to it."""
    return nn.Preprocessing(SIZE, "bilinear", (0.0,) * 3, (1.0,) * 3, 1.0)
