"""`nn.functional` and the losses as modules against PyTorch, called with PyTorch's argument names."""
import inspect
import itertools
import pathlib

import numpy as np
import pytest
from checks import optional
from hypothesis import given, settings, strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F, losses

torch = optional("torch")
rng = np.random.default_rng(0)
IMAGES, ROWS = rng.normal(size=(2, 4, 6, 5)), rng.normal(size=(5, 8))
PROBABILITIES = rng.uniform(0.1, 0.9, (5, 8))
W = {"conv1d": rng.normal(size=(6, 4, 3)), "conv2d": rng.normal(size=(6, 2, 3, 3)), "linear": rng.normal(size=(3, 8)),
     "transpose": rng.normal(size=(4, 6, 3, 3)), "transpose1d": rng.normal(size=(4, 6, 3))}
Q = rng.normal(size=(3, 2, 3, 5, 4))


def check(ours, theirs, *inputs):
    """Values and gradients of all floating point inputs."""
    xs = [mg.Tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
    ts = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
    y, z = ours(*xs), theirs(*ts)
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=1e-9, atol=1e-12)
    g = np.random.default_rng(1).normal(size=y.shape)
    y.backward(mg.Tensor(g))
    z.backward(torch.tensor(g))
    for x, t in zip(xs, ts):
        if t.grad is not None:
            np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-8, atol=1e-10)


