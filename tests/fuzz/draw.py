"""What is drawn: calls of public functions, whose arrays and settings are kept as text that runs by itself."""
from __future__ import annotations

import dataclasses
import math

import ml_dtypes  # noqa: F401  ("bfloat16" is a dtype of NumPy's then)
import numpy as np
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

HEADER = ("import ml_dtypes\nimport numpy as np\nfrom numpy import inf, nan\nimport minigrad as mg\n"
          "from minigrad import nn, optim\n"
          "from minigrad.nn import functional as F, init\n"
          "from tests.fuzz.references import fills, steps, symmetric\n")
SPACE = {"np": np, "inf": np.inf, "nan": np.nan, "mg": mg, "nn": nn, "F": F, "optim": optim}
FLOATS = ("float64", "float32", "float16", "bfloat16")
WHOLES = ("int64", "int32", "uint8", "bool")
LAYOUTS = {"dense": "{}", "F": "{}.copy('F')", "flipped": "np.flip(np.flip({}).copy())",
           "gaps": "np.repeat({}, 2, -1)[..., ::2]",
           "read-only": "np.broadcast_to({}, {shape})", "spread": "np.broadcast_to({}[:1], {shape})"}
SPECIAL = (0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 100.0, -100.0, 1e-6)
JUNK = ("None", "True", "-1", "0", "2", "7", "2.5", "-0.5", "nan", "inf", "-inf", "'x'", "''", "()", "(1, 2, 3)", "(0,)",
        "(-1, 2)", "[]",
        "np.int64(2)", "np.uint8(1)", "np.float32(1.25)", "np.bool_(True)", "mg.Tensor(2)", "mg.Tensor(2.5)",
        "mg.Tensor([1, 2])",
        "mg.Tensor([0.5, 1.5], requires_grad=True)", "np.zeros(0)", "np.zeros((2, 0, 3))", "np.array(2)", "np.array(1.5)",
        "np.ones((2, 3), bool)", "np.ones((2, 3, 4), 'float32')", "[[1], [2, 3]]", "1j", "{}", "slice(1)", "...", "object()",
        "'float32'")


@dataclasses.dataclass(frozen=True)
class Code:
    """A value as Python."""
    text: str


@dataclasses.dataclass(frozen=True)
class Array:
    """An array: distinct values on a grid between low and high, some of them replaced, in some layout.

    Attributes:
        diagonal: added to the diagonal of matrices.
        role: "input" (handed over as a Tensor, and with a gradient), "constant" (an array), "state" (an array that is written).
    """
    shape: tuple
    dtype: str = "float64"
    low: float = -3.0
    high: float = 3.0
    seed: int = 0
    offset: float = 0.5
    layout: str = "dense"
    whole: bool = False
    special: tuple = ()
    role: str = "input"
    diagonal: float = 0.0

    def code(self) -> str:
        """An expression that makes the array."""
        size = math.prod(self.shape)
        order = f"np.random.default_rng({self.seed}).permutation({size})"
        text = f"{self.low} + {self.high - self.low} * ({order} + {self.offset}) / {size}"
        if not size:
            text = f"np.zeros({self.shape}, '{self.dtype}')"
        elif size > 64:
            text = f"({text}).reshape({self.shape}).astype('{self.dtype}')"
        else:
            values = eval(text)
            values = np.floor(values) if self.whole else np.round(values, 4)
            for place, value in self.special:
                values[place % size] = value
            values = values.reshape(self.shape) + (self.diagonal * np.eye(*self.shape[-2:]) if self.diagonal else 0)
            text = f"np.array({values.tolist()}, '{self.dtype}')"
        return LAYOUTS[self.layout].format(text, shape=self.shape)

    def make(self) -> np.ndarray:
        with np.errstate(all="ignore"):
            return eval(self.code(), dict(SPACE))


@dataclasses.dataclass(frozen=True)
class Call:
    """A call `name(*args, **kwargs)`, and of what that returns the call with `then`, if there is such: a layer and its inputs.

    Attributes:
        kind: of the values: "nice" (no kinks, no ties), "ties", "special" (zeros, infinities, NaN), "whole" (integers, bools).
        spoiled: whether an argument was replaced by a senseless one.
    """
    name: str
    args: tuple = ()
    kwargs: dict = dataclasses.field(default_factory=dict)
    then: tuple | None = None
    kind: str = "nice"
    spoiled: bool = False

    def arrays(self) -> list[Array]:
        found = []
        self._mapped(found.append)
        return found

    def _mapped(self, of_array):
        def walk(x):
            if isinstance(x, Array):
                return of_array(x)
            if isinstance(x, Code):
                return eval(x.text, dict(SPACE))
            return type(x)(map(walk, x)) if type(x) in (list, tuple) else x

        return (walk(self.args), {key: walk(value) for key, value in self.kwargs.items()}, walk(self.then))

    def arguments(self, values) -> tuple:
        """(args, kwargs, then) with `values` in the place of the arrays."""
        values = iter(values)
        return self._mapped(lambda _: next(values))

    def code(self) -> str:
        """A program that does it and prints the gradients."""
        lines, names = [], {}
        for i, array in enumerate(self.arrays()):
            floating = array.role == "input" and array.dtype in FLOATS
            text = f"mg.Tensor({array.code()}{', requires_grad=True' * floating})" if array.role == "input" else array.code()
            lines.append(f"x{i} = {text}")
            names[i] = floating
        count = iter(range(len(names)))

        def written(x):
            if isinstance(x, (Array, Code)):
                return f"x{next(count)}" if isinstance(x, Array) else x.text
            if type(x) in (list, tuple):
                inside = ", ".join(map(written, x))
                return f"[{inside}]" if type(x) is list else f"({inside}{',' * (len(x) == 1)})"
            return repr(x)

        settings = [*map(written, self.args), *[f"{key}={written(value)}" for key, value in self.kwargs.items()]]
        text = f"{self.name}({', '.join(settings)})"
        if self.then is not None:
            text += f"({', '.join(map(written, self.then))})"
        lines.append(f"y = {text}\nprint(y)")
        return HEADER + "\n".join(lines) + "\n"


