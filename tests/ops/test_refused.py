"""What would be computed on something else, or lose a gradient in silence, is refused; corners have a subgradient."""
import contextlib
import inspect

import numpy as np
import pytest
from checks import definitions
from hypothesis import given, settings, strategies as st

import minigrad as mg
from minigrad import nn, ops

X = mg.Tensor(np.random.default_rng(0).normal(size=(2, 3, 4, 4)), requires_grad=True)
Q = np.random.default_rng(1).normal(size=(1, 1, 3, 2))


def setting(value=0.5):
    return mg.Tensor(value, requires_grad=True)


@pytest.mark.parametrize("f", [
    lambda s: mg.leaky_relu(X, s), lambda s: mg.scaled_dot_product_attention(Q, Q, Q, scale=s), lambda s: mg.layer_norm(X, 4, eps=s),
    lambda s: mg.group_norm(X, 3, eps=s), lambda s: mg.batch_norm(X, None, None, training=True, eps=s),
    lambda s: mg.rms_norm(X, 4, eps=s)])
def test_a_learned_setting_of_a_fused_operation_gets_its_gradient(f):
    mg.check_derivatives(f, 0.5)


@pytest.mark.parametrize("call", [lambda: mg.pad(X, 1, constant_values=setting()),
                                  lambda: mg.pad(X.detach(), 1, constant_values=setting())])
def test_a_learned_setting_of_a_primitive_is_refused(call):
    with pytest.raises(TypeError, match="pad: constant_values is a Tensor that requires a gradient"):
        call()


NUMBERS = {  # calls with one setting, and its least value
    "leaky_relu negative_slope": (lambda s: mg.leaky_relu(X, s), None), "softplus beta": (lambda s: mg.softplus(X, s), None),
    "elu alpha": (lambda s: mg.elu(X, s), None), "layer_norm eps": (lambda s: mg.layer_norm(X, 4, eps=s), 0),
    "rms_norm eps": (lambda s: mg.rms_norm(X, 4, eps=s), 0), "group_norm eps": (lambda s: mg.group_norm(X, 3, eps=s), 0),
    "batch_norm eps": (lambda s: mg.batch_norm(X, None, None, training=True, eps=s), 0),
    "batch_norm momentum": (lambda s: mg.batch_norm(X, None, None, training=True, momentum=s), None),
    "norm_relu_pool eps": (lambda s: mg.norm_relu_pool(X, None, None, np.ones(3), np.ones(3), True, eps=s), 0),
    "l2_normalize eps": (lambda s: mg.l2_normalize(X, eps=s), None), "dropout p": (lambda s: mg.dropout(X, s), 0),
    "drop_path p": (lambda s: mg.drop_path(X, s), 0), "huber_loss delta": (lambda s: mg.huber_loss(X, X, delta=s), None),
    "smooth_l1_loss beta": (lambda s: mg.smooth_l1_loss(X, X, beta=s), 0),
    "cross_entropy label_smoothing": (lambda s: mg.cross_entropy(X[:, :, 0, 0], [0, 1], s), 0),
    "attention scale": (lambda s: mg.scaled_dot_product_attention(Q, Q, Q, scale=s), None),
    "triplet_margin_loss margin": (lambda s: mg.triplet_margin_loss(X, X + 1, X, s), None)}


NO_NUMBERS = ["x", "", (), (1, 2), [1.0], True, np.bool_(True), 1j, np.ones(2), mg.Tensor([1.0, 2.0]), {}, np.nan, np.inf]


@pytest.mark.parametrize("name", NUMBERS)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data())
def test_what_is_no_finite_number_is_refused_by_name_with_paths_and_without(name, data):
    call, least = NUMBERS[name]
    if name == "attention scale":
        wrong = st.sampled_from(NO_NUMBERS)
    else:
        wrong = st.sampled_from([*NO_NUMBERS, None])
    value = data.draw(wrong if least is None else st.one_of(wrong, st.floats(-1e9, least - 1e-9, exclude_max=True)))
    operation, argument = name.split()
    for context in (contextlib.nullcontext(), definitions()):
        with context, pytest.raises(ValueError, match=f"{operation}.*{argument}"):
            call(value)
    for number in (0.5, np.float32(0.5), np.float64(0.5), np.array(0.5)):
        mg.random.seed(0)
        y = call(number)
        mg.random.seed(0)
        np.testing.assert_array_equal(y.numpy(), call(0.5).numpy())


AXIS = {  # operations of an axis, and of a number that is whole
    "flip": lambda a: mg.flip(X, a), "roll": lambda a: mg.roll(X, 1, a), "repeat": lambda a: mg.repeat(X, 2, a),
    "sort": lambda a: mg.sort(X, a),
    "argmax": lambda a: mg.argmax(X, a), "argsort": lambda a: mg.argsort(X, a), "take": lambda a: mg.take(X, [0], a),
    "median": lambda a: mg.median(X, a), "quantile": lambda a: mg.quantile(X, 0.5, a), "nanmax": lambda a: mg.nanmax(X, a),
    "nanvar": lambda a: mg.nanvar(X, a), "average": lambda a: mg.average(X, a), "trapezoid": lambda a: mg.trapezoid(X, axis=a),
    "unstack": lambda a: mg.unstack(X, a), "glu": lambda a: mg.glu(X, a),
    "cross": lambda a: mg.cross(X[:, :, :, 0], X[:, :, :, 0], a),
    "top_k": lambda a: mg.top_k(X, 1, a), "split": lambda a: mg.split(X, 1, a),
    "scatter": lambda a: mg.scatter(X, np.zeros(X.shape, int), X, a),
    "softmax": lambda a: mg.softmax(X, a), "swapaxes": lambda a: mg.swapaxes(X, 0, a), "diff": lambda a: mg.diff(X, axis=a),
    "count_nonzero": lambda a: mg.count_nonzero(X, a), "flatten": lambda a: mg.flatten(X, a)}
WHOLE = {
    "roll shift": lambda n: mg.roll(X, n, 0), "repeat repeats": lambda n: mg.repeat(X, n, 0),
    "tile reps": lambda n: mg.tile(X, n),
    "round decimals": lambda n: mg.round(X, n), "tril k": lambda n: mg.tril(X, n), "triu k": lambda n: mg.triu(X, n),
    "diagonal offset": lambda n: mg.diagonal(X, n),
    "matrix_power n": lambda n: mg.matrix_power(X, n), "tensordot axes": lambda n: mg.tensordot(X, X, n),
    "top_k k": lambda n: mg.top_k(X, n),
    "layer_norm normalized_shape": lambda n: mg.layer_norm(X, n), "group_norm num_groups": lambda n: mg.group_norm(X, n),
    "GroupNorm num_groups": lambda n: nn.GroupNorm(n, 4), "Conv2d groups": lambda n: nn.Conv2d(4, 4, 3, groups=n),
    "Attention num_heads": lambda n: nn.Attention(4, n), "TransformerBlock dim": lambda n: nn.TransformerBlock(n, 2, 4)}