FUNCTIONS = {
    "linear": (lambda F, x, w: F.linear(x, weight=w), ROWS, W["linear"]),
    "conv1d": (lambda F, x, w: F.conv1d(input=x, weight=w, stride=2, padding=1), IMAGES[..., 0], W["conv1d"]),
    "conv2d": (lambda F, x, w: F.conv2d(input=x, weight=w, padding=(1, 0), groups=2), IMAGES, W["conv2d"]),
    "conv_transpose2d": (lambda F, x, w: F.conv_transpose2d(x, weight=w, stride=2, output_padding=1), IMAGES, W["transpose"]),
    "conv_transpose1d": (lambda F, x, w: F.conv_transpose1d(x, weight=w, stride=2), IMAGES[..., 0], W["transpose1d"]),
    "relu": (lambda F, x: F.relu(x), IMAGES), "gelu": (lambda F, x: F.gelu(x, approximate="tanh"), IMAGES),
    "silu": (lambda F, x: F.silu(x), IMAGES), "leaky_relu": (lambda F, x: F.leaky_relu(x, 0.2), IMAGES),
    "softplus": (lambda F, x: F.softplus(x, beta=2), IMAGES), "tanh": (lambda F, x: F.tanh(x), IMAGES),
    "sigmoid": (lambda F, x: F.sigmoid(x), IMAGES), "elu": (lambda F, x: F.elu(x, 0.7), IMAGES),
    "hardswish": (lambda F, x: F.hardswish(x), 3 * IMAGES), "logsigmoid": (lambda F, x: F.logsigmoid(x), 30 * IMAGES),
    "mish": (lambda F, x: F.mish(x), 30 * IMAGES), "relu6": (lambda F, x: F.relu6(x), 5 * IMAGES),
    "selu": (lambda F, x: F.selu(x), IMAGES), "glu": (lambda F, x: F.glu(x, dim=1), IMAGES),
    "celu": (lambda F, x: F.celu(x, alpha=0.5), IMAGES), "hardshrink": (lambda F, x: F.hardshrink(x, lambd=0.7), IMAGES),
    "softshrink": (lambda F, x: F.softshrink(x, lambd=0.7), IMAGES),
    "hardsigmoid": (lambda F, x: x * F.hardsigmoid(x.detach()), 3 * IMAGES),
    "threshold": (lambda F, x: F.threshold(x, 0.1, value=20), IMAGES),
    "bilinear": (lambda F, x, y, w: F.bilinear(x, y, w), ROWS, PROBABILITIES,
                 rng.normal(size=(2, ROWS.shape[1], PROBABILITIES.shape[1]))),
    "hardtanh": (lambda F, x: F.hardtanh(x, min_val=-0.3, max_val=1.2), IMAGES), "softsign": (lambda F, x: F.softsign(x), IMAGES),
    "dropout2d": (lambda F, x: F.dropout2d(x, 0.5, training=False), IMAGES),
    "prelu": (lambda F, x, w: F.prelu(x, w), IMAGES, rng.uniform(0.1, 0.4, IMAGES.shape[1])),
    "nll_loss": (lambda F, x, i: F.nll_loss(F.log_softmax(x, dim=1), i, ignore_index=1, reduction="mean"), ROWS,
                 np.arange(len(ROWS)) % 3),
    "smooth_l1_loss": (lambda F, x, y: F.smooth_l1_loss(x, y, reduction="sum", beta=0.4), ROWS, PROBABILITIES),
    "triplet_margin_loss": (lambda F, a, p, n: F.triplet_margin_loss(a, p, n, margin=2.0, p=1.5), ROWS, PROBABILITIES, ROWS[::-1].copy()),
    "softmax": (lambda F, x: F.softmax(x, dim=1), IMAGES), "log_softmax": (lambda F, x: F.log_softmax(input=x, dim=2), IMAGES),
    "layer_norm": (lambda F, x: F.layer_norm(x, (6, 5), eps=1e-3), IMAGES),
    "rms_norm": (lambda F, x: F.rms_norm(x, (8,), eps=1e-3), ROWS), "group_norm": (lambda F, x: F.group_norm(x, 2), IMAGES),
    "batch_norm": (lambda F, x: F.batch_norm(x, None, None, training=True), IMAGES),
    "max_pool2d": (lambda F, x: F.max_pool2d(x, 2, stride=1, padding=1), IMAGES),
    "avg_pool2d": (lambda F, x: F.avg_pool2d(x, kernel_size=(2, 1)), IMAGES),
    "max_pool1d": (lambda F, x: F.max_pool1d(x, 2), IMAGES[0]), "avg_pool1d": (lambda F, x: F.avg_pool1d(x, 2), IMAGES[0]),
    "adaptive_avg_pool2d": (lambda F, x: F.adaptive_avg_pool2d(x, (2, 3)), IMAGES),
    "adaptive_max_pool2d": (lambda F, x: F.adaptive_max_pool2d(x, 2), IMAGES),
    "adaptive_avg_pool1d": (lambda F, x: F.adaptive_avg_pool1d(x, 4), IMAGES[0]),
    "adaptive_max_pool1d": (lambda F, x: F.adaptive_max_pool1d(x, 4), IMAGES[0]),
    "pixel_shuffle": (lambda F, x: F.pixel_shuffle(x, 2), IMAGES),
    "pixel_unshuffle": (lambda F, x: F.pixel_unshuffle(x[..., :4], 2), IMAGES),
    "affine_grid": (lambda F, x: F.affine_grid(x, (3, 1, 4, 5)), rng.normal(size=(3, 2, 3))),
    "affine_grid_corners": (lambda F, x: F.affine_grid(x, size=[3, 1, 4, 1], align_corners=True), rng.normal(size=(3, 2, 3))),
    "unfold": (lambda F, x: F.unfold(x, (3, 2), 1, padding=1, stride=2), IMAGES),
    "fold": (lambda F, x: F.fold(x, (4, 3), kernel_size=2, stride=1), IMAGES.reshape(2, 20, 6)),
    "interpolate": (lambda F, x: F.interpolate(x, scale_factor=2, mode="bilinear"), IMAGES),
    "interpolate_sequences": (lambda F, x: F.interpolate(x, 7, mode="linear", align_corners=True), IMAGES[0]),
    "grid_sample_nearest": (lambda F, x: F.grid_sample(x, x.reshape(2, -1, 2, 2), "nearest", align_corners=True), IMAGES),
    "grid_sample": (lambda F, x, g: F.grid_sample(x, g, mode="bilinear", padding_mode="border", align_corners=False), IMAGES,
                    rng.uniform(-1.2, 1.2, (2, 3, 4, 2))),
    "embedding": (lambda F, i, w: F.embedding(i, w, padding_idx=1), rng.integers(0, 3, (4, 2)), W["linear"]),
    "normalize": (lambda F, x: F.normalize(x), ROWS), "normalize_1": (lambda F, x: F.normalize(x, p=1, dim=0, eps=1e-6), ROWS),
    "cosine_similarity": (lambda F, x, y: F.cosine_similarity(x, y, dim=0), ROWS, PROBABILITIES),
    "pairwise_distance": (lambda F, x, y: F.pairwise_distance(x, y, p=3.0, keepdim=True), ROWS, PROBABILITIES),
    "pad": (lambda F, x: F.pad(x, (1, 2, 0, 3), value=2.0), IMAGES), "pad_none": (lambda F, x: F.pad(x, ()), IMAGES),
    "pad_reflect": (lambda F, x: F.pad(x, (1, 2, 3, 0), mode="reflect"), IMAGES),
    "pad_by_none": (lambda F, x: F.pad(x, (1, 2), "constant", None), IMAGES),
    "pad_circular": (lambda F, x: F.pad(x, (1, 2), "circular"), IMAGES[0]),
    "pad_replicate": (lambda F, x: F.pad(x, (0, 3), "replicate"), IMAGES[0]),
    "dropout": (lambda F, x: F.dropout(x, 0.5, training=False), IMAGES),
    "attention": (lambda F, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3), *Q),
    "attention_mask": (lambda F, q, k, v, m: F.scaled_dot_product_attention(q, k, v, m), *Q, np.tril(np.ones((5, 5), bool)))}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_equals_pytorch(name):
    f, *inputs = FUNCTIONS[name]
    check(lambda *xs: f(F, *xs), lambda *xs: f(torch.nn.functional, *xs), *inputs)


