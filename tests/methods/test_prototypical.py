"""Prototypical networks: the equations against plain NumPy, the linear form, and a run that learns, dies and resumes."""
import json

import numpy as np
import pytest

import minigrad as mg
from methods.few_shot import prototypical


def test_logits_are_distances_to_class_means():
    rng = np.random.default_rng(0)
    support, queries = rng.normal(size=(3 * 2, 4)), rng.normal(size=(5, 4))
    centres = np.stack([support[2 * k:2 * k + 2].mean(0) for k in range(3)])
    own = prototypical.prototypes(mg.Tensor(support), 3)
    np.testing.assert_allclose(own.numpy(), centres)
    expected = np.array([[-((q - c) ** 2).sum() for c in centres] for q in queries])
    np.testing.assert_allclose(prototypical.logits(mg.Tensor(queries), own).numpy(), expected)
    linear = 2 * queries @ centres.T - (centres ** 2).sum(1)  # section 2.4: w = 2 c, b = -|c|^2
    gap = expected - linear
    np.testing.assert_allclose(gap, np.broadcast_to(gap[:, :1], gap.shape))
    cosine = [[1 - q @ c / np.linalg.norm(q) / np.linalg.norm(c) for c in centres] for q in queries]
    np.testing.assert_allclose(-prototypical.logits(mg.Tensor(queries), own, "cosine").numpy(), cosine, atol=1e-7)


def test_a_run_learns_and_resumes_to_the_same_bits(tmp_path, monkeypatch):
    pytest.importorskip("tyro")
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "cache"))
    from examples import prototypical_networks as example
    from minigrad import io

    def run(out, steps, resume=False):
        example.main(example.Run(steps=steps, width=16, way=20, episodes=50, out=str(tmp_path / out), resume=resume))
        return io.load(tmp_path / out / "checkpoint.safetensors")

    whole, facts = run("a", 40)
    run("b", 20)
    with pytest.raises(FileExistsError, match="--resume"):
        run("b", 40)
    halves, _ = run("b", 40, resume=True)
    assert facts["step"] == 40 and all((whole[k] == halves[k]).all() for k in whole)
    log = [json.loads(line) for line in (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in log] == [10, 20, 30, 40] and log[-1]["loss"] < log[0]["loss"]
    assert all((tmp_path / "b" / name).exists() for name in ("episode.png", "curves.png", "embeddings.png", "config.json"))