@pytest.mark.parametrize("name", AXIS)
@pytest.mark.parametrize("wrong", [0.5, 1j, "x", {}, mg.Tensor(0.5), np.float32(1.25), 9, -5, True, np.True_, ...], ids=str)
def test_what_is_no_axis_is_refused_as_one(name, wrong):
    if not isinstance(wrong, dict) or name not in (
            "flip", "roll", "count_nonzero", "nanmax", "nanvar", "average", "quantile"):  # several axes, and of them none
        with pytest.raises((ValueError, TypeError), match=f"axis|axes|{name}"):
            AXIS[name](wrong)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("wrong", [0.5, 1j, "x", mg.Tensor(0.5), np.float32(1.25), None, True, ...], ids=str)
def test_what_is_no_whole_number_is_refused_by_name(name, wrong):
    operation, argument = name.split()
    with pytest.raises((ValueError, TypeError), match=f"{argument}|an axis is"):
        WHOLE[name](wrong)


WORDS = {
    "pad mode": lambda s: mg.pad(X, 1, s), "gelu approximate": lambda s: mg.gelu(X, s), "qr mode": lambda s: mg.qr(X, s),
    **{f"{name} reduction": lambda s, name=name: getattr(mg, name)(X, X, reduction=s) for name in (
        "mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "kl_div", "kl_divergence", "binary_cross_entropy_with_logits")},
    "cross_entropy reduction": lambda s: mg.cross_entropy(X[:, :, 0, 0], [0, 1], reduction=s),
    "nll_loss reduction": lambda s: mg.nll_loss(X[:, :, 0, 0], [0, 1], reduction=s), "norm ord": lambda s: mg.norm(X, s, 0)}


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("wrong", ["x", (), np.ones(2), np.zeros(0), mg.Tensor([1.0, 2.0]), {}, 1j, ...],
                         ids=lambda wrong: type(wrong).__name__)
def test_what_is_no_known_word_is_refused_by_name(name, wrong):
    operation, argument = name.split()
    with pytest.raises(ValueError, match=f"{operation}.*{argument}|no order of a"):
        WORDS[name](wrong)


@pytest.mark.parametrize("shift, axis", [
    (2, 1), ((1, 2), 1), ((1, 2), (1, 1)), (1, (0, 1)), ((1, -2), (0, -1)), ((1, 2), None), ((), 1), (1, ()), (5, (1, 1))])
def test_shifts_of_one_axis_add_up_as_in_numpy(shift, axis):
    x = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(mg.roll(x, shift, axis).numpy(), np.roll(x, shift, axis))


def test_numbers_that_do_not_fit_the_axes_are_counted():
    with pytest.raises(ValueError, match="roll: 3 shifts for 2 axes"):
        mg.roll(X, (1, 2, 3), (0, 1))
    with pytest.raises(ValueError, match="repeat: 2 repeats for an axis of length 3"):
        mg.repeat(X, [1, 2], 1)
    with pytest.raises(TypeError, match="expand_dims: axis"):
        mg.expand_dims(X, None)


P, ONES = np.full((2, 3), 0.5, np.float32), np.ones((2, 3), np.float32)
TOO_LARGE = [(1, 2, 3), (3, 1, 1), (2, 1, 1), (3, 2), (2,), (4, 1), (0, 3)]  # shapes that broadcast with (2, 3), or not, never to it


@pytest.mark.parametrize("shape", TOO_LARGE, ids=str)
@pytest.mark.parametrize("name, argument", [("binary_cross_entropy", "weight"), ("binary_cross_entropy_with_logits", "weight"),
                                            ("binary_cross_entropy_with_logits", "pos_weight")])
def test_weights_do_not_enlarge_a_loss(name, argument, shape):
    with pytest.raises(ValueError, match=f"{name}: {argument} of shape"):
        getattr(mg, name)(P, ONES, **{argument: np.ones(shape)})
    for fitting in ((), (1,), (3,), (2, 1), (1, 3), (2, 3)):
        assert getattr(mg, name)(P, ONES, reduction="none", **{argument: np.ones(fitting, np.float32)}).shape == (2, 3)


@pytest.mark.parametrize("wrong", [(2,), (2, 1), (1, 3), (3,), ()], ids=str)
@pytest.mark.parametrize("weight", [None, np.ones(3, np.float32)], ids=["", "weight"])
def test_probabilities_have_the_shape_of_the_logits(wrong, weight):
    with pytest.raises(ValueError, match="cross_entropy: probabilities of the logits' shape.* convert float32 ones with .astype.'int64'"):
        nn.functional.cross_entropy(P, np.ones(wrong, np.float32), weight)


@pytest.mark.parametrize("weight", [None, np.ones(3, np.float32)], ids=["", "weight"])
@pytest.mark.parametrize("label", [3, 2**63, 2**64 - 100, 2**64 - 1])
def test_unsigned_labels_do_not_turn_negative(label, weight):
    with pytest.raises(ValueError, match="labels from 0 to 2 wanted for .*3 classes, got 0 to"):
        nn.functional.cross_entropy(P, np.array([0, label], np.uint64), weight)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint64, np.int64])
def test_unsigned_labels_that_are_ignored_do_not_count(dtype):
    losses = mg.cross_entropy(P, np.array([0, 255], dtype), ignore_index=255, reduction="none")
    assert losses.shape == (2,) and losses.tolist()[1] == 0 < losses.tolist()[0]


@pytest.mark.parametrize("target", [2.0, 0], ids=["probability", "label"])
@pytest.mark.parametrize("weight", [None, np.ones(()), np.ones(1), np.ones(3)], ids=str)
def test_logits_have_an_axis_of_classes(target, weight):
    with pytest.raises(ValueError, match="cross_entropy: (logits need an axis|one weight for each)"):
        nn.functional.cross_entropy(np.float32(1), target, weight)