def test_one_hot_equals_pytorch():
    labels = np.array([[0, 2], [1, 1]])
    ours, theirs = F.one_hot(labels, 4), torch.nn.functional.one_hot(torch.tensor(labels), 4)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    np.testing.assert_array_equal(F.one_hot(labels).numpy(), torch.nn.functional.one_hot(torch.tensor(labels)).numpy())


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "int64"])
def test_the_dtype_to_compute_in(name, dtype):
    x = ROWS.astype(dtype)
    y = getattr(F, name)(mg.Tensor(x), 1, dtype="float64")
    theirs = getattr(torch.nn.functional, name)(torch.tensor(x), 1, dtype=torch.float64)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y.numpy(), theirs.numpy(), rtol=1e-12)


def test_no_function_is_left_untested():
    theirs = set(dir(torch.nn.functional))
    names = [name for name, f in vars(F).items() if callable(f) and name in theirs and name != "Tensor"]
    used = pathlib.Path(__file__).read_text() + inspect.getsource(losses)
    assert len(names) > 30 and not [name for name in names if f"F.{name}" not in used]


def test_attention_with_dropout():
    mg.random.seed(0)
    q = np.zeros((1, 1, 1, 4))
    k, v = np.zeros((1, 1, 4000, 4)), np.ones((1, 1, 4000, 1))
    y = float(F.scaled_dot_product_attention(q, k, v, dropout_p=0.5))
    assert y != 1 and abs(y - 1) < 0.1
    assert float(F.scaled_dot_product_attention(q, k, v)) == pytest.approx(1)


def test_gumbel_softmax_along_an_axis():
    one_hot = F.gumbel_softmax(ROWS, 0.5, hard=True, dim=0).numpy()
    assert (one_hot.sum(0) == 1).all() and ((one_hot == 0) | (one_hot == 1)).all()


# -- losses ----------------------------------------------------------------------------------------------------------

REDUCTIONS, SIGNS = ["mean", "sum", "none"], np.sign(ROWS).astype(int)
PAIRS = {
    "MSELoss": ({}, ROWS, PROBABILITIES), "L1Loss": ({}, ROWS, PROBABILITIES),
    "HuberLoss": (dict(delta=0.5), ROWS, PROBABILITIES),
    "BCELoss": (dict(weight=PROBABILITIES[0]), PROBABILITIES, PROBABILITIES[::-1].copy()),
    "BCEWithLogitsLoss": (dict(weight=PROBABILITIES[0], pos_weight=PROBABILITIES[1]), ROWS, PROBABILITIES),
    "KLDivLoss": (dict(log_target=True), ROWS, PROBABILITIES),
    "MarginRankingLoss": (dict(margin=0.5), ROWS, PROBABILITIES, SIGNS), "HingeEmbeddingLoss": (dict(margin=0.5), ROWS, SIGNS),
    "CosineEmbeddingLoss": (dict(margin=0.1), ROWS, PROBABILITIES, SIGNS[:, 0]),
    "GaussianNLLLoss": (dict(full=True, eps=0.3), ROWS, ROWS[::-1].copy(), PROBABILITIES),
    "PoissonNLLLoss": (dict(full=True), ROWS, 4 * PROBABILITIES)}