class Draw:
    """What recipes draw with. Dtype and kind of values are those of a whole call."""

    def __init__(self, draw):
        self.draw, self.count = draw, 0
        self.kind = self.pick("nice", "nice", "ties", "special", "whole")
        self.dtype = self.pick(*FLOATS[:2], *FLOATS)

    def pick(self, *values):
        return self.draw(st.sampled_from(values))

    def int(self, low, high):
        return self.draw(st.integers(low, high))

    def near(self):
        """The call's floating point dtype, seldom another one."""
        return self.dtype if self.int(0, 9) < 9 else self.pick(*FLOATS)

    def flag(self):
        return self.draw(st.booleans())

    def some(self, **settings):
        """Some of the settings; values are functions that draw."""
        return {key: value() for key, value in settings.items() if self.flag()}

    def shape(self, least=0, most=3, low=0, high=3):
        return tuple(self.draw(st.lists(st.integers(low, high), min_size=least, max_size=most)))

    def big(self, least=0):
        """A shape, seldom one of thousands of elements, as which paths of their own are taken."""
        return self.shape(least) if self.int(0, 19) < 19 else self.pick((5000,), (70, 80), (2, 40, 60))

    def swapped(self, x, y):
        return (x, y) if self.flag() else (y, x)

    def draw_permutation(self, n):
        return self.draw(st.permutations(range(n)))

    def x(self, shape=None, low=-3, high=3, role="input", dtype=None, kind=None):
        """An array of the call's kind."""
        kind, shape = kind or self.kind, self.shape() if shape is None else tuple(shape)
        self.count += 1
        if dtype is None:
            dtype = self.dtype if kind != "whole" else self.pick(*WHOLES)
            dtype = self.pick(*FLOATS, *WHOLES) if self.count > 1 and self.int(0, 9) == 9 else dtype
        layouts = ["dense", "F", "flipped", "read-only"] + ["gaps"] * (len(shape) > 0)
        layouts += ["spread"] * (len(shape) > 0 and shape[0] > 0 and kind != "nice")
        places = st.lists(st.tuples(st.integers(0, 20), st.sampled_from(SPECIAL)), max_size=3)
        special = self.draw(places) if kind == "special" else ()
        low = 0 if dtype in ("uint8", "bool") and low < 0 else low
        high = 250 if dtype == "uint8" and high == 3 and self.flag() else high
        return Array(shape, dtype, low, high, self.int(0, 50), round((self.count * 0.618) % 1, 3), self.pick(*layouts),
                     kind in ("ties", "whole"), tuple(special) if dtype in FLOATS else (), role)

    def indices(self, shape, n, low=None, role=None):
        """Whole numbers from `low` (-n by default) to n - 1."""
        low = -n if low is None else low
        dtype = self.pick("int64", "int32") if low < 0 else self.pick("int64", "int32", "uint8")
        return Array(tuple(shape), dtype, low, max(n, low + 1), self.int(0, 50), whole=True,
                     role=role or self.pick("input", "constant"))

    def mask(self, shape):
        return Array(tuple(shape), "bool", 0, 2, self.int(0, 50), whole=True, role=self.pick("input", "constant"))

    def axis(self, x, extra=0):
        n = len(x.shape) + extra
        return self.int(-n, n - 1) if n else 0

    def axes(self, x):
        """None, an axis, or several."""
        n = len(x.shape)
        several = tuple(self.draw(st.lists(st.sampled_from(range(n)), unique=True))) if n else ()
        return self.pick(None, several, *([self.axis(x)] if n else []))

    def partner(self, shape):
        """A shape that broadcasts against this one."""
        kept = tuple(1 if self.int(0, 3) == 3 else n for n in shape)
        return kept[self.pick(0, 0, 1, len(shape)):] if shape else ()


@st.composite
def calls(draw, name, recipe):
    """A call by a recipe `recipe(Draw) -> (args, kwargs)` or `(args, kwargs, then)`; one in five is spoiled."""
    drawn = Draw(draw)
    args, kwargs, *then = recipe(drawn)
    call = Call(name, tuple(args), dict(kwargs), tuple(then[0]) if then else None, drawn.kind)
    if drawn.int(0, 4) < 4:
        return call
    places = [("args", i) for i in range(len(args))] + [("kwargs", key) for key in kwargs] + [
        ("then", i) for i in range(len(call.then or ()))]
    if not places:
        return call
    where, place = drawn.pick(*places)
    junk = Code(drawn.pick(*JUNK)) if drawn.flag() else drawn.x(kind=drawn.pick("nice", "whole"))
    if where == "kwargs":
        return dataclasses.replace(call, kwargs={**kwargs, place: junk}, spoiled=True)
    old = getattr(call, where)
    return dataclasses.replace(call, **{where: (*old[:place], junk, *old[place + 1:])}, spoiled=True)