def test_binary_cross_entropy_wants_probabilities_and_shows_nan():
    for wrong in (1.5, -2, np.inf, -np.inf):
        with pytest.raises(ValueError, match="probabilities from 0 to 1 wanted.*with_logits"):
            mg.binary_cross_entropy(np.array([0.5, wrong]), np.ones(2))
    p = mg.Tensor([np.nan, 0.5, 0, 1], requires_grad=True)
    for target in (np.ones(4), np.zeros(4), np.full(4, 0.5)):
        losses, p.grad = mg.binary_cross_entropy(p, target, reduction="none"), None
        losses.sum().backward()
        np.testing.assert_array_equal(np.isnan(losses.numpy()), [True, False, False, False])
        np.testing.assert_array_equal(np.isnan(p.grad.numpy()), [True, False, False, False])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_leaky_relu_of_infinity_is_infinite_for_every_slope(dtype):
    for slope in (0, 0.1, 1, 2):
        np.testing.assert_array_equal(mg.leaky_relu(np.array([np.inf, 3, np.nan, -1], dtype), slope).numpy(),
                                      np.array([np.inf, 3, np.nan, -slope], dtype))


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d", "adaptive_max_pool2d", "adaptive_avg_pool2d"])
@pytest.mark.parametrize("shape", [(1, 1, 0, 3), (1, 1, 3, 0), (2, 0, 4)], ids=str)
def test_images_without_pixels_are_not_pooled(name, shape):
    with pytest.raises(ValueError, match=f"{name}: images without pixels"):
        getattr(mg, name)(np.zeros(shape), 2)


@pytest.mark.parametrize("pool", [mg.max_pool1d, mg.avg_pool1d, mg.adaptive_max_pool1d, mg.adaptive_avg_pool1d])
def test_sequences_without_elements_are_refused_by_their_own_shape(pool):
    with pytest.raises(ValueError, match=rf"^{pool.__name__}: sequences without elements, got shape \(1, 2, 0\)$"):
        pool(np.ones((1, 2, 0)), 1)


@pytest.mark.parametrize("call", [lambda: mg.concatenate(mg.Tensor(1.0)), lambda: mg.stack(3), lambda: mg.vstack(None),
                                  lambda: mg.hstack(2.0),
                                  lambda: mg.column_stack(mg.Tensor(1.0))])
def test_a_sequence_is_wanted(call):
    with pytest.raises(TypeError, match="stack|concatenate"):
        call()


@pytest.mark.parametrize("name", ["concatenate", "stack", "vstack", "hstack", "column_stack", "dstack"])
def test_joining_nothing_is_refused_in_the_name_of_what_was_called(name):
    with pytest.raises(ValueError, match=f"^{name}: need at least one Tensor"):
        getattr(mg, name)([])


@pytest.mark.parametrize("name, shape", [(name, shape) for name in ("svdvals", "svd", "qr", "logdet", "eigvalsh", "eigh")
                                         for shape in ((), (3,))] + [("tril", ()), ("triu", ())])
def test_matrices_are_wanted(name, shape):
    with pytest.raises(ValueError, match=name):
        getattr(mg, name)(np.ones(shape))


@pytest.mark.parametrize("make, shapes", [(lambda: nn.GRUCell(4, 3), [(2, 2, 4)]), (lambda: nn.LSTMCell(4, 3), [()]),
                                          (lambda: nn.Attention(4, 2), [(4,)]),
                                          (lambda: nn.MultiheadAttention(4, 2), [(2, 3, 4), (4,), (2, 3, 4)])])
def test_layers_say_which_axes_they_want(make, shapes):
    with pytest.raises(ValueError, match="wanted, got shape"):
        make()(*map(np.ones, shapes))


ONE_OPERAND = "argmax argmin any all count_nonzero argsort isnan isinf isfinite logical_not invert".split()
TWO_OPERANDS = ("equal not_equal less less_equal greater greater_equal logical_and logical_or logical_xor bitwise_and"
                " bitwise_or bitwise_xor floor_divide").split()


@pytest.mark.parametrize("name", [*ONE_OPERAND, *TWO_OPERANDS, *[name for name in ops.PUBLIC if name.endswith("_like")]])
@pytest.mark.parametrize("wrong", [None, "x", {}, object(), [[1], [2, 3]], 1j], ids=lambda wrong: type(wrong).__name__)
def test_operands_that_are_no_numbers_are_refused_without_a_gradient_too(name, wrong):
    positional = [p for p in inspect.signature(getattr(mg, name)).parameters.values() if p.kind != p.KEYWORD_ONLY]
    others = ([1],) * (len(positional) == 2 and name not in ONE_OPERAND)
    with pytest.raises(TypeError, match="Tensor|wanted"):
        getattr(mg, name)(wrong, *others)
    assert isinstance(getattr(mg, name)([1, 0] if name != "full_like" else [1], *others), mg.Tensor)


@pytest.mark.parametrize("make", [lambda: nn.BatchNorm1d(4), lambda: nn.BatchNorm2d(4), lambda: nn.Attention(4, 2),
                                  lambda: nn.MultiheadAttention(4, 2),
                                  lambda: nn.Linear(4, 2), lambda: nn.LayerNorm(4), lambda: nn.GRU(4, 2),
                                  lambda: nn.Conv2d(4, 2, 1), lambda: nn.Softmax()])
def test_layers_refuse_what_is_no_tensor(make):
    with pytest.raises(TypeError, match="Tensor|floating point"):
        make()(None)


def test_weight_norm_wants_a_layer_with_a_weight():
    for wrong in (None, nn.ReLU(), 3):
        with pytest.raises(TypeError, match="WeightNorm"):
            nn.WeightNorm(wrong)


def test_a_setting_that_is_a_constant_tensor_is_taken():
    np.testing.assert_array_equal(mg.leaky_relu(X, mg.Tensor(0.5).item()).numpy(), mg.leaky_relu(X, 0.5).numpy())


@pytest.mark.parametrize("mode", ["mean", "maximum", "minimum", "median", "linear_ramp", "empty", "nearest"])
def test_modes_of_padding_that_are_not_offered(mode):
    with pytest.raises(ValueError, match="mode"):
        mg.pad([5.0, 1.0, 3.0], 1, mode=mode)