def both(name, **settings):
    theirs = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in settings.items()}
    return getattr(nn, name)(**settings), getattr(torch.nn, name)(**theirs)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", PAIRS)
def test_loss_equals_pytorch(name, reduction):
    settings, *inputs = PAIRS[name]
    check(*both(name, reduction=reduction, **settings), *inputs)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, rng.uniform(0.1, 2, 4)])
@pytest.mark.parametrize("logits, target", [
    (ROWS[:, :4], np.array([0, 3, -100, 2, 0])), (IMAGES, rng.integers(0, 4, (2, 6, 5))), (ROWS[0, :4], np.array(2)),
    (ROWS[:, :4], PROBABILITIES[:, :4]), (IMAGES, abs(IMAGES[::-1]).copy())])
def test_cross_entropy_equals_pytorch(logits, target, weight, smoothing, reduction):
    settings = dict(label_smoothing=smoothing, reduction=reduction) | ({} if weight is None else dict(weight=weight))
    check(*both("CrossEntropyLoss", **settings), logits, target)


def test_class_weights_are_a_buffer_and_checked():
    loss = nn.CrossEntropyLoss([1, 2, 3, 4], ignore_index=1)
    assert loss.weight.dtype == np.float32 and list(loss.to("float64").state_dict()) == ["weight"] and not loss.parameters()
    check(loss, torch.nn.CrossEntropyLoss(torch.tensor([1.0, 2, 3, 4]).double(), ignore_index=1), ROWS[:, :4],
          np.array([0, 1, 1, 2, 3]))
    assert float(nn.BCEWithLogitsLoss(pos_weight=2.0)(ROWS, PROBABILITIES)) > float(nn.BCEWithLogitsLoss()(ROWS, PROBABILITIES))
    assert float(nn.KLDivLoss(reduction="batchmean")(ROWS, PROBABILITIES)) == pytest.approx(
        float(torch.nn.KLDivLoss(reduction="batchmean")(torch.tensor(ROWS), torch.tensor(PROBABILITIES))))


UNALIGNED = rng.normal(size=(7, 3, 4)), np.array([[1, 1, 2], [3, 1, 2], [2, 2, 2]]), np.array([7, 5, 6]), np.array([3, 0, 2])


def ctc(n, targets=UNALIGNED[1], inputs=UNALIGNED[2], lengths=UNALIGNED[3], **settings):
    """The loss of a library, of logits."""
    F, array = (n.functional, lambda a: a) if n is nn else (torch.nn.functional, torch.tensor)
    return lambda x: F.ctc_loss(F.log_softmax(x, -1), array(targets), array(inputs), array(lengths), **settings)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_ctc_loss_equals_pytorch(data):
    draw, number = data.draw, lambda low, high: data.draw(st.integers(low, high))
    times, n, classes, width = number(1, 9), number(1, 3), number(2, 4), number(1, 4)
    numbers, blank = np.random.default_rng(number(0, 99)), number(0, classes - 1)
    x, targets = numbers.normal(size=(times, n, classes)), numbers.choice([c for c in range(classes) if c != blank], (n, width))
    inputs, lengths = numbers.integers(1, times + 1, n), numbers.integers(0, width + 1, n)
    settings = dict(blank=blank, reduction=draw(st.sampled_from(REDUCTIONS)), zero_infinity=draw(st.booleans()))
    if draw(st.booleans()):  # one after the other
        targets = np.concatenate([row[:length] for row, length in zip(targets, lengths)])
    elif draw(st.booleans()) and n == 1:
        x, targets, inputs, lengths = x[:, 0], targets[0][:lengths[0]], inputs[0], lengths[0]
    ours, theirs = (ctc(library, targets, inputs, lengths, **settings) for library in (nn, torch.nn))
    if np.isfinite(ours(x).numpy()).all():
        return check(ours, theirs, x)
    np.testing.assert_allclose(ours(x).numpy(), theirs(torch.tensor(x)).numpy(), rtol=1e-9)  # PyTorch's gradient is NaN then


