"""Arrays, and settings that are true or false: whatever is public refuses what is none, by the operation's and the argument's name.

What has such arguments is found by the signatures, and the other arguments are those of the fuzzer's recipes, or of `OTHERS`.
"""
import functools
import inspect
import pathlib
import sys
import typing

import numpy as np
import pytest

import minigrad as mg
from minigrad import data, nn, optim
from minigrad.ops.declare import PUBLIC

pytest.importorskip("ml_dtypes")
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
recipes = pytest.importorskip("tests.fuzz.recipes")
draw = pytest.importorskip("tests.fuzz.draw")
references = pytest.importorskip("tests.fuzz.references")

X, RNG = mg.Tensor(np.ones((2, 3)), requires_grad=True), np.random.default_rng(0)
IMAGES, ROWS = np.zeros((1, 1, 8, 8), np.float32), np.zeros((1, 2, 2), np.float32)
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
OTHERS = {  # the arguments of what has no recipe, of a method with its object first
    "mg.grad": (mg.sum,), "mg.value_and_grad": (mg.sum,), "mg.Tensor": ([1.0],), "mg.Primitive": ("f", abs, lambda g, out, x: g),
    "mg.Tensor.backward": (mg.Tensor(1.0, requires_grad=True),), "nn.Parameter": ([1.0],), "nn.ResNet": (nn.models.resnet.BasicBlock, (1, 1, 1, 1)),
    "nn.Module.register_buffer": (nn.ReLU(), "mask", np.ones(2)),
    "nn.Module.train": (nn.ReLU(),), "nn.Module.requires_grad_": (nn.ReLU(),), "nn.Module.load_state_dict": (nn.ReLU(), {}),
    "nn.Attention.forward": (nn.Attention(2, 1), ROWS),
    "nn.TransformerBlock.forward": (nn.TransformerBlock(2, 1, 2), ROWS),
    "nn.TransformerEncoder.forward": (nn.TransformerEncoder(nn.TransformerBlock(2, 1, 2), 1), ROWS),
    "nn.Encoder": (4, 2), "nn.VisionTransformer": (8, 8, 1, 2, 4, 1, 1),
    "nn.load_published": (nn.ResNet(nn.models.resnet.BasicBlock, (1, 1, 1, 1)), {}),
    "nn.VisionTransformer.forward": (nn.VisionTransformer(8, 8, 1, 2, 4, 0, 1), IMAGES),
    "nn.VisionTransformer.encode": (nn.VisionTransformer(8, 8, 1, 2, 4, 0, 1), np.ones((1, 2, 4), np.float32)),
    "optim.EMA": (nn.ReLU(),), **{f"optim.{name}": ([X], 0.1) for name in references.OPTIMISERS},
    "optim.Muon": ([X], 0.1),
    "data.weak": (IMAGES, RNG), "data.Characters": (IMAGES, ["a"]), "data.with_rotations": (data.Characters(IMAGES, ["a"]),),
    "data.load_emoji": (), "data.WordPiece": (TOKENS,), "data.WordPiece.train": (["a"], 9)}
OTHERS |= {f"views.{name}": (8,) for name in ("simclr", "byol", "dino", "mae")}
WRONG = "no", 2, np.ones(1), mg.Tensor(True), None
MODULES = {"mg": mg, "F": nn.functional, "nn": nn, "optim": optim, "init": nn.init, "io": mg.io, "data": data,
           "views": data.views}


class Simplest(draw.Draw):
    """Draws nothing: of all choices the first, and shapes of two axes."""

    def __init__(self):
        self.draw, self.count, self.kind, self.dtype = None, 0, "nice", "float64"

    def pick(self, *values):
        return values[0]

    def int(self, low, high):
        return min(max(low, 1), high)

    def flag(self):
        return False

    def shape(self, least=0, most=3, low=0, high=3):
        return (2,) * min(max(least, 2), most)

    def draw_permutation(self, n):
        return range(n)

    def axes(self, x):
        return None


def flags(function):
    """The parameters of a function that are true or false, by name, and whether one may be None."""
    for p in inspect.signature(function).parameters.values():
        kinds = set(p.annotation.replace(" ", "").split("|")) if isinstance(p.annotation, str) else {
            getattr(kind, "__name__", str(kind)) for kind in typing.get_args(p.annotation) or (p.annotation,)}
        if "bool" in kinds and kinds <= {"bool", "str", "Sequence", "None", "NoneType"} or isinstance(p.default, bool):
            yield p.name, not kinds.isdisjoint({"None", "NoneType"})


def public():
    """What is public, by name: functions, classes, and the methods of these that are no operations."""
    of_data = [f"{part}.{name}" for part in ("io", "data", "views") for name, value in vars(MODULES[part]).items()
               if getattr(value, "__module__", "").startswith("minigrad") and callable(value) and not name.startswith("_")]
    for name in [*recipes.public(), *of_data]:
        part, _, rest = name.partition(".")
        yield name, (found := getattr(MODULES[part], rest))
        for method, function in vars(found).items() if inspect.isclass(found) else ():
            if not method.startswith("_") and (isinstance(function, classmethod) or inspect.isfunction(function)
                                               and PUBLIC.get(method) is not function):
                yield f"{name}.{method}", getattr(found, method)