@pytest.mark.parametrize("given", [np.float32, "float32", 2, None, 0.5, np.ones(2)], ids=str)
@pytest.mark.parametrize("name, take", [
    ("requires_grad", lambda given: mg.Tensor([1.0, 2.0], given)),
    ("requires_grad", lambda given: mg.nn.Parameter(np.ones(2, np.float32), given)),
    ("requires_grad", lambda given: mg.zeros(2, requires_grad=given)),
    ("requires_grad", lambda given: setattr(mg.Tensor(1.0), "requires_grad", given)),
    ("requires_grad", lambda given: mg.nn.Linear(2, 2).requires_grad_(given)), ("mode", lambda given: mg.nn.ReLU().train(given))])
def test_what_is_true_or_false_is_a_bool(name, take, given):
    with pytest.raises(TypeError, match=f": {name} is True or False, not "):
        take(given)
    for truth in (True, False, np.True_, 1, 0):
        take(truth)


@pytest.mark.parametrize("reduce", [mg.sum, mg.mean, mg.max, mg.min, mg.logsumexp])
@pytest.mark.parametrize("keepdims", [np.float32, "yes", 2, None, 0.5])
def test_keepdims_is_a_bool(reduce, keepdims):
    with pytest.raises(TypeError, match="keepdims"):
        reduce(X, 0, keepdims)


def test_one_axis_is_wanted():
    for function in (mg.cumsum, mg.cumprod):
        with pytest.raises(ValueError, match="one axis"):
            function(X, axis=(0, 1))
    with pytest.raises(ValueError, match="moveaxis"):
        mg.moveaxis(X, [0, 1], [2])


def test_the_gradient_of_an_extreme_that_is_not_a_number_is_not_lost():
    for f in (mg.max, mg.min):
        assert mg.grad(lambda x: f(x))(np.array([1.0, np.nan, 2.0])).tolist() == [0, 1, 0]
        assert mg.grad(lambda x: f(x, 1).sum())(np.array([[1.0, np.nan], [1.0, 3.0]])).numpy()[0].tolist() == [0, 1]
    x, y = np.array([np.nan, 1, -np.inf, np.nan, 2]), np.array([1, np.nan, np.nan, np.nan, 2])
    for f, shares in ((mg.maximum, [0.5] * 5), (mg.minimum, [0.5] * 5),
                      (mg.fmax, [0, 1, 1, 0.5, 0.5]), (mg.fmin, [0, 1, 1, 0.5, 0.5])):
        gx, gy = mg.grad(lambda x, y: f(x, y).sum(), (0, 1))(x, y)
        assert gx.tolist() == shares and (gx + gy).tolist() == [1] * 5


def test_arctan2_has_slope_zero_at_the_origin():
    for order in range(3):
        f = lambda y, x: mg.arctan2(y, x)
        for _ in range(order + 1):
            f = (lambda f: lambda y, x: mg.grad(f)(y, x))(f)
        assert float(f(0.0, 0.0)) == 0


def test_logaddexp_keeps_the_digits_of_a_difference():
    for offset in (0.0, 1e3, 1e10, 1e17):
        a, b = mg.grad(lambda x, y: mg.logaddexp(x, y), (0, 1))(offset, offset)
        assert (float(a), float(b)) == (0.5, 0.5)


@pytest.mark.parametrize("decorate", [mg.no_grad, mg.no_grad()])
def test_no_grad_decorates_with_and_without_parentheses(decorate):
    @decorate
    def double(x):
        """Twice x."""
        return x * 2, mg.enable_grad(mg.square)(x)

    values = double(X)
    assert [value.requires_grad for value in values] == [False, True] and double.__doc__ == "Twice x."
    for wrong in (False, X):
        with pytest.raises(TypeError, match="no_grad: what it decorates is a function, not (bool|Tensor)"):
            mg.no_grad(wrong)


def test_no_grad_on_a_generator_function_records_nothing_and_leaves_the_caller_alone():
    @mg.no_grad()
    def generate(n):
        got = yield (X * 2).requires_grad
        yield got, (X * 3).requires_grad
        return n

    values = generate(7)
    assert next(values) is False and (X * 1).requires_grad
    assert values.send("sent") == ("sent", False) and (X * 1).requires_grad
    with pytest.raises(StopIteration) as end:
        next(values)
    assert end.value.value == 7


def test_what_is_thrown_into_a_generator_under_no_grad_reaches_it():
    seen = []

    @mg.no_grad()
    def generate():
        try:
            yield
        except ValueError as error:
            seen.append((str(error), (X * 2).requires_grad))
            yield "caught"
        finally:
            seen.append("closed")

    values = generate()
    next(values)
    assert values.throw(ValueError("thrown")) == "caught" and (X * 1).requires_grad
    values.close()
    assert seen == [("thrown", False), "closed"]
    values = generate()
    next(values)
    with pytest.raises(KeyError):  # which it does not catch
        values.throw(KeyError("thrown"))
    assert seen[2:] == ["closed"] and (X * 1).requires_grad


def test_rules_that_return_no_tensor_or_are_too_few():
    x = mg.Tensor(2.0, requires_grad=True)
    for rule, message in ((lambda g, _out, x: g.numpy(), "returned ndarray"), (lambda g, _out, _x: None, "returned NoneType"),
                          (lambda g, _out, _x: 1.0, "returned float"), (lambda g, _out, _x: g * _x, "underscore|Unread")):
        with pytest.raises((TypeError, AttributeError), match=message):
            mg.Primitive("wrong", np.sin, rule)(x).backward()
    for rule in (lambda g, _out, _x: g, lambda g, _out, x: g * x, lambda g, _out, *xs: g):
        with pytest.raises(TypeError, match="2 inputs given, 1 wanted"):
            mg.Primitive("few", np.add, rule)(x, x)


@pytest.mark.parametrize("leave", [lambda x: x.numpy(), lambda x: x.item(), lambda x: float(x), lambda x: x.tolist(), lambda x: x.data])
def test_a_rule_that_leaves_the_tensors_is_refused_where_it_would_be_differentiated(leave):
    square = mg.Primitive("square", np.square, lambda g, _out, x: g * (2 * leave(x)))
    assert float(mg.grad(square)(3.0)) == 6
    with pytest.raises(RuntimeError, match="rule of 'square'"):
        mg.grad(mg.grad(square))(3.0)


@pytest.mark.parametrize("fill", [lambda number: mg.full((2,), number, dtype="int8"),
                                  lambda number: mg.full_like(np.zeros(2, np.int8), number),
                                  lambda number: mg.full_like(np.zeros(2), number, dtype="int8"),
                                  lambda number: mg.max(np.full((2, 0), 1, np.int8), 1, initial=number),
                                  lambda number: mg.index_update(np.zeros(2, np.int8), ..., number),
                                  lambda number: mg.index_add(np.zeros(2, np.int8), ..., number),
                                  lambda number: mg.scatter(np.zeros(2, np.int8), [0, 1], number, 0),
                                  lambda number: mg.pad(np.zeros(0, np.int8), 1, constant_values=number),
                                  lambda number: nn.functional.pad(np.zeros(0, np.int8), (1, 1), value=number)])