def test_ctc_loss_is_the_sum_over_alignments_and_has_all_derivatives():
    log_p, target = np.log(rng.dirichlet(np.ones(3), 5)), (1, 1, 2)
    paths = [path for path in itertools.product(range(3), repeat=5)
             if tuple(c for c, _ in itertools.groupby(path) if c) == target]
    total = np.logaddexp.reduce([sum(log_p[t, c] for t, c in enumerate(path)) for path in paths])
    assert F.ctc_loss(log_p, np.array(target), 5, 3, reduction="sum").item() == pytest.approx(-total, rel=1e-12)
    mg.check_derivatives(lambda x: ctc(nn, reduction="none")(x), UNALIGNED[0])
    mg.check_derivatives(lambda x: F.ctc_loss(x, *UNALIGNED[1:]), UNALIGNED[0])
    check(lambda x: nn.CTCLoss(3)(F.log_softmax(x, -1), UNALIGNED[1] % 3, *UNALIGNED[2:]),
          lambda x: torch.nn.CTCLoss(3)(torch.log_softmax(x, -1), torch.tensor(UNALIGNED[1] % 3), *map(torch.tensor, UNALIGNED[2:])),
          UNALIGNED[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_ctc_loss_reads_no_times_and_targets_that_do_not_count(bad):
    x, targets = UNALIGNED[0].copy(), UNALIGNED[1].copy()
    x[5:, 1], x[6:, 2], targets[1], targets[2, 2] = bad, bad, -1, 99
    xs = [mg.Tensor(v, requires_grad=True) for v in (UNALIGNED[0], x)]
    losses = F.ctc_loss(xs[0], *UNALIGNED[1:], reduction="none"), F.ctc_loss(xs[1], targets, *UNALIGNED[2:], reduction="none")
    for loss in losses:
        loss.sum().backward()
    np.testing.assert_array_equal(losses[0].numpy(), losses[1].numpy())
    np.testing.assert_array_equal(xs[0].grad.numpy(), xs[1].grad.numpy())
    too_long = mg.Tensor(UNALIGNED[0], requires_grad=True)
    F.ctc_loss(too_long, UNALIGNED[1], [3, 1, 0], [3, 0, 1], zero_infinity=True).backward()
    assert not too_long.grad[:, 0].numpy().any() and too_long.grad[0, 1, 0].item() == -1 / 3 and not too_long.grad[:, 2].numpy().any()
    assert F.ctc_loss(UNALIGNED[0].astype(np.float16), *UNALIGNED[1:]).dtype == np.float16


@pytest.mark.parametrize("change, error, message", [
    (dict(targets=[[0, 1, 2]] * 3), ValueError, "targets must be from 0 to 3 and not 0, the blank"),
    (dict(targets=[[4, 1, 2]] * 3), ValueError, "targets must be from 0 to 3"), (dict(targets=np.ones((3, 3))), TypeError, "targets must be whole"),
    (dict(targets=[1, 2, 3, 1]), ValueError, "targets .3, S., or 5 one after the other, wanted"),
    (dict(targets=[[1, 2, 3]]), ValueError, "targets .3, S., or 5"), (dict(input_lengths=[7, 5]), ValueError, "input_lengths must be 3 numbers"),
    (dict(input_lengths=[8, 5, 6]), ValueError, "input_lengths must be 3 numbers from 0 to 7"),
    (dict(input_lengths=[7.0, 5, 6]), TypeError, "input_lengths must be whole"), (dict(target_lengths=[4, 0, 2]), ValueError, "target_lengths must be"),
    (dict(target_lengths=[-1, 0, 2]), ValueError, "target_lengths must be"), (dict(blank=4), ValueError, "blank 4 is none of 4 classes"),
    (dict(blank=-1), ValueError, "blank must be"), (dict(reduction="avg"), ValueError, "reduction is"),
    (dict(zero_infinity="no"), TypeError, "zero_infinity is"), (dict(log_probs=ROWS[0]), ValueError, "log_probs .T, N, classes."),
    (dict(log_probs=ROWS), ValueError, "input_lengths must be 1 numbers"), (dict(targets=3), ValueError, "log_probs .T, N, classes.")])
def test_ctc_loss_refuses_by_name(change, error, message):
    given = dict(zip(("log_probs", "targets", "input_lengths", "target_lengths"), UNALIGNED))
    with pytest.raises(error, match=f"ctc_loss: {message}"):
        F.ctc_loss(**{**given, **change})


@pytest.mark.parametrize("call, error, message", [
    (lambda: F.cross_entropy(ROWS, np.zeros(5, int), np.ones(3)), ValueError, "one weight for each class"),
    (lambda: F.cross_entropy(ROWS, np.full(5, -1), np.ones(8)), ValueError, "labels from 0 to 7 wanted .* got -1 to -1"),
    (lambda: F.cross_entropy(ROWS, np.full(5, 8), np.ones(8)), ValueError, "labels from 0 to 7 wanted .* got 8 to 8"),
    (lambda: F.cross_entropy(ROWS, np.zeros(5, int), np.ones(8), reduction="avg"), ValueError, "reduction is"),
    (lambda: F.pad(ROWS, (1,)), ValueError, "pairs of numbers"), (lambda: F.pad(ROWS, (0, -1)), ValueError, "pad must be a whole number"),
    (lambda: F.pad(ROWS, (0, 1), "same"), ValueError, "mode is 'constant', 'reflect'"),
    (lambda: F.pad(ROWS, (0, 1) * 3), ValueError, "at most 2 axes"),
    (lambda: F.grid_sample(IMAGES, np.zeros((2, 1, 1, 2)), mode="bicubic"), ValueError, "mode is 'bilinear' or 'nearest'"),
    (lambda: nn.MSELoss("sum"), TypeError, "positional")])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("call, message", [
    (lambda: F.selu(np.array([1, 2])), "selu: floating point"), (lambda: F.smooth_l1_loss(ROWS, ROWS[:, :1]), "smooth_l1_loss: input"),
    (lambda: F.smooth_l1_loss(ROWS, ROWS, beta=float("nan")), "smooth_l1_loss: beta"),
    (lambda: F.huber_loss(ROWS, ROWS, delta=float("nan")), "huber_loss: delta"),
    (lambda: F.margin_ranking_loss(ROWS, ROWS[0], 1), "margin_ranking_loss: input1 and input2"),
    (lambda: F.cosine_embedding_loss(ROWS, ROWS[:1], 1), "cosine_embedding_loss: input1 and input2"),
    (lambda: F.triplet_margin_loss(ROWS, ROWS[:1], ROWS), "triplet_margin_loss: anchor and positive"),
    (lambda: F.triplet_margin_loss(ROWS, ROWS, ROWS[:1]), "triplet_margin_loss: anchor and negative"),
    (lambda: mg.kl_divergence(ROWS, ROWS[:1]), "kl_divergence: p_logits and q_logits"),
    (lambda: F.layer_norm(ROWS, (8,), None, ROWS), r"layer_norm: bias of shape \(8,\) wanted, got \(5, 8\)"),
    (lambda: F.layer_norm(ROWS, 8, ROWS[0], 1.0), r"layer_norm: bias of shape \(8,\) wanted, got \(\)"),
    (lambda: F.rms_norm(ROWS, 8, ROWS), r"rms_norm: weight of shape \(8,\) wanted, got \(5, 8\)"),
    (lambda: mg.linspace(0, 1, 2.5), "linspace: num must be"), (lambda: mg.logspace(0, 1, -1), "logspace: num must be"),
    (lambda: F.margin_ranking_loss(ROWS, ROWS, np.ones(5)), "margin_ranking_loss: target"),
    (lambda: F.hinge_embedding_loss(ROWS, np.zeros(8)), "hinge_embedding_loss: a target of 1 and -1 wanted, got .0"),
    (lambda: F.cosine_embedding_loss(ROWS, ROWS, np.ones((5, 1))), "cosine_embedding_loss: target"),
    (lambda: F.cosine_embedding_loss(ROWS, ROWS, [1, 1, 1, 1, 0]), "cosine_embedding_loss: a target"),
    (lambda: F.gaussian_nll_loss(ROWS, ROWS, -1.0), "gaussian_nll_loss: var holds negative numbers, down to -1"),
    (lambda: F.gaussian_nll_loss(ROWS, ROWS, np.ones(8)), "gaussian_nll_loss: var of the input's shape"),
    (lambda: F.gaussian_nll_loss(ROWS, ROWS, 1, eps=0), "gaussian_nll_loss: eps"),
    (lambda: F.gaussian_nll_loss(ROWS, ROWS, 1, "full"), "gaussian_nll_loss: full"),
    (lambda: F.poisson_nll_loss(ROWS, ROWS[:1]), "poisson_nll_loss: input"),
    (lambda: F.poisson_nll_loss(ROWS, ROWS, reduction="avg"), "poisson_nll_loss: reduction"),
    (lambda: F.pairwise_distance(ROWS, ROWS, "2"), "pairwise_distance: p"),
    (lambda: F.one_hot(np.array([0]), 2.5), "one_hot: num_classes"), (lambda: F.one_hot(np.zeros(0, int), -1), "one_hot: num_classes")])
def test_a_refusal_names_the_function_that_was_called(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("weight", [None, np.ones(3)])
def test_cross_entropy_of_no_rows_is_nan_without_a_warning(weight):
    assert np.isnan(F.cross_entropy(mg.Tensor(np.zeros((0, 3))), np.zeros(0, int), weight).item())


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_plain_numbers_and_whole_targets_leave_the_losses_their_dtype(dtype):
    x, y = ROWS.astype(dtype), PROBABILITIES.astype(dtype)
    for loss in (F.margin_ranking_loss(x, y, 1), F.margin_ranking_loss(x, y, 1.0, 0.5), F.hinge_embedding_loss(x, SIGNS),
                 F.cosine_embedding_loss(x, y, [1.0, -1.0, 1.0, 1.0, 1.0]), F.gaussian_nll_loss(x, y, 1), F.gaussian_nll_loss(x, y, 0.5),
                 F.gaussian_nll_loss(x, y, [[1.0]], True), F.gaussian_nll_loss(x, y, [0.5, 1.0, 2.0, 3.0, 1.5]), F.poisson_nll_loss(x, SIGNS, full=True), F.pairwise_distance(x, y)):
        assert loss.dtype == dtype


def test_a_nan_stays_in_the_rows_where_it_is():
    spoiled = ROWS.copy()
    spoiled[1, 2] = np.nan
    for f in (lambda x: F.margin_ranking_loss(x, PROBABILITIES, SIGNS, reduction="none"),
              lambda x: F.hinge_embedding_loss(x, SIGNS, reduction="none"), lambda x: F.poisson_nll_loss(x, PROBABILITIES, reduction="none"),
              lambda x: F.gaussian_nll_loss(x, PROBABILITIES, PROBABILITIES, reduction="none"),
              lambda x: F.cosine_embedding_loss(x, PROBABILITIES, SIGNS[:, 0], reduction="none"),
              lambda x: F.pairwise_distance(x, PROBABILITIES)):
        lost = np.isnan(f(spoiled).numpy())
        assert lost.sum() == 1 and lost[1].any()
        np.testing.assert_array_equal(f(spoiled).numpy()[~lost], f(ROWS).numpy()[~lost])


@pytest.mark.parametrize("settings", [{}, {"pos_weight": np.ones(1, np.float32)}])
def test_the_loss_of_what_is_almost_sure_keeps_its_digits(settings):
    for x in (-60.0, -20.0, -3.0, 0.0, 3.0, 20.0, 60.0):
        for t in (0.0, 1.0, 0.25):
            found = F.binary_cross_entropy_with_logits(*np.array([[x], [t]], np.float32), **settings).item()
            assert found == pytest.approx(t * np.log1p(np.exp(-x)) + (1 - t) * np.log1p(np.exp(x)), rel=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("beta", [0.0, 1e-46, 1e-7, 1e-5, 0.3])
def test_a_small_bend_of_smooth_l1_overflows_nowhere(dtype, beta):
    x = mg.Tensor(np.array([2.0, -3.0, 0.0], dtype), requires_grad=True)
    loss = F.smooth_l1_loss(x, np.zeros(3, dtype), "sum", beta=beta)
    assert loss.item() == pytest.approx(5 - beta, rel=2e-3)
    np.testing.assert_array_equal(mg.grad(loss, x).numpy(), [1, -1, 0])


def test_smooth_l1_of_whole_numbers():
    assert F.smooth_l1_loss(np.array([3, 5]), np.array([0, 0]), "none", beta=0.5).tolist() == [2.75, 4.75]
