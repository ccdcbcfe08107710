"""Shapes that would broadcast by accident are refused; those that should broadcast do so before anything is computed."""
import inspect

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


@pytest.mark.parametrize("shape", [(1,), (3,), (), (1, 2), (2, 2), (5, 2, 2)])
@pytest.mark.parametrize("norm, argument", [(mg.layer_norm, "weight"), (mg.layer_norm, "bias"), (mg.rms_norm, "weight")])
def test_norms_over_the_last_axes(norm, argument, shape):
    with pytest.raises(ValueError, match=f"^{norm.__name__}: {argument} of shape .2,. wanted, got"):
        norm(X, 2, **{argument: np.ones(shape, np.float32)})


@pytest.mark.parametrize("loss, arguments", [
    (mg.mse_loss, "input and target"), (mg.kl_divergence, "p_logits and q_logits"), (mg.triplet_margin_loss, "anchor and negative"),
    (mg.margin_ranking_loss, "input1 and input2"), (mg.cosine_embedding_loss, "input1 and input2")])
def test_losses_of_pairs_name_them(loss, arguments):
    given = {**dict.fromkeys(("positive", "target"), X), **dict(zip(arguments.split(" and "), (X, X[:1])))}
    with pytest.raises(ValueError, match=f"^{loss.__name__}: {arguments} of one shape wanted"):
        loss(**{name: x for name, x in given.items() if name in inspect.signature(loss).parameters})


def test_layers_meet_other_channels():
    for channels in (1, 2, 4, 6):
        with pytest.raises(ValueError, match="3 channels|channels"):
            nn.BatchNorm2d(channels)(mg.Tensor(X))


@pytest.mark.parametrize("argument, shape", [
    ("weight_ih", (4, 6)), ("weight_ih", (3, 5)), ("weight_hh", (4, 1)), ("weight_hh", (3, 4)), ("bias_ih", (3,)),
    ("bias_ih", (0,)), ("bias_hh", (4, 1))])
@pytest.mark.parametrize("name, gates, states", [("rnn", 1, 1), ("gru", 3, 1), ("lstm", 4, 2)])
def test_recurrent_units(name, gates, states, argument, shape):
    """`shape`: of one gate."""
    given = dict(weight_ih=(4, 5), weight_hh=(4, 4), bias_ih=(4,), bias_hh=(4,))
    rows = lambda shape: mg.zeros(gates * shape[0], *shape[1:])
    right = {name: rows(s) for name, s in given.items()}
    wrong = {**right, argument: rows(shape)}
    state = [mg.zeros(2, 4)] * states
    cell, unit = getattr(mg, name + "_cell"), getattr(mg, name)
    for call, x in ((cell, mg.zeros(2, 5)), (unit, mg.zeros(3, 2, 5))):
        call(x, *state, **right)
        with pytest.raises(ValueError, match=f"^{call.__name__}: {argument} of shape"):
            call(x, *state, **wrong)
        for bad in (x[0], x[..., None], x[..., :1, :]):
            with pytest.raises(ValueError, match=f"^{call.__name__}: x .*N, inputs. and h .*wanted, got"):
                call(bad, *state, **right)
        for i in range(states):
            with pytest.raises(ValueError, match=f"^{call.__name__}: x .*N, inputs. and h .*wanted, got"):
                call(x, *state[:i], mg.zeros(1, 4), *state[i + 1:], **right)


@pytest.mark.parametrize("name, gates, states", [("rnn", 1, 1), ("gru", 3, 1), ("lstm", 4, 2)])
@pytest.mark.parametrize("wrong", [None, "no"])
def test_recurrent_units_name_what_is_no_array(name, gates, states, wrong):
    right = dict(h=mg.zeros(2, 4), weight_ih=mg.zeros(4 * gates, 5), weight_hh=mg.zeros(4 * gates, 4), bias_ih=None, bias_hh=None)
    right |= {"c": mg.zeros(2, 4)} if states == 2 else {}
    for call, x in ((getattr(mg, name + "_cell"), mg.zeros(2, 5)), (getattr(mg, name), mg.zeros(3, 2, 5))):
        given = right | {"x": x}
        call(**given)
        for argument in given if wrong else [argument for argument in given if "bias" not in argument]:
            with pytest.raises(TypeError, match=f"^{call.__name__}: {argument}: cannot make a Tensor of"):
                call(**given | {argument: wrong})


@pytest.mark.parametrize("a, b, axis", [((2,), (1,), 0), ((2, 3), (1, 3), 0), ((2, 3), (3,), -1), ((4, 1, 3), (2, 3), (0, 2))])
def test_cosine_similarity_broadcasts_first(a, b, axis):
    x, y = np.random.default_rng(1).normal(size=a), np.random.default_rng(2).normal(size=b)
    full_x, full_y = np.broadcast_arrays(x, y)
    expected = (full_x * full_y).sum(axis) / np.sqrt((full_x ** 2).sum(axis) * (full_y ** 2).sum(axis))
    np.testing.assert_allclose(mg.cosine_similarity(x, y, axis=axis).numpy(), expected)
    mg.check_derivatives(lambda x, y: mg.cosine_similarity(x, y, axis=axis), x, y)


@pytest.mark.parametrize("shape, indices, axis", [((7, 5), (4, 1), 1), ((7, 5), (9, 1), 1), ((2, 3, 4), (2, 1, 3), 1),
                                                  ((3, 0), (2, 0), 1), ((5, 7), (1, 6), 0)])
def test_indices_for_other_rows_are_refused_as_numpy_does(shape, indices, axis):
    x, indices = np.zeros(shape), np.zeros(indices, int)
    with pytest.raises(IndexError):
        np.take_along_axis(x, indices, axis)
    with pytest.raises(IndexError, match="equal lengths are wanted, or 1"):
        mg.take_along_axis(x, indices, axis)


@pytest.mark.parametrize("name, call", [
    ("take", lambda x: mg.take(x, [7])), ("take", lambda x: mg.take(x, [7], 1)),
    ("take_along_axis", lambda x: mg.take_along_axis(x, [[7]])), ("take_along_axis", lambda x: mg.take_along_axis(x, [7], None)),
    ("scatter", lambda x: mg.scatter(x, [[7]], [[1.0]], 1)), ("scatter_add", lambda x: mg.scatter_add(x, [[7]], [[1.0]], 1)),
    ("scatter", lambda x: mg.scatter(x, [[0]], [[1.0, 2.0]], 1)),
    ("scatter_add", lambda x: mg.scatter_add(x, [[0]], [[1.0, 2.0]], 1))])
def test_what_cannot_be_picked_or_written_is_an_error_of_the_operation_that_was_called(name, call):
    with pytest.raises((IndexError, ValueError), match=rf"^{name}: (index 7 is out of bounds|values of shape .1, 2.)"):
        call(mg.ones((2, 3)))
