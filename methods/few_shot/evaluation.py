"""Accuracy on episodes of new classes, the same for every few-shot method."""
import numpy as np

import minigrad as mg
from methods.training.forward import tensor


def embed_all(net, images, batch=500):
    """The embeddings of every class's images, computed once, in evaluation mode.

    Args:
        images: (classes, drawings, H, W), or a list with (drawings, H, W) for each class.

    Returns:
        (classes, drawings, d), or a list with (drawings, d) for each class.
    """
    flat, was_training = np.concatenate(list(images))[:, None], net.training
    net.eval()
    with mg.no_grad():
        parts = [net(tensor(net, flat[i:i + batch])).numpy() for i in range(0, len(flat), batch)]
    net.train(was_training)
    classes = np.split(np.concatenate(parts), np.cumsum([len(c) for c in images])[:-1])
    return classes if isinstance(images, list) else np.stack(classes)


def accuracy(classify, sampler, episodes=1000, device="cpu"):
    """Mean accuracy over episodes, and the half-width of its 95 % confidence interval.

    Args:
        classify: from an Episode's support and query (Tensors) and the number of classes to scores (queries, classes).
        device: where the Tensors are to be.
    """
    scores = []
    with mg.no_grad():
        for _ in range(episodes):
            e = sampler.sample()
            s = classify(mg.Tensor(e.support).to(device), mg.Tensor(e.query).to(device), sampler.way).numpy()
            scores.append((s.argmax(1) == e.query_labels).mean())
    return float(np.mean(scores)), float(1.96 * np.std(scores) / np.sqrt(len(scores)))
