"""Characters and sine waves for MAML: of each the learner (theta, alpha and their network), and where tasks come from."""
from typing import Any

import numpy as np

import minigrad as mg
from methods.training.evaluation import right
from methods.training.forward import placed
from methods.training.method import Parts
from minigrad import Tensor, data, nn
from minigrad.data import Characters

from . import maml, maml_nets
from .base import FewShotClassifier, NearSampler, by_script, episodes, five_places, shot

Tasks = tuple[np.ndarray, ...]  # support x, support y, query x, query y, each with a leading axis of tasks


class Learner(FewShotClassifier):
    """theta, and alpha where it is learned, as a module's parameters.

    Args:
        theta: the parameters that adaptation starts from.
        config: a `maml.Config`, or a dict of its fields.
    """

    apply: maml.Net
    task_loss: maml.TaskLoss
    unit: str  # of `score`

    def __init__(self, theta: maml_nets.Params, config: maml.Config | dict[str, Any]):
        self.config = maml.Config(**config) if isinstance(config, dict) else config
        self.theta = {name: nn.Parameter(p) for name, p in theta.items()}
        self.alpha = maml.init_alpha(self.theta, self.config)

    def outputs(self, support: maml.Examples, query_x: Tensor, steps: int) -> Tensor:
        """For the queries (tasks, n, ...), after so many inner steps."""
        return maml.query_outputs(self.apply, self.task_loss, self.theta, self.alpha, support, query_x, self.config, steps)

    def scores(self, tasks: Any, count: int, steps: list[int]) -> dict[int, np.ndarray]:
        """The score of each of `count` batches' tasks after each number of inner steps."""
        found: dict[int, list[np.ndarray]] = {j: [] for j in steps}
        with mg.no_grad():
            for _ in range(count):
                batch = tasks.sample()
                x, y, query_x, _ = placed(self, *batch)
                for j in steps:
                    found[j].append(self.score(self.outputs((x, y), query_x, j).numpy(), batch[3]))
        return {j: np.concatenate(values) for j, values in found.items()}


class CharacterLearner(Learner):
    """For tasks of classifying characters: `maml_nets.conv_net`."""

    apply, task_loss, unit = staticmethod(maml_nets.conv_net), staticmethod(maml.cross_entropy), "% correct"

    def __init__(self, config: maml.Config | dict[str, Any], width: int = 64, positions: int = 4, seed: int = 0):
        c = maml.Config(**config) if isinstance(config, dict) else config
        scales = c.inner_steps + 1 if c.norm == "per-step" else 1
        super().__init__(maml_nets.init_conv_net(np.random.default_rng(seed), c.way, width, scales, positions), c)
        self.way = c.way

    def outputs(self, support: maml.Examples, query_x: Tensor, steps: int) -> Tensor:
        """For the queries (tasks, n, ...), after so many inner steps; with a `shift` the mean over five places of each image."""
        if not self.config.shift:
            return super().outputs(support, query_x, steps)
        x, y = support
        placed = [mg.concatenate(five_places(images, self.config.shift), 1) for images in (x, query_x)]
        found = super().outputs((placed[0], mg.tile(y, (1, 5))), placed[1], steps)
        return sum(mg.split(mg.log_softmax(found, 2), 5, 1)) / 5

    def forward(self, images: Tensor) -> Tensor:
        """The images as they are: they are compared by an adapted network, not by embeddings."""
        return images

    def compare(self, prepared: Tensor, queries: Tensor, way: int) -> Tensor:
        """Scores (n, way). Examples and queries are normalised together, so that a query alone has statistics too.

        Raises:
            ValueError: the network tells another number of classes apart, or there are not as many examples of each.
        """
        if way != self.way:
            raise ValueError(f"MAML: this network tells {self.way} classes apart, not {way}")
        labels = mg.Tensor(np.arange(way).repeat(shot(prepared, way))[None]).to(prepared.device)
        both = mg.concatenate([prepared, queries])[None]
        return self.outputs((prepared[None], labels), both, self.config.test_steps)[0, len(prepared):]

    @staticmethod
    def score(outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Accuracy of each task in per cent."""
        return 100 * right(outputs, y).mean(1)


class SinusoidLearner(Learner):
    """For tasks of regression on sine waves: `maml_nets.mlp`."""

    apply, task_loss, unit = staticmethod(maml_nets.mlp), staticmethod(maml.squared_error), "mean squared error"

    def __init__(self, config: maml.Config | dict[str, Any], seed: int = 0):
        super().__init__(maml_nets.init_mlp(np.random.default_rng(seed)), config)

    @staticmethod
    def score(outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Mean squared error of each task."""
        return ((outputs - y) ** 2).mean((1, 2))


def scripts(characters: Characters, least: int) -> list[list[np.ndarray]]:
    """The images of each script with at least so many characters, (drawings, 1, H, W) each; see `base.by_script`."""
    return by_script([images[:, None] for images in characters.images], characters.names, least)


class CharacterTasks:
    """Batches of so many episodes.

    Args:
        within: the share of the episodes that are of one script.
        augment: turn, scale, shear and shift the images a little.
    """

    def __init__(self, characters: Characters, way: int, shot: int, query: int, tasks: int, seed: int, within: float = 0.0,
                 augment: bool = False):
        if way > len(characters.images):
            raise SystemExit(f"--way {way}: there are {len(characters.images)} classes")
        self.sampler = episodes(characters, way, shot, query, seed, NearSampler)
        self.sampler.within, self.sampler.groups = within, scripts(characters, way) if within else ()
        self.tasks, self.augment, self.rng = tasks, augment, np.random.default_rng(seed + 1)

    def sample(self) -> Tasks:
        """The next batch."""
        drawn = [self.sampler.sample() for _ in range(self.tasks)]
        x, y, query_x, query_y = (np.stack([getattr(e, name) for e in drawn])
                                  for name in ("support", "support_labels", "query", "query_labels"))
        if self.augment:
            x, query_x = data.random_affine(x, self.rng), data.random_affine(query_x, self.rng)
        return x, y, query_x, query_y

    def state(self) -> Parts:
        """The parts of a checkpoint."""
        return {"sampler": self.sampler, "rng": self.rng}


class SinusoidTasks:
    """Batches of sine waves y = a sin(x - p), amplitude a in [0.1, 5], phase p in [0, pi], x in [-5, 5]."""

    def __init__(self, shot: int, query: int, tasks: int, seed: int):
        self.shot, self.query, self.tasks, self.rng = shot, query, tasks, np.random.default_rng(seed)

    def sample(self) -> Tasks:
        """The next batch."""
        a, p = self.rng.uniform(0.1, 5, (self.tasks, 1, 1)), self.rng.uniform(0, np.pi, (self.tasks, 1, 1))
        x = self.rng.uniform(-5, 5, (self.tasks, self.shot + self.query, 1))
        x, y, k = x.astype(np.float32), (a * np.sin(x - p)).astype(np.float32), self.shot
        return x[:, :k], y[:, :k], x[:, k:], y[:, k:]

    def state(self) -> Parts:
        """The parts of a checkpoint."""
        return {"rng": self.rng}
