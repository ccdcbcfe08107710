"""What an encoder's features are worth: nearest neighbours, a linear probe, fine-tuning with few labels, and a map of them."""
import copy
import os
from collections.abc import Sequence

import numpy as np

import minigrad as mg
from methods.training import encoders, optimizers, plots
from methods.training.evaluation import accuracy
from methods.training.forward import tensor
from methods.training.images import scaled
from methods.transfer import linear
from minigrad import data, nn, optim
from minigrad.data.labels import Shuffled


def nearest(x: np.ndarray, y: np.ndarray, test: np.ndarray, classes: int, k: int = 20, temperature: float = 0.07) -> np.ndarray:
    """The votes (M, classes) of the k nearest by cosine, each with the weight exp(cosine / temperature) (Wu et al. 2018).

    Args:
        x: (N, d) labelled features; y: (N,) their classes; test: (M, d).
    """
    x, test, k = (*(a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-12) for a in (x, test)), min(k, len(x)))
    votes = np.zeros((len(test), classes))
    for start in range(0, len(test), 500):
        cosine = test[start:start + 500] @ x.T
        near = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        weights = np.exp((np.take_along_axis(cosine, near, 1) - 1) / temperature)
        np.add.at(votes[start:start + 500], (np.arange(len(near))[:, None], y[near]), weights)
    return votes


def worth(encoder: nn.Module, x: np.ndarray, y: np.ndarray, test: np.ndarray, test_y: np.ndarray, classes: int,
          k: int = 20) -> dict[str, float]:
    """The accuracies of k nearest neighbours and of a linear probe (ridge regression) on an encoder's features.

    Args:
        x, test: images, bytes or float32 in [0, 1]; y, test_y: their classes.
    """
    features, test_features = encoders.encode(encoder, x), encoders.encode(encoder, test)
    near = nearest(features, y, test_features, classes, k)
    probe = linear.ridge(features, y, classes).scores(test_features)
    return {"knn": accuracy(near, test_y), "probe": accuracy(probe, test_y)}


def fine_tuned(encoder: nn.Encoder, x: np.ndarray, y: np.ndarray, test: np.ndarray, test_y: np.ndarray, classes: int, *,
               steps: int = 300, lr: float = 1e-3, batch: int = 50, flip: bool = False, seed: int = 0) -> float:
    """The accuracy after all of a copy of the encoder learns from labels, with a head that begins at 0.

    Training is that of `fit`. An encoder that begins at random is trained in just this way from scratch.
    """
    net = copy.deepcopy(encoder)
    net.head = nn.Linear(net.width, classes).to(encoder.parameters()[0].device)
    nn.init.zeros_(net.head.weight)
    fit(net, x, y, steps=steps, lr=lr, batch=batch, flip=flip, seed=seed)
    return accuracy(encoders.encode(net, test), test_y)


def fit(net: nn.Module, x: np.ndarray, y: np.ndarray, *, steps: int, lr: float = 1e-3, batch: int = 50, flip: bool = False,
        seed: int = 0) -> None:
    """Trains a classifier on images, bytes or float32 in [0, 1], with all labels: AdamW with a cosine, weak augmentation."""
    rng, order, batch = np.random.default_rng((seed, 5)), Shuffled(len(x), (seed, 6)), min(batch, len(x))
    trained = optimizers.make([p for p in net.parameters() if p.requires_grad], "adam", lr, 0.05)
    rate = optim.cosine_decay(lr, steps, steps // 10)
    net.train()
    for step in range(steps):
        index = order.take(batch)
        loss = mg.cross_entropy(net(tensor(net, data.weak(scaled(x[index]), rng, flip=flip))), y[index])
        for optimizer in trained.values():
            optimizer.lr = rate(step)
            optimizer.zero_grad()
        loss.backward()
        for optimizer in trained.values():
            optimizer.step()


def draw_map(features: np.ndarray, labels: np.ndarray, names: Sequence[str], path: str | os.PathLike) -> None:
    """Features (N, d) in a plane by t-SNE (van der Maaten and Hinton 2008), coloured by their classes (N,); scikit-learn's."""
    from sklearn.manifold import TSNE
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    place = TSNE(init="pca", perplexity=min(30, (len(unit) - 1) / 3), random_state=0).fit_transform(unit)
    with plots.figure(path, size=(5.4, 4.6)) as axes:
        for k, name in enumerate(names):
            axes[0, 0].scatter(*place[labels == k].T, s=6, label=name, color=f"C{k % 10}", marker="ox^sv*"[k // 10 % 6])
        axes[0, 0].set(xticks=[], yticks=[])
        axes[0, 0].legend(fontsize=7, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
