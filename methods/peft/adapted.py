"""A network with its adapters, for checkpoints that hold it whole."""
from minigrad import Tensor, nn

from . import apply


class Adapted(nn.Module):
    """An encoder with adapters and a head as one network.

    Args:
        encoder: one that has them (`peft.apply`), or that gets them with their default settings.
        classes: of the head.

    Raises:
        ValueError: the encoder was adapted by another method.
    """

    def __init__(self, encoder: nn.Encoder, classes: int):
        self.encoder = encoder
        if not hasattr(encoder, "adaptation"):
            apply(encoder, "adapters", head=classes)
        elif encoder.adaptation.method != "adapters":
            raise ValueError(f"Adapted: the encoder has {encoder.adaptation.method}, not adapters")

    @property
    def head(self) -> nn.Module:
        """The encoder's head."""
        return self.encoder.head

    def forward(self, x: Tensor) -> Tensor:
        """(N, classes)."""
        return self.encoder(x)