def test_a_number_that_the_dtype_cannot_hold_is_refused(fill):
    for kind in (int, np.int64, np.array):
        with pytest.raises(OverflowError, match="int8 holds no 300"):
            fill(kind(300))
    for kind in (float, np.float32, np.float64, np.array):
        for number, error in ((np.inf, OverflowError), (np.nan, ValueError)):
            with pytest.raises(error, match="int8 holds no"):
                fill(kind(number))
    assert fill(-3).numpy().tolist() == [-3, -3] and fill(2.5).numpy().tolist() == [2, 2]


@pytest.mark.parametrize("name, call", [
    ("floor_divide", lambda x: x // -1), ("bitwise_and", lambda x: 300 & x), ("bitwise_or", lambda x: x | -1),
    ("clip", lambda x: x.clip(300, None)), ("index_update", lambda x: mg.index_update(x, [0], [-1])),
    ("scatter", lambda x: mg.scatter(x, [0], -1, 0)), ("scatter_add", lambda x: mg.scatter_add(x, [0], [300], 0))])
def test_a_number_too_large_says_for_which_operation(name, call):
    with contextlib.suppress(OverflowError) if np.__version__ < "2" else pytest.raises(OverflowError, match=f"^{name}: "):
        call(mg.Tensor(np.array([1, 2], np.uint8)))


Y = np.random.default_rng(2).normal(size=(2, 2))


@pytest.mark.parametrize("name, call", [
    ("pad", lambda: mg.pad(Y, 1.5)), ("pad", lambda: mg.pad(Y, True)), ("pad", lambda: mg.pad(Y, "a")),
    ("pad", lambda: mg.pad(Y, ((1, 2, 3),))), ("pad", lambda: mg.pad(Y, [[1, 2], [3]])),
    ("pad", lambda: mg.pad(Y[:0], 1, "edge")),
    ("index_update", lambda: mg.index_update(Y, 5, 0.0)), ("index_update", lambda: mg.index_update(Y, 0, [1.0, 2, 3])),
    ("index_update", lambda: mg.index_update(Y, slice(None, None, 0), 0.0)), ("index_add", lambda: mg.index_add(Y, "a", 0.0)),
    ("index_add", lambda: mg.index_add(Y, (0, slice("a", 2)), 0.0)), ("getitem", lambda: mg.Tensor(Y)[::0]),
    ("index_add", lambda: mg.index_add(Y, (0, 0, 0), 1.0)), ("index_add", lambda: mg.index_add(Y, [0.5], 1.0)),
    ("eye", lambda: mg.eye(2, k=None)), ("eye", lambda: mg.eye(2, k=0.5)), ("zeros", lambda: mg.zeros(-1)),
    ("full", lambda: mg.full((3,), [1, 2])), ("full_like", lambda: mg.full_like(Y, [1, 2, 3])),
    ("attention", lambda: mg.scaled_dot_product_attention(1.0, Y, Y)), ("tensordot", lambda: mg.tensordot(Y, Y, [[1]])),
    ("cosine_similarity", lambda: mg.cosine_similarity(Y, [1.0, 2, 3])), ("einsum", lambda: mg.einsum(Y, Y)),
    ("sign", lambda: mg.sign(Y > 0)), ("clip", lambda: mg.clip(Y, "a")), ("einsum", lambda: mg.einsum("\u03b1\u03b2", Y)),
    ("norm", lambda: mg.norm(Y, keepdims="x")), ("checkpoint", lambda: mg.checkpoint(5)),
    ("conv_transpose1d", lambda: mg.conv_transpose1d(Y[None], Y[..., None], output_padding=1)),
    ("conv_transpose1d", lambda: mg.conv_transpose1d(Y, Y[..., None], padding=9)),
    ("conv_transpose1d", lambda: mg.conv_transpose1d(Y, Y[..., None], padding="same")),
    ("dot", lambda: mg.dot(Y, Y[0, :1])), ("inner", lambda: mg.inner(Y, Y[:, :1])), ("logdet", lambda: mg.logdet(Y[:1])),
    ("corrcoef", lambda: mg.corrcoef(Y, Y[:, :1])), ("eigvalsh", lambda: mg.eigvalsh(Y[:1])),
    ("diff", lambda: mg.diff(Y, append=Y[0])), ("cross", lambda: mg.cross(np.ones((2, 3)), np.ones((3, 3)))),
    ("nanmax", lambda: mg.nanmax(np.zeros(0, int))), ("nanmin", lambda: mg.nanmin(np.zeros((0, 2), bool), 0)),
    ("diag", lambda: mg.diag(Y[0], 1.5)), ("diag", lambda: mg.diag(Y[0], "a")), ("matrix_power", lambda: mg.matrix_power(0 * Y, -1)),
    ("interp", lambda: mg.interp(Y, [0, 1], [0, 1], left=Y)), ("interp", lambda: mg.interp(Y, [0, 1], [0, 1], right=[1.0])),
    ("clip", lambda: mg.clip(Y, np.zeros(3))), ("clip", lambda: mg.clip(Y, None, np.zeros(3))),
    ("vstack", lambda: mg.vstack([Y, Y[:, :1]])), ("hstack", lambda: mg.hstack([Y, Y[:1]])),
    ("dstack", lambda: mg.dstack([Y, Y[:1]])), ("column_stack", lambda: mg.column_stack([Y, Y[:1]])),
    ("concatenate", lambda: mg.concatenate(Y * 1j)), ("stack", lambda: mg.stack(np.array(["a"]))),
    ("mT", lambda: mg.Tensor(1.0).mT), ("norm", lambda: mg.norm(Y[:, :0], -np.inf, 1)),
    ("norm", lambda: mg.norm(Y[:, :0], -1)), ("norm", lambda: mg.norm(Y[:0], -2)),
    ("broadcast_to", lambda: mg.broadcast_to(Y, Y)), ("broadcast_to", lambda: mg.broadcast_to(Y, (2.0, 2))),
    ("split", lambda: mg.split(Y, "a")), ("split", lambda: mg.split(Y, [0.5])), ("astype", lambda: mg.astype(Y, "U")),
    ("astype", lambda: mg.Tensor(Y).astype(Y)), ("astype", lambda: mg.astype(Y, "no dtype")),
    ("cosine_embedding_loss", lambda: mg.cosine_embedding_loss(1.0, 1.0, 1.0)),
    ("norm_relu_pool", lambda: mg.norm_relu_pool(X, None, None, None, None)),
    ("norm_relu_pool", lambda: mg.norm_relu_pool(X, None, None, Y, None)),
    ("kl_div", lambda: mg.kl_div(0.5, 0.5, reduction="batchmean")), ("triplet_margin_loss", lambda: mg.triplet_margin_loss(1.0, 2.0, 3.0))])
def test_errors_of_settings_shapes_and_indices_name_the_operation(name, call):
    with pytest.raises((TypeError, ValueError, IndexError), match=f"^{name}: "):
        call()


def test_lengths_of_what_is_made_may_be_tensors():
    two = mg.Tensor([0, 1]).max() + 1
    for made in (mg.zeros(two), mg.ones((two,)), mg.full(two, 1.0), mg.randn(two), mg.linspace(0, 1, two), mg.eye(two)[0]):
        assert made.shape == (2,)


BEFORE = {  # what stands before the axis, where that is not one Tensor
    **dict.fromkeys(["concatenate", "stack"], ([Y, Y],)), **dict.fromkeys(["split", "array_split", "repeat", "roll"], (Y, 1)),
    **dict.fromkeys(["cosine_similarity", "cross"], (Y, Y)), "take": (Y, [0]), "take_along_axis": (Y, [[0, 0]]),
    **dict.fromkeys(["scatter", "scatter_add"], (Y, [[0, 0]], [[1.0, 2.0]])), "top_k": (Y, 1), "norm": (Y,),
    "weight_norm": (Y, Y[:, :1]), "quantile": (Y, 0.5)}
AXES = [(name, argument) for name, f in sorted(ops.declare.PUBLIC.items()) for argument in (
    "axis", "axis1", "axis2", "start_axis", "end_axis", "source", "destination") if argument in inspect.signature(f).parameters]


@pytest.mark.parametrize("name, argument", AXES)
@pytest.mark.parametrize("wrong", [9, -9, 1.5, "x", (0, 9), np.nan, True, object()],
                         ids=lambda wrong: type(wrong).__name__ + str(wrong)[:4])
def test_a_bad_axis_names_the_operation(name, argument, wrong):
    more = {"source": {"destination": 0}, "destination": {"source": 0}, "axis1": {"axis2": 0}, "axis2": {"axis1": 0}}
    with pytest.raises((ValueError, TypeError, IndexError)) as error:
        getattr(mg, name)(*BEFORE.get(name, (Y,)), **{argument: wrong, **more.get(argument, {})})
    assert str(error.value).startswith(f"{name}: "), str(error.value)


@pytest.mark.parametrize("name", "sum max min prod logsumexp softmax log_softmax any all".split())
@pytest.mark.parametrize("axis", [0, -1])
def test_of_a_number_the_last_axis_is_one(name, axis):
    f, x = getattr(mg, name), np.array(1.5)
    assert f(x, axis).shape == () and f(x, axis).numpy() == f(x[None], axis).numpy().reshape(())
    if name not in ("any", "all"):
        mg.check_derivatives(lambda x: f(x, axis), x)
    with pytest.raises(ValueError, match=name):
        f(x, 1)


@pytest.mark.parametrize("zero", [0, 0.0, -0.0, np.float32(0), mg.Tensor(0)], ids=repr)
def test_a_setting_of_zero_is_refused_or_defined(zero):
    for call in (lambda: mg.softplus(X, zero), lambda: nn.Softplus(zero), lambda: nn.functional.softplus(X, beta=zero)):
        with pytest.raises(ValueError, match="beta must be a number other than 0"):
            call()
    zeros = np.zeros((2, 3))
    for f in (lambda x: mg.l2_normalize(x, eps=zero), lambda x: mg.cosine_similarity(x, np.ones(3), eps=zero)):
        x = mg.Tensor(zeros, requires_grad=True)
        y = f(x)
        y.sum().backward()
        assert not y.numpy().any() and np.isfinite(x.grad.numpy()).all()
    for call in (lambda: mg.huber_loss(zeros, zeros, delta=zero), lambda: nn.HuberLoss(delta=zero)):
        with pytest.raises(ValueError, match="delta must be"):
            call()
    assert mg.smooth_l1_loss(zeros, zeros + 1, beta=zero).item() == 1


@pytest.mark.parametrize("f", [mg.batch_norm, mg.norm_relu_pool])
@pytest.mark.parametrize("name", ["running_mean", "running_var"])
def test_running_statistics_that_cannot_be_moved_are_refused(f, name):
    x, ones = np.random.default_rng(0).normal(size=(2, 3, 4, 4)), np.ones(3)
    for wrong, error, said in ((mg.Tensor(ones, requires_grad=True), TypeError, f"{name} is changed in place"),
                               (np.ones(3, int), TypeError, f"{name} is changed in place"), (np.ones(3, bool), TypeError, name),
                               (None, ValueError, "given together"), ("x", TypeError, name), (np.ones(2), ValueError, name)):
        given = {"running_mean": ones.copy(), "running_var": ones.copy()}
        other = next(value for key, value in given.items() if key != name)
        with pytest.raises(error, match=f"{f.__name__}: .*{said}"):
            f(x, **{**given, name: wrong}, weight=ones, bias=ones, training=True)
        assert (other == 1).all()
    learned = mg.Tensor(ones, requires_grad=True)  # in evaluation a constant like others
    f(x, **{"running_mean": ones, "running_var": ones, name: learned}, weight=ones, bias=ones).sum().backward()
    assert np.isfinite(learned.grad.numpy()).all()


MAKERS = {
    "zeros": lambda d: mg.zeros(2, dtype=d), "ones": lambda d: mg.ones(2, dtype=d), "full": lambda d: mg.full(2, 1, dtype=d),
    "eye": lambda d: mg.eye(2, dtype=d), "arange": lambda d: mg.arange(3, dtype=d), "rand": lambda d: mg.rand(2, dtype=d),
    "linspace": lambda d: mg.linspace(0, 1, 3, dtype=d), "logspace": lambda d: mg.logspace(0, 1, 3, dtype=d),
    "Tensor": lambda d: mg.Tensor([1], dtype=d), "astype": lambda d: mg.ones(2).astype(d),
    "zeros_like": lambda d: mg.zeros_like(mg.ones(2), dtype=d), "ones_like": lambda d: mg.ones_like(mg.ones(2), dtype=d),
    "full_like": lambda d: mg.full_like(mg.ones(2), 1, dtype=d), "sum": lambda d: mg.sum(mg.ones(2), dtype=d),
    "full_like of a Tensor": lambda d: mg.full_like(mg.ones(2), mg.Tensor(1.0), dtype=d),
    "cumsum": lambda d: mg.cumsum(mg.ones(2), dtype=d), "prod": lambda d: mg.prod(mg.ones(2), dtype=d)}


@pytest.mark.parametrize("dtype", [str, "U3", object, complex, "datetime64[s]", "S2"])
@pytest.mark.parametrize("name", MAKERS)
def test_no_tensor_holds_anything_but_numbers_and_bools(name, dtype):
    with pytest.raises(TypeError, match="dtype"):
        MAKERS[name](dtype)


WITHOUT_GRADIENT = {
    "argmax": np.argmax, "argmin": np.argmin, "any": np.any, "all": np.all, "count_nonzero": np.count_nonzero,
    "argsort": np.argsort}


@pytest.mark.parametrize("name", WITHOUT_GRADIENT)
def test_reductions_without_a_gradient_check_their_settings_as_others_do(name):
    f, x = getattr(mg, name), np.array([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected keyword argument 'by'"):
        f(x, by=1)
    with pytest.raises(TypeError, match=rf"^{name}\(\) takes from 1 to . positional"):
        f(x, 0, True, 1)
    for axis, error in ((2, ValueError), ("a", (TypeError, ValueError)), (True, (TypeError, ValueError))):
        with pytest.raises(error, match=f"^{name}: .*axis"):
            f(x, axis)
    for axis in (0, -1, np.int64(1), mg.Tensor(1), None):
        np.testing.assert_array_equal(f(x, axis).numpy(), WITHOUT_GRADIENT[name](x, axis if axis is None else int(axis)))
    for axis in (0, -1, None):
        assert f(2.5, axis).tolist() == np.asarray(WITHOUT_GRADIENT[name](np.array(2.5), axis)).tolist()
    if name == "argsort":
        return
    for wrong in ("no", 3, None):
        with pytest.raises(TypeError, match=f"^{name}: keepdims is True or False"):
            f(x, keepdims=wrong)
    if name.startswith("arg"):
        with pytest.raises(ValueError, match=f"^{name}: no elements"):
            f(x[:, :0], 1)
    else:
        assert f(x, [0]).tolist() == f(x, 0).tolist() and f(x, [0, 1], keepdims=True).shape == (1, 1)


@pytest.mark.parametrize("f", [mg.sum, mg.max, mg.any, mg.flip, mg.squeeze, mg.norm], ids=lambda f: f.__name__)
def test_a_tensor_of_several_numbers_in_the_place_of_an_axis_is_named(f):
    with pytest.raises((TypeError, ValueError), match=f"^{f.__name__}: an axis is a whole number"):
        f(np.ones((2, 2)), axis=mg.Tensor([[0, 1]]))


BY_INDICES = {
    "take": mg.take, "take of the flat Tensor": lambda x, i: mg.take(x, i, None),
    "take_along_axis": mg.take_along_axis, "take_along_axis of the flat Tensor": lambda x, i: mg.take_along_axis(x, i, None),
    "scatter": lambda x, i: mg.scatter(x, i, [5.0] * len(i), 0),
    "scatter_add": lambda x, i: mg.scatter_add(x, i, [5.0] * len(i), 0),
    "one_hot": lambda x, i: mg.one_hot(i, 3), "embedding": lambda x, i: mg.embedding(i, x.reshape(3, 1))}


@pytest.mark.parametrize("indices", [[True, False, True], [1.0, 0.0], ["a", "b"], [None, None]], ids=str)
@pytest.mark.parametrize("name", BY_INDICES)
def test_indices_are_whole_numbers_and_no_mask(name, indices):
    x = mg.Tensor([1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="integers"):
        BY_INDICES[name](x, indices)
    if not isinstance(indices[0], str) and indices[0] is not None:
        with pytest.raises(TypeError, match=f"{name.split()[0]}: indices must be integers"):
            BY_INDICES[name](x, mg.Tensor(indices))


@pytest.mark.parametrize("name", [name for name in BY_INDICES if "take" in name])
def test_an_empty_list_of_indices_takes_nothing(name):
    assert BY_INDICES[name](mg.Tensor([1.0, 2.0, 3.0]), []).shape == (0,)


CONVOLUTIONS = {"conv1d": 1, "conv2d": 2, "conv2d_relu": 2, "conv_transpose1d": 1, "conv_transpose2d": 2}


@pytest.mark.parametrize("samples", [(), (2,)], ids=["one", "several"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_errors_of_a_convolution_name_it_and_the_shapes_that_were_given(name, samples):
    f, axes = getattr(mg, name), CONVOLUTIONS[name]
    x, w, bias = np.ones((*samples, 4, *[5] * axes)), np.ones((4, 4, *[3] * axes)), np.ones(4)
    assert f(x, w, bias).ndim == x.ndim
    wrong = [(x[..., :3, :] if axes == 1 else x[..., :3, :, :], w, bias, 1), (x, w[:3, :3], bias, 1), (x, w, bias, 3),
             (x[..., 0], w, bias, 1), (x, w[..., 0], bias, 1), (x, w[..., :0], bias, 1)]
    for *given, groups in wrong:
        if given[0].shape == x.shape[:-1] and samples:
            given[0] = given[0][0]  # or else it might be one image
        with pytest.raises(ValueError, match=f"^{name}: .*wanted, got ") as error:
            f(*given, groups=groups)
        assert str(given[0].shape) in str(error.value) or "filters of at least" in str(error.value)
    with pytest.raises(ValueError, match=rf"^{name}: a bias \(4,\) wanted, got \(3,\)"):
        f(x, w, bias[:3])
    with pytest.raises(TypeError, match=f"^{name}: floating point wanted"):
        f(x.astype(int), w.astype(int), bias)


def assigned(name, value):
    x = mg.Tensor([1.0, 2.0])
    if name == "data":
        x.data = value
    else:
        x[0] = value


WRITTEN = {  # where a value of the user's becomes an element
    "x[0] = value": lambda v: assigned("element", v), "x.data = value": lambda v: assigned("data", v),
    "index_update": lambda v: mg.index_update([1.0, 2.0], 0, v), "index_add": lambda v: mg.index_add([1.0, 2.0], 0, v),
    "scatter": lambda v: mg.scatter([1.0, 2.0], [0], v, 0), "scatter_add": lambda v: mg.scatter_add([1.0, 2.0], [0], v, 0),
    "full": lambda v: mg.full(2, v), "full of a dtype": lambda v: mg.full(2, v, dtype="float32"),
    "full_like": lambda v: mg.full_like([1.0, 2.0], v),
    "full_like of a dtype": lambda v: mg.full_like([1.0], v, dtype="float32"),
    "pad": lambda v: mg.pad([1.0, 2.0], 1, constant_values=v),
    "constant_": lambda v: nn.init.constant_(mg.zeros(2), v), "where": lambda v: mg.where([True], [1.0], v),
    "nan_to_num": lambda v: mg.nan_to_num([1.0], nan=v), "arange": lambda v: mg.arange(v),
    "Tensor of a dtype": lambda v: mg.Tensor(v, dtype="float32"),
    "Tensor of an array": lambda v: mg.Tensor(np.array(v), dtype="float32")}


@pytest.mark.parametrize("wrong", [None, "3", [None], ["3"], 1j, np.array(None), np.array("3"), np.array(1j), object()], ids=lambda wrong: type(wrong).__name__)
@pytest.mark.parametrize("name", WRITTEN)
def test_nothing_but_numbers_is_written(name, wrong):
    with pytest.raises((TypeError, ValueError) if name == "full" else TypeError):  # which wants one number first of all
        WRITTEN[name](wrong)
    WRITTEN[name](3.0)


@pytest.mark.parametrize("wrong", ["3", 1j, np.array(None), np.array("3")], ids=str)
@pytest.mark.parametrize("f", [mg.sum, mg.prod, mg.max, mg.min], ids=lambda f: f.__name__)
def test_a_reduction_begins_with_a_number(f, wrong):
    with pytest.raises(TypeError):
        f([1.0, 2.0], initial=wrong)


@pytest.mark.parametrize("f", [mg.sum, mg.prod, mg.max, mg.all, mg.argmax, mg.nanmin, mg.logsumexp, mg.softmax, mg.argsort, mg.squeeze,
                               mg.cumsum, mg.flip], ids=lambda f: f.__name__)
@pytest.mark.parametrize("axis", [False, 0.5, "0", mg.Tensor(False)], ids=str)
def test_a_number_has_no_axis_that_is_no_whole_number(f, axis):
    with pytest.raises((TypeError, ValueError)):
        f(mg.Tensor(2.0), axis)


@pytest.mark.parametrize("subscripts", ["i?->i", "i1->i", "i.->i", "i*->i", "i...j...", "...i...->i", "ij->i?", "ij->i...j..."])
def test_axes_of_einsum_are_letters_and_one_ellipsis(subscripts):
    with pytest.raises(ValueError, match="einsum: '.*' in .* is no axes"):
        mg.einsum(subscripts, mg.ones((2, 3)))


@pytest.mark.parametrize("call, message", [
    (lambda: mg.flatten(X, 2, 1), "flatten: axis 2, where it starts, comes after axis 1"),
    (lambda: nn.Flatten(-1, 1)(X), "flatten: axis -1"), (lambda: X.flatten(2, 0), "flatten: axis 2"),
    (lambda: nn.functional.interpolate(X, scale_factor=2, align_corners=True), "align_corners is for modes"),
    *[(lambda w=w: nn.CrossEntropyLoss(w, ignore_index=1)(X, X), "cross_entropy: ignore_index 1 is a label") for w in (None, [1.0] * 3)],
    (lambda: nn.Upsample(2, align_corners=True), "Upsample: align_corners is for modes"),
    (lambda: nn.functional.pad(X, (1, 1), "reflect", 3.0), "pad: a value is for mode 'constant'"),
    (lambda: mg.nanmax(mg.Tensor([1, 2]), axis=5), "nanmax: axis 5"), (lambda: mg.nanmin(mg.Tensor([1, 2]), 0, 2), "nanmin: keepdims")])
def test_settings_that_would_have_no_effect_or_another_are_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


OWN = {  # what is no view in NumPy, of a matrix
    "pad": lambda x: mg.pad(x, 0), **{f"pad {mode}": lambda x, mode=mode: mg.pad(x, 0, mode=mode) for mode in ("edge", "wrap")},
    "prod": lambda x: mg.prod(x, ()), "sum": lambda x: mg.sum(x, ()), "meshgrid": lambda x: mg.meshgrid(x[0], x[1])[0],
    "cumprod": lambda x: mg.cumprod(x[:1], 0),
    "sparse meshgrid": lambda x: mg.meshgrid(x[0], x[1], sparse=True)[1], "tile": lambda x: mg.tile(x, 1),
    "tile of rows": lambda x: mg.tile(x[0], (2, 1)), "full_like": lambda x: mg.full_like(x, x[0]),
    "interpolate": lambda x: mg.interpolate(x[None, None], x.shape), "pixel_shuffle": lambda x: mg.pixel_shuffle(x[None, None], 1),
    "pixel_unshuffle": lambda x: mg.pixel_unshuffle(x[None, None], 1), "nan_to_num": lambda x: mg.nan_to_num(x), "roll": lambda x: mg.roll(x, 0), "repeat": lambda x: mg.repeat(x, 1, 0)}


@pytest.mark.parametrize("dtype", [float, int])
@pytest.mark.parametrize("name", OWN)
def test_results_that_are_no_views_can_be_changed_and_leave_the_argument_alone(name, dtype):
    x = mg.Tensor(np.arange(6, dtype=dtype).reshape(2, 3))
    y = OWN[name](x)
    y[...] = 9.0
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]
    (y := OWN[name](x))[(0,) * y.ndim] = 9.0
    assert (y.numpy() == 9).sum() == 1


@pytest.mark.parametrize("loss", [mg.cross_entropy, mg.nll_loss])
def test_an_ignore_index_that_no_label_can_be_is_refused(loss):
    for number in (2**63, 2**64 + 1):
        with pytest.raises(ValueError, match=f"{loss.__name__}: ignore_index below 2\\*\\*63 wanted, got {number}"):
            loss(np.zeros((2, 3), np.float32), [0, 1], ignore_index=number)
    assert np.isfinite(loss(np.zeros((2, 3), np.float32), [0, 1], ignore_index=2**63 - 1).item())