def called(function):
    """What has the signature: of a class its `__init__`, though it may have a `__new__` too, without the object."""
    return functools.partial(function.__init__, None) if inspect.isclass(function) else function


def arguments(name):
    """The positional and the keyword arguments of a call that is right."""
    if name in OTHERS:
        return OTHERS[name], {}
    call = draw.Call(name, *recipes.RECIPES[name](Simplest())[:2])
    return call.arguments([a.make() for a in call.arrays()])[:2]


def arrays(function):
    """The parameters of a function that are arrays, by name, and whether one may be None."""
    for p in inspect.signature(function).parameters.values():
        kinds = set(str(p.annotation).replace(" ", "").split("|"))
        if kinds & {"TensorLike", "Tensor"} and p.kind is not p.VAR_POSITIONAL and p.name not in ("subscripts", "where"):
            yield p.name, "None" in kinds or p.default is None


CASES = {f"{name} {flag}": (name, function, flag, none) for name, function in public() for flag, none in flags(called(function))}


@pytest.mark.parametrize("case", CASES)
def test_what_is_neither_true_nor_false_is_refused(case):
    name, function, flag, none = CASES[case]
    args, kwargs = arguments(name)
    given = inspect.signature(called(function)).bind_partial(*args, **kwargs)
    for wrong in WRONG[:-1] if none else WRONG:
        given.arguments[flag] = wrong
        with pytest.raises(TypeError, match=rf"\b{flag} (is|must be) True or False"):
            function(*given.args, **given.kwargs)


ALL = {name: function for name, function in public() if name in recipes.RECIPES}


@pytest.mark.parametrize("name", ALL)
def test_arguments_go_by_the_names_of_the_signature(name):
    args, kwargs = arguments(name)
    given = inspect.signature(called(ALL[name])).bind_partial(*args, **kwargs)
    kinds = {n: p.kind for n, p in given.signature.parameters.items()}
    places = [value for n, value in given.arguments.items() if kinds[n] is inspect.Parameter.POSITIONAL_ONLY]
    named = {n: value for n, value in given.arguments.items() if kinds[n] in (inspect.Parameter.POSITIONAL_OR_KEYWORD,
                                                                              inspect.Parameter.KEYWORD_ONLY)}
    try:
        ALL[name](*places, **named)
    except (TypeError, ValueError) as error:  # what else the simplest call lacks
        assert "keyword" not in str(error)


FUNCTIONS = {name: function for name, function in ALL.items() if not inspect.isclass(function)}
GIVEN = {f"{name} {array}": (name, function, array, none) for name, function in FUNCTIONS.items() for array, none in arrays(function)}


@pytest.mark.parametrize("case", GIVEN)
def test_what_is_no_array_is_refused(case):
    name, function, array, none = GIVEN[case]
    args, kwargs = arguments(name)
    given = inspect.signature(function).bind_partial(*args, **kwargs)
    for wrong in ("no", {}, object()) if none else ("no", {}, object(), None):
        given.arguments[array] = wrong
        with pytest.raises(TypeError, match=rf"^{name.split('.')[-1]}: .*\b{array}\b"):
            function(*given.args, **given.kwargs)


@pytest.mark.parametrize("layer, named", [
    (nn.Linear(3, 4), "Linear: x"), (nn.Conv2d(3, 4, 3), "Conv2d: x"), (nn.LayerNorm(4), "LayerNorm: x"), (nn.LSTM(3, 4), "LSTM: x"),
    (nn.MultiheadAttention(4, 2), "MultiheadAttention: query"), (nn.Sequential(nn.ReLU(), nn.Linear(3, 4)), "Sequential: x")])
def test_a_layer_names_what_it_was_given(layer, named):
    with pytest.raises(TypeError, match=f"^{named}: cannot make a Tensor of NoneType"):
        layer(None)


def test_several_arrays_are_told_apart():
    with pytest.raises(TypeError, match=r"^stack: tensors\[1\]: cannot make a Tensor of NoneType"):
        mg.stack([X, None])
    with pytest.raises(TypeError, match=r"^einsum: operands\[1\]: cannot make a Tensor of str"):
        mg.einsum("ij,jk", X, "no")
    with pytest.raises(TypeError, match=r"^exp: 2 inputs given, 1 wanted"):
        mg.exp(X, X)
    with pytest.raises(TypeError, match=r"^cannot make a Tensor of NoneType"):  # nobody's argument
        mg.Tensor(None)


@pytest.mark.parametrize("dtype", ["float23", -1, 3.0, object()])
def test_what_is_no_dtype_is_refused(dtype):
    for call in (mg.Tensor([1.0]).astype, lambda d: mg.zeros(2, dtype=d), lambda d: mg.ones_like(X, dtype=d),
                 lambda d: mg.sum(X, dtype=d), lambda d: mg.cumsum(X, dtype=d), lambda d: mg.Tensor([1], dtype=d),
                 lambda d: mg.one_hot([1], 2, dtype=d), lambda d: mg.arange(2, dtype=d), lambda d: mg.full_like(X, 1, dtype=d)):
        with pytest.raises(TypeError, match=r"\bdtype: a name such as 'float32' or a dtype of NumPy's wanted, not"):
            call(dtype)


def test_many_arguments_are_known():
    assert len(CASES) > 150 and len(GIVEN) > 300
