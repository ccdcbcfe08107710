"""Shapes that would broadcast by accident are refused; those that should broadcast do so before anything is computed."""
import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

X = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)
WRONG = [(1,), (2,), (4,), (), (1, 3), (3, 1)]


@pytest.mark.parametrize("shape", WRONG)
@pytest.mark.parametrize("argument", ["running_mean", "running_var", "weight", "bias"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", [mg.batch_norm, mg.norm_relu_pool])
def test_norms_over_the_batch(norm, training, argument, shape):
    given = {name: np.ones(3, np.float32) for name in ("running_mean", "running_var", "weight", "bias")}
    norm(X, **given, training=training)
    with pytest.raises(ValueError, match=argument):
        norm(X, **{**given, argument: np.ones(shape, np.float32)}, training=training)


@pytest.mark.parametrize("shape", WRONG)
@pytest.mark.parametrize("argument", ["weight", "bias"])
def test_group_norm(argument, shape):
    with pytest.raises(ValueError, match=argument):
        mg.group_norm(X, 3, **{argument: np.ones(shape, np.float32)})


def test_layers_meet_other_channels():
    for channels in (1, 2, 4, 6):
        with pytest.raises(ValueError, match="3 channels|channels"):
            nn.BatchNorm2d(channels)(mg.Tensor(X))


@pytest.mark.parametrize("argument, shape", [("weight_ih", (12, 6)), ("weight_ih", (9, 5)), ("weight_hh", (12, 1)), ("weight_hh", (9, 4)),
                                             ("bias_ih", (9,)), ("bias_ih", (1,)), ("bias_hh", (12, 1))])
def test_gru(argument, shape):
    given = dict(weight_ih=(12, 5), weight_hh=(12, 4), bias_ih=(12,), bias_hh=(12,))
    right = {name: mg.zeros(s) for name, s in given.items()}
    wrong = {**right, argument: mg.zeros(shape)}
    mg.gru_cell(mg.zeros(2, 5), mg.zeros(2, 4), **right)
    with pytest.raises(ValueError, match=argument):
        mg.gru_cell(mg.zeros(2, 5), mg.zeros(2, 4), **wrong)
    with pytest.raises(ValueError, match=argument):
        mg.gru(mg.zeros(3, 2, 5), mg.zeros(2, 4), **wrong)


@pytest.mark.parametrize("a, b, axis", [((2,), (1,), 0), ((2, 3), (1, 3), 0), ((2, 3), (3,), -1), ((4, 1, 3), (2, 3), (0, 2))])
def test_cosine_similarity_broadcasts_first(a, b, axis):
    x, y = np.random.default_rng(1).normal(size=a), np.random.default_rng(2).normal(size=b)
    full_x, full_y = np.broadcast_arrays(x, y)
    expected = (full_x * full_y).sum(axis) / np.sqrt((full_x ** 2).sum(axis) * (full_y ** 2).sum(axis))
    np.testing.assert_allclose(mg.cosine_similarity(x, y, axis=axis).numpy(), expected)
    mg.check_derivatives(lambda x, y: mg.cosine_similarity(x, y, axis=axis), x, y)
