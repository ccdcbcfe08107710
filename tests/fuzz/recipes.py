"""How each public function is called: a line draws its arguments, with `d`, a `draw.Draw`.

What is public is found out, not listed: `untold()` names what stands neither in `RECIPES` nor, with a reason, in `LEFT_OUT`.
"""
from __future__ import annotations

import dataclasses
import math
import types

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

from .draw import Array, Code, calls
from .references import FILLS, HALVES, OPTIMISERS


def c(*args, **kwargs):
    return args, kwargs


RECIPES = {}


def group(words, recipe, prefix="mg."):
    RECIPES.update({prefix + word: recipe for word in words.split()})


# -- element by element ------------------------------------------------------------------------------------------------

def within(low, high):
    return lambda d: c(d.x(d.big(), low, high))


group("abs negative square exp exp2 expm1 sin cos tanh sinh cosh arctan arcsinh sigmoid erf sign floor ceil trunc relu"
      " softsign silu mish relu6 selu hardswish hardsigmoid logsigmoid isnan isinf isfinite logical_not copy stop_gradient"
      " sinc deg2rad rad2deg", within(-3, 3))
group("log log2 log10 log1p sqrt rsqrt reciprocal", within(0.3, 3))
group("arcsin arccos arctanh tan", within(-0.9, 0.9))
group("arccosh", within(1.2, 4))
group("invert", lambda d: c(d.x(kind="whole")))
group("round", lambda d: c(d.x(low=0.1, high=0.4), **d.some(decimals=lambda: d.int(-2, 3))))
group("gelu", lambda d: c(d.x(d.big()), **d.some(approximate=lambda: d.pick("none", "tanh"))))
group("leaky_relu", lambda d: c(d.x(d.big()), **d.some(negative_slope=lambda: d.pick(0.01, 0.3, 0, -0.5, 2))))
group("elu", lambda d: c(d.x(), **d.some(alpha=lambda: d.pick(1.0, 0.3, 2))))
group("celu", lambda d: c(d.x(), **d.some(alpha=lambda: d.pick(1.0, 0.3, 2))))
group("hardshrink softshrink", lambda d: c(d.x(d.big()), **d.some(lambd=lambda: d.pick(0.5, 0, 2))))
group("threshold", lambda d: c(d.x(d.big()), d.pick(0, 0.5, -1), d.pick(0, 20.0)))
group("softplus", lambda d: c(d.x(d.big()), **d.some(beta=lambda: d.pick(1.0, 0.5, 3))))
group("prelu", lambda d: c(x := d.x(d.shape()), d.x(d.pick((1,), x.shape[1:2] or (1,)), kind="nice", dtype=x.dtype)))
group("nan_to_num", lambda d: c(d.x(), **d.some(nan=lambda: 2.5, posinf=lambda: 7.0, neginf=lambda: -7)))
group("astype", lambda d: c(d.x(), d.pick("float64", "float32", "float16", "int64", "uint8", "bool")))
group("to", lambda d: c(d.x(), d.pick("cpu", "float64", "float32", "bfloat16", "int64")))


def two(low=-3, high=3, second=None):
    def recipe(d):
        x = d.x(d.big(), low, high)
        low2, high2 = second or (low, high)
        return c(*d.swapped(x, d.pick(d.x(d.partner(x.shape), low2, high2), d.x(x.shape, low2, high2), 2, 0.5)))
    return recipe


group("add subtract multiply maximum minimum fmax fmin logaddexp arctan2 hypot equal not_equal less less_equal"
      " greater greater_equal logical_and logical_or logical_xor", two())
group("divide power", two(0.3, 2.5))
group("remainder floor_divide", two(-5.7, 5.7, (1.5, 2.5)))
group("bitwise_and bitwise_or bitwise_xor", lambda d: c(x := d.x(kind="whole", dtype="int64"),
    d.x(d.partner(x.shape), kind="whole", dtype="int64")))
group("where", lambda d: c(d.mask(s := d.shape()), d.x(d.partner(s)), d.x(d.partner(s))))
group("clip", lambda d: c(x := d.x(), *d.pick((-1, 1.5), (None, 1), (-0.5, None), (d.x(d.partner(x.shape)), d.x(x.shape)))))

# -- reductions, and along an axis -------------------------------------------------------------------------------------

group("sum mean logsumexp any all nansum nanmean",
      lambda d: c(x := d.x(d.big()), **d.some(axis=lambda: d.axes(x), keepdims=d.flag)))
group("max min nanmax nanmin", lambda d: c(x := d.x(d.shape(low=1)), **d.some(axis=lambda: d.axes(x), keepdims=d.flag)))
group("prod", lambda d: c(x := d.x(low=-2, high=2), **d.some(axis=lambda: d.axes(x), keepdims=d.flag)))
group("var std nanvar nanstd", lambda d: c(x := d.x(d.shape(low=1)), **d.some(axis=lambda: d.axes(x), ddof=lambda: d.pick(0, 1),
    keepdims=d.flag)))
group("count_nonzero", lambda d: c(x := d.x(), **d.some(axis=lambda: d.axes(x))))
group("argmax argmin", lambda d: c(x := d.x(d.shape(1, low=1)), **d.some(axis=lambda: d.axis(x), keepdims=d.flag)))
group("median", lambda d: c(x := d.x(d.shape(1, low=1)), **d.some(axis=lambda: d.axis(x), keepdims=d.flag)))
group("average", lambda d: c(x := d.x(d.shape(1, low=1)), a := d.axis(x),
                             d.x(d.pick(x.shape, x.shape[a:][:1]), 0.5, 2)))
group("quantile", lambda d: c(  # between infinities NumPy's is NaN
    x := d.x(d.shape(low=1), kind="nice" if d.kind == "special" else None), d.pick(0.0, 1.0, 0.5, 0.3, 0.77), **d.some(
        axis=lambda: d.axes(x), keepdims=d.flag, method=lambda: d.pick("linear", "lower", "higher", "nearest", "midpoint"))))
group("trapezoid", lambda d: c(x := d.x(d.shape(1), dtype=d.dtype), **d.some(axis=lambda: d.axis(x), **d.pick(
    {"dx": lambda: d.pick(0.5, 2)}, {"x": lambda: d.x(x.shape, dtype=x.dtype)}))))
group("interp", lambda d: c(d.x(dtype="float64"), Code(f"np.linspace(-1, 2, {(n := d.int(1, 4))})"),  # NumPy's is always float64
                            d.x((n,), dtype="float64", kind="nice"), **d.some(left=lambda: 0.5, right=lambda: -2)))
group("argsort cumsum cumprod", lambda d: c(x := d.x(d.shape(1)), **d.some(axis=lambda: d.axis(x))))
group("sort", lambda d: c(x := d.x(d.shape(1)), **d.some(axis=lambda: d.axis(x), descending=d.flag)))
group("top_k", lambda d: c(x := d.x(d.shape(1, low=1)), d.int(0, x.shape[a := d.axis(x)]), a, **d.some(largest=d.flag)))
group("softmax log_softmax", lambda d: c(x := d.x(d.big(1)), **d.some(axis=lambda: d.axis(x))))
group("l2_normalize", lambda d: c(x := d.x(d.shape(1)), **d.some(axis=lambda: d.axis(x), eps=lambda: 1e-3)))
group("cosine_similarity", lambda d: c(x := d.x(d.shape(1, low=1)), d.x(x.shape), **d.some(axis=lambda: d.axis(x))))
group("glu", lambda d: c(x := d.x((*d.shape(0, 2), 2 * d.int(0, 2))), **d.some(axis=lambda: -1)))
group("diff", lambda d: c(x := d.x(d.shape(1)), **d.some(n=lambda: d.int(0, 3), axis=lambda: d.axis(x),
                                                            prepend=lambda: 0.5, append=lambda: d.x(x.shape, dtype=x.dtype))))
group("weight_norm", lambda d: c(v := d.x(d.shape(1, low=1)), d.x((v.shape[0],) + (1,) * (len(v.shape) - 1), 0.5, 2)))

# -- arrangements ------------------------------------------------------------------------------------------------------


def reshaped(d):
    x = d.x(d.shape(low=1))
    sides = list(x.shape)[::d.pick(1, -1)]
    if sides and d.flag():
        sides[d.int(0, len(sides) - 1)] = -1
    return c(x, tuple(sides))


def joined(d):
    x = d.x(d.shape(1))
    a = d.axis(x)
    other = d.x(tuple(d.int(0, 3) if i == a % len(x.shape) else n for i, n in enumerate(x.shape)))
    return c([x, other][::d.pick(1, -1)], **d.some(axis=lambda: a) if a % len(x.shape) else {})


def ones(x):
    """The axes of length 1."""
    return tuple(i for i, n in enumerate(x.shape) if n == 1)


def same(d):
    x = d.x(d.shape())
    return [x, d.x(x.shape)]


def order(d, x):
    return tuple(d.draw_permutation(len(x.shape)))


group("reshape", reshaped)
group("ravel", lambda d: c(d.x()))
group("zeros_like ones_like", lambda d: c(d.x(),
                                          **d.some(dtype=lambda: d.pick("float64", "float16", "int64", "bool"))))
group("full_like", lambda d: c(x := d.x(), d.pick(2, 0.5, True, d.x(d.partner(x.shape)))))
group("flatten", lambda d: c(x := d.x(d.shape(1)), **({"start_axis": a} if (a := d.axis(x)) and d.flag() else {})))
group("transpose", lambda d: c(x := d.x(), *([order(d, x)] if d.flag() else [])))
group("swapaxes", lambda d: c(x := d.x(d.shape(1)), d.axis(x), d.axis(x)))
group("moveaxis", lambda d: c(x := d.x(d.shape(1)), d.axis(x), d.axis(x)))
group("expand_dims", lambda d: c(x := d.x(), d.axis(x, 1)))
group("squeeze", lambda d: c(x := d.x(d.shape(low=1, high=2)), **d.some(axis=lambda: ones(x))))
group("broadcast_to", lambda d: c(d.x(d.partner(s := d.shape())), s))
group("concatenate", joined)
group("stack", lambda d: c(xs := same(d), **d.some(axis=lambda: d.axis(xs[0], 1))))
group("atleast_1d atleast_2d atleast_3d", lambda d: c(*[d.x() for _ in range(d.int(1, 2))]))
group("meshgrid", lambda d: c(*[d.x(d.shape(1, 1)) for _ in range(d.int(0, 3))], **d.some(
    indexing=lambda: d.pick("xy", "ij"), sparse=d.flag)))
group("rot90", lambda d: c(x := d.x(d.shape(2)), **d.some(k=lambda: d.int(-4, 4),
                                                           axes=lambda: order(d, x)[:2])))
group("vstack hstack column_stack dstack", lambda d: c(same(d)))
group("unstack", lambda d: c(x := d.x(d.shape(1)), **d.some(axis=lambda: d.axis(x))))
group("split array_split", lambda d: c(x := d.x(d.shape(1)), d.pick(1, 2, [1], [0, 2], [-1], []),
                                       **d.some(axis=lambda: d.axis(x))))
group("pad", lambda d: c(x := d.x(d.shape(low=1)), d.pick(0, 1, (1, 2), [(d.int(0, 2), d.int(0, 2)) for _ in x.shape] or 0),
                         **d.some(mode=lambda: d.pick("constant", "edge", "reflect", "symmetric", "wrap"))))
group("flip", lambda d: c(x := d.x(), **d.some(axis=lambda: d.axes(x))))
group("roll", lambda d: c(x := d.x(d.shape(1)), d.int(-4, 4), **d.some(axis=lambda: d.axis(x))))
group("repeat", lambda d: c(x := d.x(d.shape(1)), d.int(0, 3), **d.some(axis=lambda: d.axis(x))))
group("tile", lambda d: c(d.x(d.shape(0, 2)), d.pick(0, 2, (2, 1), (1, 2, 3), ())))
group("getitem", lambda d: c(d.x((3, 2, 4), kind=d.kind), d.pick(
    0, -1, None, (0, 1), (Code("slice(None, None, -1)"), 1), Code("..."), (Code("..."), -2), d.indices(d.shape(), 3),
    d.mask((3,)), d.mask((3, 2)),
    (d.indices((2,), 3), Code("slice(None)"), d.indices((2, 1), 4)), [0, 2, 2], (Code("slice(1, 1)"),),
    (None, Code("slice(-2, 9, 2)")), [], (), True)))
group("index_add index_update", lambda d: c(x := d.x((3, 2), kind=d.kind), d.pick(
    0, Code("slice(None, None, 2)"), (1, 1), [0, 0], d.indices((2,), 3), d.mask((3, 2))), d.x((), dtype=x.dtype)))
group("take", lambda d: c(x := d.x(d.shape(1, low=1)), d.indices(d.shape(0, 2), 1), **d.some(axis=lambda: d.axis(x))))
group("take_along_axis", lambda d: c(x := d.x(d.shape(1, low=1)), d.indices(x.shape, 1), d.axis(x)))
group("scatter scatter_add", lambda d: c(x := d.x(d.shape(1, low=1)), i := d.indices(x.shape, 1), d.x(i.shape, dtype=x.dtype),
                                         d.axis(x)))
group("one_hot", lambda d: c(d.indices(d.shape(), 3, 0), d.int(3, 5), 
                             **d.some(dtype=lambda: d.pick("float64", "int64", "bool"))))
group("embedding", lambda d: c(d.indices(d.shape(), 3, 0), d.x((3, d.int(0, 4))), **d.some(padding_idx=lambda: d.int(0, 2))))

# -- linear algebra ----------------------------------------------------------------------------------------------------


def product(d):
    k, lead = d.int(0, 4), d.shape(0, 2)
    left, right = (*lead, d.int(0, 3), k), (*d.partner(lead), k, d.int(0, 3))
    return c(d.x(d.pick(left, left, (k,))), d.x(d.pick(right, right, (k,))))


def square(d, diagonal=8.0):
    n = d.pick(0, 1, 2, 2, 3, 3)
    return dataclasses.replace(d.x((*d.shape(0, 1), n, n), kind="nice"), diagonal=diagonal, layout=d.pick("dense", "F"))


def oblong(d):
    """Matrices of any sides."""
    return dataclasses.replace(d.x((*d.shape(0, 1), d.int(0, 4), d.int(0, 4)), kind="nice"), layout=d.pick("dense", "F"))


EINSUMS = {"ij->ji": 1, "ij,jk->ik": 2, "ij,jk": 2, "ii->i": 1, "ii": 1, "ij->": 1, "ij,ij->i": 2, "...i,...i->...": 2,
           "...ij,...jk": 2,
           "ij,kj->ikj": 2, "...ij->...": 1}
group("matmul", product)
group("dot", lambda d: c(d.x((*d.shape(0, 1), k := d.int(0, 3))), d.x(d.pick((k,), (k, d.int(0, 3)), (2, k, 2)))))
group("inner", lambda d: c(d.x((*d.shape(0, 2), k := d.int(0, 3))), d.x((*d.shape(0, 1), k))))
group("outer", lambda d: c(d.x(d.shape(0, 2)), d.x(d.shape(0, 1))))
group("vdot", lambda d: c(x := d.x(d.shape(0, 2)), d.x(x.shape)))
group("cov", lambda d: c(x := d.x((d.int(1, 3), d.int(2, 4)), dtype="float64"),
                         *([d.x(x.shape, dtype="float64")] if d.flag() else []),
                         **d.some(rowvar=d.flag, bias=d.flag, ddof=lambda: d.int(0, 1))))
group("polyval", lambda d: c(d.x((d.int(0, 4),), dtype=d.dtype),  # NumPy begins with 0 times x, which of infinity is NaN
                             d.x(dtype=d.dtype, kind="nice" if d.kind == "special" else None)))
group("corrcoef", lambda d: c(d.x((d.int(1, 3), d.int(3, 5)), kind="nice", dtype="float64")))
group("convolve", lambda d: c(*[d.x((d.int(1, 5),), kind="nice" if d.kind == "special" else None, dtype=d.dtype) for _ in "xy"],
                              **d.some(mode=lambda: d.pick("full", "same", "valid"))))
group("kron", lambda d: c(d.x(d.shape(0, 2)), d.x(d.shape(0, 2))))
group("tensordot", lambda d: c(x := d.x((2, 3, 2)), *d.pick((d.x((3, 2)), 2), (d.x((2,)), 1),
    (d.x((), kind="nice" if d.kind == "special" else None), 0),  # NumPy makes 0 of NaN times one 0
    (d.x((2, 2)), ([0, 2], [1, 0])))))
group("einsum", lambda d: c(s := d.pick(*EINSUMS), *[d.x((2, 2), kind="nice" if d.kind == "special" else d.kind)
    for _ in range(EINSUMS[s])]))
group("diagonal trace", lambda d: c(x := d.x(d.shape(2, 3)), **d.some(offset=lambda: d.int(-3, 3)),
                                    **({"axis1": 1, "axis2": 0} if d.flag() else {})))
group("tril triu", lambda d: c(d.x(d.shape(2, 3)), **d.some(k=lambda: d.int(-3, 3))))
group("diag", lambda d: c(d.x(d.shape(1, 2)), **d.some(k=lambda: d.int(-2, 2))))
group("cross", lambda d: c(x := d.x((*d.shape(0, 2), 3)), d.x((*d.partner(x.shape[:-1]), 3))))
group("matrix_power", lambda d: c(*d.pick(  # of infinities the order of the products decides, which is NumPy's own
    (d.x((*d.shape(0, 1), n := d.int(1, 3), n), -1, 1, kind="nice" if d.kind == "special" else None), d.int(1, 4)),
    (square(d), d.int(-3, -1)))))
group("inv det slogdet logdet", lambda d: c(square(d)))
group("det", lambda d: c(square(d, d.pick(8.0, 0.0))))
group("solve", lambda d: c(a := square(d), d.x(d.pick((*a.shape[:-1], 2), (*d.partner(a.shape[:-2]), a.shape[-1], d.int(0, 3)),
                                                      a.shape[-1:]))))
group("cholesky", lambda d: c(square(d)))
group("eigh", lambda d: c(square(d)))
group("eigvalsh", lambda d: c(square(d), **d.some(UPLO=lambda: d.pick("L", "U"))))
group(" ".join(HALVES), lambda d: c(square(d)), "symmetric.")
group("svdvals", lambda d: c(oblong(d)))
group("pinv", lambda d: c(dataclasses.replace(oblong(d), diagonal=8.0)))  # no singular value near 0
group("svd", lambda d: c(oblong(d), full_matrices=False, **d.some(compute_uv=d.flag)))
group("qr", lambda d: c(dataclasses.replace(oblong(d), diagonal=8.0)))  # no dependent columns
group("norm", lambda d: c(*d.pick(
    (d.x(d.shape(1, 2, low=1)), d.pick(None), d.pick(None, -1)),
    (d.x(d.shape(1, 2, low=1)), d.pick(None, 1, 2, 3, 0, math.inf, -math.inf, 0.5, -1, -2.5), 0),
    (d.x((*d.shape(0, 1, low=1), d.int(1, 3), d.int(1, 3))), d.pick(None, "fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf),
     d.pick((-2, -1), (-1, -2)))), **d.some(keepdims=d.flag)))
group("cdist", lambda d: c(x := d.x((*d.shape(0, 1), d.int(0, 3), d.int(0, 3))),
                           d.x((*d.partner(x.shape[:-2]), d.int(0, 3), x.shape[-1]), *((3.5, 8) if d.kind == "nice" else ())),
                           **d.some(p=lambda: d.pick(0, 0.5, 1, 2, 3.0, math.inf))))
group("bilinear", lambda d: c(x := d.x((*d.shape(0, 2), d.int(0, 4)), dtype=d.near()),
                              y := d.x((*x.shape[:-1], d.int(0, 3)), dtype=x.dtype),
                              d.x((m := d.int(0, 3), x.shape[-1], y.shape[-1]), dtype=x.dtype),
                              *d.pick([], [d.x((m,), dtype=x.dtype)])))
group("linear", lambda d: c(x := d.x((*d.shape(0, 2), d.int(0, 4))), d.x((m := d.int(0, 3), x.shape[-1])),
                            *([d.x((m,))] if d.flag() else [])))

# -- images ------------------------------------------------------------------------------------------------------------


def convolution(axes, transposed=False):
    def recipe(d):
        groups, wide = d.pick(1, 1, 2), d.pick(1, 1, 1, 8)
        inputs, outputs = groups * d.int(1, 2) * wide, groups * d.int(1, 2) * wide
        kernel, sides = [d.int(1, 3) for _ in range(axes)], [d.int(5, 8) for _ in range(axes)]
        shape = (inputs, outputs // groups) if transposed else (outputs, inputs // groups)

        def number(low, high):
            return d.int(low, high) if axes == 1 else d.pick(n := d.int(low, high), (n, d.int(low, high)))

        weight = d.x((*shape, *kernel), -1, 1, kind="nice" if d.kind == "special" else None)  # padding is multiplied by it
        return c(d.x((d.int(0, 2), inputs, *sides)), weight, *([d.x((outputs,))] if d.flag() else []), groups=groups,
                 **d.some(stride=lambda: number(1, 3), padding=lambda: number(0, 1 if transposed else 2),
                          dilation=lambda: number(1, 2)))
    return recipe


def pooling(axes):
    def recipe(d):
        kernel = d.int(1, 3)
        return c(d.x((d.int(0, 2), d.int(0, 3), *[d.int(3, 7) for _ in range(axes)])), kernel,
                 **d.some(stride=lambda: d.int(1, 3), padding=lambda: d.int(0, kernel // 2)))
    return recipe


def images(d, low=1, kind=None):
    return d.x((d.int(0, 2), d.pick(1, 2, 3, 16), d.int(low, 6), d.int(low, 6)), kind=kind)


def with_relu(d):
    args, kwargs = convolution(2)(d)
    return args, {**kwargs, **d.some(most=lambda: d.pick(6.0, 0.25, math.inf))}


group("conv2d_relu", with_relu)
for axes in (1, 2):
    group(f"conv{axes}d", convolution(axes))
    group(f"conv_transpose{axes}d", convolution(axes, True))
    group(f"max_pool{axes}d avg_pool{axes}d", pooling(axes))
group("adaptive_avg_pool2d adaptive_max_pool2d", lambda d: c(images(d), d.pick(1, 2, 3, (2, None), (d.int(1, 4), d.int(1, 4)))))
group("adaptive_avg_pool1d adaptive_max_pool1d",
      lambda d: c(d.x((d.int(0, 2), d.pick(1, 2, 3, 16), d.int(1, 6))), d.pick(1, 2, 3)))


def seen_by_windows(d):
    """Images, and windows that fit them."""
    return c(d.x((d.int(0, 2), d.int(1, 2), d.int(5, 7), d.int(5, 7))), d.pick(1, 2, (3, 1)), **d.some(
        dilation=lambda: d.int(1, 2), padding=lambda: d.pick(1, (0, 2)), stride=lambda: d.pick(2, (1, 3))))


group("unfold", seen_by_windows)
group("fold", lambda d: c(d.x((d.int(0, 2), 4, 12)), *d.pick(((5, 4), 2), ((8, 7), 2, 1, 0, 2), ((4, 5), (2, 1), 1, (0, 1), (1, 2)))))
group("pixel_shuffle", lambda d: c(d.x((d.int(0, 2), d.pick(4, 8), *d.shape(2, 2)), dtype=d.near()), d.pick(1, 2)))
group("pixel_unshuffle", lambda d: c(d.x((*d.shape(2, 2), d.pick(2, 4), d.pick(2, 6)), dtype=d.near()), d.pick(1, 2)))
group("affine_grid", lambda d: c(d.x((n := d.int(0, 2), 2, 3)), (n, d.int(1, 3), d.int(0, 4), d.int(0, 4)), align_corners=d.flag()))
group("interpolate", lambda d: c(images(d), **d.pick({"size": (d.int(1, 5), d.int(1, 5))},
    {"scale_factor": d.pick(2, 1.5, 3.0)}),
                                 **d.pick({}, {"mode": "nearest"}, {"mode": "nearest-exact"}, {"mode": "area"}, {"mode": "bicubic"},
                                          {"mode": "bilinear", "align_corners": d.flag()})))
group("grid_sample", lambda d: c(x := images(d), d.x((x.shape[0], d.int(0, 3), d.int(0, 3), 2), -1.2, 1.2),
                                 **d.some(padding_mode=lambda: d.pick("zeros", "border")), align_corners=d.flag()))

# -- normalisation, attention, losses ----------------------------------------------------------------------------------


def batch_norm(d, shape=None, settings={}):
    x = d.x(shape or (d.int(2, 4), d.int(1, 3), *d.pick((), (d.int(1, 4),), (d.int(2, 4), d.int(2, 4)))))
    n, dtype = x.shape[1:2], "float64" if x.dtype == "float64" else "float32"
    state = lambda low: Array(n, dtype, low, 2, d.int(0, 9), role="state")
    affine = [d.x(n, dtype=x.dtype if x.dtype.startswith(("f", "b")) and x.dtype != "bool" else "float64", kind="nice")
              for _ in range(2)]
    return c(x, state(-1), state(0.5), *affine, training=d.flag(), **d.some(eps=lambda: 0.1), **settings)


def affine(d, shape, most=2):
    return [d.x(shape, dtype=d.near()) for _ in range(d.int(0, most))]


def attention(d, more=False):
    """With `more`, what PyTorch has not: a prefix, and the weights."""
    lead, width, keys, queries = d.shape(0, 2, 1, 3), d.int(1, 4), d.pick(1, 2, 4, 4, 70), d.pick(1, 2, 4, 4, 66)
    heads = d.int(1, lead[-1]) if lead and d.flag() else 0
    grouped = {"enable_gqa": True} if heads and lead[-1] % heads == 0 else {}
    apart = (*lead[:-1], heads) if grouped else lead if d.flag() else d.partner(lead)
    q, k, v = (*lead, queries, width), (*apart, keys, width), (*apart, keys, d.pick(width, width, d.int(1, 4)))
    settings = d.some(is_causal=d.flag, scale=lambda: 0.5)
    if d.flag():
        shape = (*d.pick((), d.partner(lead)), queries, keys)
        settings["attn_mask"] = d.pick(d.mask(shape), d.x(shape, dtype=d.near()))
    settings.update(grouped)
    if more:
        n = d.int(1, 3)
        settings.update(d.some(prefix=lambda: tuple(d.x((n, w), dtype=d.dtype, kind="nice") for w in (width, v[-1])),
                               return_weights=d.flag))
    return c(*[d.x(s, dtype=d.near(), kind="nice") for s in (q, k, v)], **settings)


def logits(d):
    return d.x(d.pick((d.int(1, 4), d.int(1, 5)), (d.int(0, 4), 3), (2, 3, 2), (4,)))


def labels(d, x):
    shape, classes = (x.shape[:1] + x.shape[2:], x.shape[1]) if len(x.shape) > 1 else ((), x.shape[0])
    return d.indices(shape, classes, 0, "constant")


def reduction(d):
    return d.some(reduction=lambda: d.pick("mean", "sum", "none"))


def two_alike(low=-3, high=3, low2=-3, high2=3, **settings):
    def recipe(d):
        x = d.x(low=low, high=high)
        return c(x, d.x(x.shape, low2, high2, dtype=x.dtype), **reduction(d),
                 **d.some(**{k: (lambda v=v: d.pick(*v)) for k, v in settings.items()}))
    return recipe


def signs(d, shape):
    """1 and -1."""
    return Array(tuple(shape), "int64", 1, 2, whole=True, special=tuple((i, -1) for i in range(d.int(0, 5))), role="constant")


def unit(inputs, size, gates=3):
    n = gates * size
    return lambda d: [d.x(s, dtype=d.near()) for s in ((n, inputs), (n, size), (n,), (n,))]


group("batch_norm", batch_norm)
group("norm_relu_pool", lambda d: batch_norm(d, (2, d.int(1, 3), d.int(2, 5), d.int(2, 5))))
group("layer_norm", lambda d: c(x := d.x((*d.shape(0, 2), d.int(2, 5)), dtype=d.near()), x.shape[-1], *affine(d, x.shape[-1:]),
                                **d.some(eps=lambda: 0.1)))
group("rms_norm", lambda d: c(x := d.x((*d.shape(0, 2), d.int(2, 5)), dtype=d.near()), x.shape[-1],
                              *affine(d, x.shape[-1:], 1), **d.some(eps=lambda: 0.1)))
group("group_norm", lambda d: c(x := d.x((d.int(0, 3), 4, *d.shape(1, 2, 1)), dtype=d.near()), d.pick(1, 2, 4),
                                *affine(d, (4,)), **d.some(eps=lambda: 0.1)))
group("scaled_dot_product_attention", lambda d: attention(d, more=True))
group("packed_attention", lambda d: c(x := d.x((d.int(1, 2), d.pick(1, 2, 4, 4, 66), 3, d.int(1, 2), d.int(1, 4)),
                                               dtype=d.near(), kind="nice"), **d.some(
    attn_mask=lambda: d.mask((x.shape[1], x.shape[1])), is_causal=d.flag, scale=lambda: 0.5)))
group("hardtanh", lambda d: c(d.x(d.big()), **d.some(min_val=lambda: d.pick(-1, -0.25), max_val=lambda: d.pick(0.5, 2))))
group("dropout2d", lambda d: c(d.x((d.int(0, 3), d.int(1, 3), *d.shape(1, 2))), **d.some(p=lambda: d.pick(0, 0.4, 1), training=d.flag)))
group("dropout drop_path", lambda d: c(d.x(), **d.some(p=lambda: d.pick(0, 0.4, 1, 0.999), training=d.flag)))
group("gumbel_softmax", lambda d: c(x := d.x(d.shape(1)), **d.some(tau=lambda: d.pick(0.5, 2, 10), axis=lambda: d.axis(x))))
group("cross_entropy", lambda d: c(x := logits(d), d.pick(labels(d, x), d.x(x.shape, 0, 1, dtype=x.dtype)), **reduction(d),
                                   **d.some(label_smoothing=lambda: 0.2)))
group("nll_loss", lambda d: c(x := logits(d), labels(d, x), **reduction(d), **d.some(ignore_index=lambda: 0)))
group("kl_div", two_alike(low2=0.1, log_target=(False,)))
group("kl_divergence", lambda d: c(x := d.x(d.shape(1)), d.x(x.shape, dtype=x.dtype), **reduction(d)))
group("binary_cross_entropy", two_alike(0.1, 0.9, 0.1, 0.9))
group("binary_cross_entropy_with_logits", two_alike(low2=0, high2=1))
group("mse_loss l1_loss", two_alike())
group("huber_loss", two_alike(delta=(0.5, 2)))
group("smooth_l1_loss", two_alike(beta=(0.5, 2, 0)))
group("triplet_margin_loss", lambda d: c(x := d.x(d.shape(1, low=1)), d.x(x.shape, dtype=x.dtype), d.x(x.shape, dtype=x.dtype),
                                         **d.some(
    margin=lambda: d.pick(0, 2.5), p=lambda: d.pick(2, 3), swap=lambda: d.pick(False, True),
    reduction=lambda: d.pick("mean", "sum", "none"))))
group("margin_ranking_loss", lambda d: c(x := d.x(), d.x(x.shape, dtype=x.dtype), signs(d, x.shape), **reduction(d),
                                         **d.some(margin=lambda: d.pick(0.5, -0.3))))
group("hinge_embedding_loss", lambda d: c(x := d.x(), signs(d, x.shape), **reduction(d), **d.some(margin=lambda: d.pick(0.5, 2))))
group("cosine_embedding_loss", lambda d: c(x := d.x(d.shape(1, 2, low=1)), d.x(x.shape, dtype=x.dtype), signs(d, x.shape[:-1]),
                                           **reduction(d), **d.some(margin=lambda: 0.3)))
group("gaussian_nll_loss", lambda d: c(x := d.x(d.shape(1)), d.x(x.shape, dtype=x.dtype), d.x(
    d.pick(x.shape, x.shape[:-1], (*x.shape[:-1], 1)), 0.3, 2, dtype=x.dtype), **reduction(d), **d.some(full=d.flag)))
group("poisson_nll_loss", lambda d: c(x := d.x(low=0.2, high=2), d.x(x.shape, 1.5, 6, dtype=x.dtype), **reduction(d),
                                      **d.some(log_input=d.flag, full=d.flag)))


def unaligned(d):
    """Log-probabilities that are none of a softmax, so that gradients are those of the numbers; PyTorch takes no others."""
    n = d.int(1, 2)
    return [d.x((d.int(5, 6), n, 4), -3, 0, dtype=d.near()), d.indices((n, 2), 4, 1, "constant"), [5, 4][:n], [2, 1][:n]]


group("ctc_loss", lambda d: c(*unaligned(d), **reduction(d), **d.some(zero_infinity=d.flag)))
group("gru_cell", lambda d: c(d.x((2, 3), dtype=d.near()), d.x((2, 2), dtype=d.near()), *unit(3, 2)(d)))
group("rnn_cell", lambda d: c(d.x((2, 3), dtype=d.near()), d.x((2, 2), dtype=d.near()), *unit(3, 2, 1)(d),
                              **d.some(nonlinearity=lambda: d.pick("tanh", "relu"))))
group("rnn", lambda d: c(d.x((d.int(1, 3), 2, 3), dtype=d.near()), d.x((2, 2), dtype=d.near()), *unit(3, 2, 1)(d),
                         **d.some(nonlinearity=lambda: "relu", reverse=d.flag)))
group("lstm_cell", lambda d: c(d.x((2, 3), dtype=d.near()), *[d.x((2, 2), dtype=d.near()) for _ in "hc"], *unit(3, 2, 4)(d)))
group("lstm", lambda d: c(d.x((d.int(1, 3), 2, 3), dtype=d.near()), *[d.x((2, 2), dtype=d.near()) for _ in "hc"],
                          *unit(3, 2, 4)(d), **d.some(reverse=d.flag)))
group("gru", lambda d: c(d.x((d.int(1, 3), 2, 3), dtype=d.near()), d.x((2, 2), dtype=d.near()), *unit(3, 2)(d),
                         **d.some(reverse=d.flag)))

# -- made of nothing ---------------------------------------------------------------------------------------------------

group("zeros ones randn rand", lambda d: c(*d.pick(d.shape(), (d.shape(),)),
                                           **d.some(dtype=lambda: d.pick("float64", "float16"))))
group("full", lambda d: c(d.pick(d.shape(), d.int(0, 3)), d.pick(2, 0.5, True, -1),
                          **d.some(dtype=lambda: d.pick("float64", "int64"))))
group("arange", lambda d: c(*d.pick((d.int(-2, 5),), (d.int(-2, 2), d.int(-3, 5)), (0, 2, 0.5), (5, 0, -2)),
                            **d.some(dtype=lambda: "float64")))
group("linspace", lambda d: c(d.int(-3, 3), d.int(-3, 3), d.int(0, 5),
                              **d.some(dtype=lambda: d.pick("float64", "int64"))))
group("logspace", lambda d: c(d.int(-3, 3), d.int(-3, 3), d.int(0, 5),
                              **d.some(base=lambda: 2.0, dtype=lambda: "float64")))
group("eye", lambda d: c(d.int(0, 3), *([d.int(0, 3), d.int(-2, 2)] if d.flag() else []), **d.some(dtype=lambda: "int64")))

# -- nn.functional, where it is not the operation of that name ------------------------------------------------------------

group("conv1d", convolution(1), "F.")
group("conv2d", convolution(2), "F.")
group("conv_transpose1d", convolution(1, True), "F.")
group("conv_transpose2d", convolution(2, True), "F.")
group("softmax log_softmax", lambda d: c(x := d.x(d.shape(1), dtype=d.near()), dim=d.axis(x)), "F.")
group("gumbel_softmax", lambda d: c(x := d.x(d.shape(1)), **d.some(tau=lambda: d.pick(0.5, 2), dim=lambda: d.axis(x))), "F.")
group("glu", lambda d: c(d.x((*d.shape(0, 2), 2 * d.int(1, 2))), **d.some(dim=lambda: -1)), "F.")
group("one_hot", lambda d: c(d.indices(d.shape(), 3, 0), d.int(3, 5)), "F.")
group("normalize", lambda d: c(x := d.x(d.shape(2, low=1)), **d.some(p=lambda: d.pick(1, 2, 3, float("inf")),
    dim=lambda: d.axis(x))), "F.")
group("cosine_similarity", lambda d: c(x := d.x(d.shape(2, low=1)), d.x(x.shape), **d.some(dim=lambda: d.axis(x))), "F.")
group("pairwise_distance", lambda d: c(x := d.x(d.shape(1, low=1)), d.x(d.partner(x.shape), dtype=x.dtype), **d.some(
    p=lambda: d.pick(1, 2.0, 3, math.inf), keepdim=d.flag)), "F.")
group("embedding", RECIPES["mg.embedding"], "F.")
group("pad", lambda d: c(d.x((d.int(1, 2), d.int(1, 3), d.int(3, 4), d.int(3, 4))),
                         tuple(d.int(0, 2) for _ in range(d.pick(2, 4))),
                         **d.some(mode=lambda: d.pick("constant", "reflect", "replicate", "circular"))), "F.")
group("grid_sample", RECIPES["mg.grid_sample"], "F.")
group("scaled_dot_product_attention", attention, "F.")
group("cross_entropy", lambda d: c(x := logits(d), d.pick(labels(d, x), d.x(x.shape, 0, 1, dtype=x.dtype)), **d.some(
    weight=lambda: d.x((x.shape[1 if len(x.shape) > 1 else 0],), 0.5, 2, dtype=x.dtype), label_smoothing=lambda: 0.2),
    **reduction(d)), "F.")


def layer(inputs, *args, always={}, **settings):
    """The recipe of a layer: settings are given or not, and drawn from the values listed."""
    def recipe(d):
        xs = inputs(d)
        given = {key: d.pick(*values) for key, values in settings.items() if d.flag()}
        return args, {**always, **given}, xs
    return recipe


def of(*shapes, low=-3, high=3):
    return lambda d: [d.x(d.pick(*shapes), low, high, dtype="float32", kind="nice" if d.kind == "whole" else None)]


def two_rows(d):
    return [d.x((2, 3), dtype="float32") for _ in range(2)]


ANY, ROWS, IMAGES = of((2, 3), (4,), (0, 3), (2, 3, 4)), of((2, 4, 6), (1, 4, 5), (0, 4, 5)), of((2, 4, 6, 5), (1, 4, 5, 5),
    (0, 4, 5, 5))
CHOICES = {
    "Identity ReLU ReLU6 SiLU Mish Hardswish Hardsigmoid Sigmoid Tanh SELU Softsign LogSigmoid": layer(ANY),
    "GELU": layer(ANY, approximate=["none", "tanh"]),
    "LeakyReLU": layer(ANY, negative_slope=[0.1, 0, -1]), "ELU": layer(ANY, alpha=[0.5, 2]),
    "CELU": layer(ANY, alpha=[0.5, 2]), "Hardshrink Softshrink": layer(ANY, lambd=[0, 1]), "Threshold": layer(ANY, 0.5, 20),
    "Softplus": layer(ANY, beta=[0.5, 3]),
    "Hardtanh": layer(ANY, min_val=[-0.5], max_val=[0.25, 2]), "GLU": layer(IMAGES, 1), "Unflatten": layer(IMAGES, 1, (2, -1)),
    "Dropout2d": layer(IMAGES, p=[0.0, 1.0]), "Softmax LogSoftmax": layer(ANY, 0), "Flatten": layer(IMAGES, start_dim=[0, 1, 2]),
    "ZeroPad2d ReflectionPad2d ReplicationPad2d CircularPad2d": layer(of((2, 4, 6, 5), (4, 3, 4)), (1, 2, 0, 2)),
    "ZeroPad1d ReflectionPad1d ReplicationPad1d CircularPad1d": layer(of((2, 4, 6), (4, 3)), (1, 2)),
    "ConstantPad1d": layer(of((2, 4, 6), (4, 3)), 2, 0.5),
    "ConstantPad2d": layer(of((2, 4, 6, 5), (4, 3, 4)), 2, 0.5),
    "PReLU": layer(IMAGES, num_parameters=[1, 4], init=[0.5]),
    "Dropout DropPath": layer(ANY, p=[0.0, 1.0]), "Linear": layer(of((2, 3), (3,), (2, 0, 3)), 3, 2, bias=[True, False]),
    "Bilinear": layer(lambda d: [d.x((2, n), dtype="float32") for n in (3, 2)], 3, 2, 4, bias=[False]),
    "EmbeddingBag": layer(lambda d: [d.indices((d.int(0, 3), d.int(1, 3)), 4, 0)], 4, 3, mode=["sum"], padding_idx=[0, 2]),
    "Embedding": layer(lambda d: [d.indices(d.shape(), 4, 0)], 4, 3, padding_idx=[0, 2]),
    "Conv1d": layer(ROWS, 4, 6, 3, padding_mode=["zeros", "reflect", "replicate", "circular"], stride=[1, 2], padding=[1, 2], dilation=[1, 2], groups=[2], bias=[False]),
    "Conv2d": layer(IMAGES, 4, 6, 3, padding_mode=["zeros", "reflect", "replicate", "circular"], stride=[1, (2, 1)], padding=[1, 2], dilation=[1, 2], groups=[2], bias=[False]),
    "ConvTranspose1d": layer(ROWS, 4, 6, 3, always={"stride": 2}, padding=[1], output_padding=[0, 1], groups=[2], bias=[False]),
    "ConvTranspose2d": layer(IMAGES, 4, 6, 3, always={"stride": (2, 3)}, padding=[1], output_padding=[0, 1], groups=[2],
                             bias=[False]),
    "MaxPool1d AvgPool1d": layer(ROWS, 3, stride=[1, 2], padding=[0, 1]),
    "MaxPool2d AvgPool2d": layer(IMAGES, 3, stride=[1, 2], padding=[0, 1]),
    "AdaptiveAvgPool2d AdaptiveMaxPool2d": layer(IMAGES, (2, 3)),
    "AdaptiveAvgPool1d AdaptiveMaxPool1d": layer(ROWS, 2),
    "Unfold": layer(IMAGES, 3, dilation=[2], padding=[1], stride=[2, (1, 2)]),
    "Fold": layer(of((2, 4, 12)), (5, 4), 2), "Upsample": layer(IMAGES, scale_factor=[2], mode=["nearest"]),
    "BatchNorm1d": layer(of((3, 4), (2, 4, 3)), 4, eps=[0.1], momentum=[0.5], affine=[False], track_running_stats=[False]),
    "BatchNorm2d": layer(of((2, 4, 3, 3)), 4, eps=[0.1], momentum=[0.5], affine=[False], track_running_stats=[False]),
    "LayerNorm": layer(of((2, 3, 4), (0, 3, 4)), 4, eps=[0.1], elementwise_affine=[False], bias=[False]),
    "RMSNorm": layer(of((2, 3, 4)), 4, eps=[0.1], elementwise_affine=[False]),
    "GroupNorm": layer(IMAGES, 2, 4, eps=[0.1], affine=[False]),
    "InstanceNorm1d": layer(of((3, 4, 5)), 4, eps=[0.1], affine=[True]),
    "InstanceNorm2d": layer(IMAGES, 4, eps=[0.1], affine=[True]), "PixelShuffle": layer(IMAGES, 2), "PixelUnshuffle": layer(of((2, 3, 4, 6), (0, 1, 2, 2)), 2),
    "GRU LSTM RNN": layer(of((3, 2, 4), (1, 1, 4), (3, 4)), 4, 3, num_layers=[1, 2], bias=[False], batch_first=[True],
                      bidirectional=[True]),
    "GRUCell LSTMCell RNNCell": layer(of((2, 4), (4,)), 4, 3, bias=[False]),
    "Attention": layer(of((2, 3, 4)), 4, 2, bias=[False]), "Mlp": layer(of((2, 3, 4)), 4, 5, activation=["relu", "gelu"]),
    "TransformerBlock": layer(of((2, 3, 4)), 4, 2, 5, activation=["relu"], norm_first=[False]),
    "TransformerEncoderLayer": layer(of((2, 3, 4)), 4, 2, 5, 0.0, always={"batch_first": True}, norm_first=[True]),
    "TransformerEncoder": layer(of((2, 3, 4)), Code("nn.TransformerEncoderLayer(4, 2, 5, 0.0, batch_first=True)"), 2),
    "MultiheadAttention": layer(lambda d: [d.x((2, 3, 4), dtype="float32", kind="nice")] * 3, 4, 2, bias=[False]),
    "ConvBlock": layer(of((2, 4, 4, 4)), 4, 3), "WeightNorm": layer(of((2, 3)), Code("nn.Linear(3, 2)")),
    "Sequential": layer(of((2, 3)), Code("nn.Linear(3, 2)"), Code("nn.ReLU()")),
    "MSELoss L1Loss HuberLoss SmoothL1Loss KLDivLoss": layer(lambda d: [d.x((2, 3), dtype="float32"),
        d.x((2, 3), 0.1, 2, dtype="float32")],
                                                             reduction=["mean", "sum", "none"]),
    "BCELoss BCEWithLogitsLoss": layer(lambda d: [d.x((2, 3), 0.1, 0.9, dtype="float32"),
                                                  d.x((2, 3), 0.1, 0.9, dtype="float32")],
                                       reduction=["mean", "sum", "none"]),
    "CrossEntropyLoss NLLLoss": layer(lambda d: [d.x((2, 3), dtype="float32"), d.indices((2,), 3, 0)],
                                      reduction=["mean", "sum", "none"]),
    "MarginRankingLoss": layer(lambda d: [*two_rows(d), signs(d, (2, 3))], 0.25, reduction=["mean", "sum", "none"]),
    "CosineEmbeddingLoss": layer(lambda d: [*two_rows(d), signs(d, (2,))], 0.25, reduction=["mean", "sum", "none"]),
    "HingeEmbeddingLoss": layer(lambda d: [two_rows(d)[0], signs(d, (2, 3))], 1.5, reduction=["mean", "sum", "none"]),
    "GaussianNLLLoss": layer(lambda d: [*two_rows(d), d.x(d.pick((2, 3), (2, 1), (2,)), 0.3, 2, dtype="float32")], full=[True],
                             eps=[0.01], reduction=["mean", "sum", "none"]),
    "PoissonNLLLoss": layer(lambda d: [d.x((2, 3), 0.2, 2, dtype="float32"), d.x((2, 3), 1.5, 6, dtype="float32")],
                            log_input=[False], full=[True], reduction=["mean", "sum", "none"]),
    "CTCLoss": layer(unaligned, reduction=["mean", "sum", "none"], zero_infinity=[True]),
    "CosineSimilarity": layer(two_rows, dim=[0, -1], eps=[0.1]), "PairwiseDistance": layer(two_rows, p=[1.0, 3.0], keepdim=[True]),
    "TripletMarginLoss": layer(lambda d: [d.x((2, 3), dtype="float32") for _ in range(3)], margin=[0.5], p=[1.0, 3.0],
                               reduction=["sum", "none"])}
for words, recipe in CHOICES.items():
    group(words, recipe, "nn.")

# -- optimisers ----------------------------------------------------------------------------------------------------------


def optimiser(always={}, **settings):
    def recipe(d):
        shapes = [d.big() for _ in range(d.int(1, 2))]
        dtypes = [d.pick("float32", "float64", "float32") for _ in shapes]
        columns = [[d.x(s, dtype=t, kind="nice", role="constant") for s, t in zip(shapes, dtypes)] for _ in range(2)]
        return c(*columns, **{**always, **{key: d.pick(*values) for key, values in settings.items() if d.flag()}})
    return recipe


def columns(d, least=1):
    """Arrays of one shape and dtype."""
    shape, dtype = d.big(), d.pick("float32", "float64")
    return [d.x(shape, dtype=dtype, kind=d.pick("nice", "ties"), role="constant") for _ in range(d.int(least, 4))]


group("clip_grad_norm_", lambda d: c(columns(d), d.pick(0.0, 0.5, 1, 100.0, math.inf)), "steps.")
group("EMA", lambda d: c(columns(d), **d.some(decay=lambda: d.pick(0.0, 0.5, 0.99), warmup=d.flag)), "steps.")
group("LossScaler", lambda d: c(columns(d), **d.some(scale=lambda: d.pick(1.0, 8.0), growth=lambda: d.pick(1.0, 4.0),
                                                     backoff=lambda: 0.25, interval=lambda: d.pick(1, 2))), "steps.")
group("SGD", optimiser({"lr": 0.1}, momentum=[0.9], weight_decay=[0.1]), "steps.")
group("RMSprop", optimiser(lr=[0.1], alpha=[0.5, 0.0], eps=[1e-3], weight_decay=[0.1, 0], momentum=[0.9]), "steps.")
group("Adam AdamW", optimiser(lr=[0.1], betas=[(0.5, 0.9), (0.0, 0.0)], eps=[1e-3], weight_decay=[0.1, 0], amsgrad=[True]),
      "steps.")
group("LAMB", optimiser(lr=[0.1], betas=[(0.5, 0.9), (0.0, 0.0)], eps=[1e-3], weight_decay=[0.1, 0]), "steps.")
group("NAdam RAdam", optimiser(lr=[0.1], betas=[(0.5, 0.9), (0.0, 0.0)], eps=[1e-3], weight_decay=[0.1, 0],
                               decoupled_weight_decay=[True]), "steps.")
group("Adagrad", optimiser(lr=[0.1], lr_decay=[0.5], eps=[1e-3], weight_decay=[0.1], initial_accumulator_value=[0.1]), "steps.")
group("Adadelta", optimiser(lr=[0.1], rho=[0.5, 0.0], eps=[1e-3], weight_decay=[0.1]), "steps.")
group("LARS", optimiser({"lr": 0.1}, momentum=[0.9, 0.5], weight_decay=[0.1], nesterov=[True], trust=[0.01]), "steps.")
group("cosine_decay linear_decay", lambda d: ((0.1, d.int(1, 5)), d.some(warmup=lambda: 1, final=lambda: 0.01), (d.int(0, 8),)), "optim.")
group("one_cycle", lambda d: ((0.1, d.int(1, 5)), d.some(pct_start=lambda: d.pick(0.0, 0.5, 1.0), div_factor=lambda: 4.0,
                                                        final_div_factor=lambda: 10.0), (d.int(0, 8),)), "optim.")
group("step_decay", lambda d: ((0.1, d.int(1, 5)), d.some(factor=lambda: 0.1), (d.int(0, 8),)), "optim.")

# -- how parameters start ------------------------------------------------------------------------------------------------


def weight(least=0, **settings):
    def recipe(d):
        x = d.x(d.shape(least, 4), dtype=d.dtype, kind="nice", role="constant")
        return c(x, **{key: d.pick(*values) for key, values in settings.items() if d.flag()})
    return recipe


NONLINEARITIES = "linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"
group("uniform_", weight(a=[-1, 0.5], b=[1, 2.5]), "fills.")
group("normal_", weight(mean=[1, -0.5], std=[0, 0.1, 2]), "fills.")
group("trunc_normal_", weight(mean=[0.5, -1], std=[0, 0.5, 2], a=[-1], b=[1]), "fills.")
group("constant_", lambda d: c(weight()(d)[0][0], d.pick(0, 0.5, -2)), "fills.")
group("zeros_ ones_", weight(), "fills.")
group("eye_", lambda d: c(d.x(d.shape(2, 2), dtype=d.dtype, kind="nice", role="constant")), "fills.")
group("xavier_uniform_ xavier_normal_ orthogonal_", weight(2, gain=[0, 0.5, 2]), "fills.")
group("kaiming_uniform_ kaiming_normal_", weight(2, a=[0, 0.5, math.sqrt(5)], mode=["fan_in", "fan_out"],
                                                 nonlinearity=NONLINEARITIES), "fills.")
group("calculate_gain", lambda d: c(d.pick(*NONLINEARITIES), **d.some(param=lambda: d.pick(0.5, 0, 2))), "init.")
group("fan_in_and_fan_out", lambda d: c(d.x(d.shape(2, 4), kind="nice", dtype=d.dtype)), "init.")

# -- what is public ----------------------------------------------------------------------------------------------------

TRANSFORMS = "transforms"  # grad, jvp and the others, on programs of many operations: programs.py
ELSEWHERE = {  # what is fuzzed under another name
    **{"mg." + name: TRANSFORMS for name in "grad value_and_grad vjp jvp hvp jacobian hessian checkpoint".split()},
    **{"optim." + name: "steps." + name for name in (*OPTIMISERS, "EMA", "LossScaler", "clip_grad_norm_")},
    "optim.clip_grad_norm": "steps.clip_grad_norm_", **{"init." + name: "fills." + name for name in FILLS}}
MODELS = "BERT CLIPText Conv4 ConvLarge EfficientNetLite MAE ResNet VisionTransformer WideResNet efficientnet_lite resnet18 resnet50"
LEFT_OUT = {
    **dict.fromkeys(["nn.Module", "nn.Encoder", "optim.Optimizer"], "a base class"),
    **dict.fromkeys(["nn.ModuleList", "nn.ModuleDict", "nn.ParameterList", "nn.ParameterDict", "nn.Parameter", "mg.Tensor"],
                    "holds what others compute"),
    **dict.fromkeys([f"nn.{n}" for n in MODELS.split()], "a model, of layers that are called here"),
    **dict.fromkeys(["nn.Preprocessing", "nn.load_encoder", "nn.resize_positions"], "takes files: nn/test_published.py"),
    "nn.functional_call": "takes a layer: nn/test_layers.py", "nn.load_published": "takes a file: nn/test_encoders.py",
    "nn.load_clip": "takes files: nn/test_published_clip.py",
    **dict.fromkeys(["nn.load_text_encoder", "nn.published_state"], "takes or makes a file: nn/test_encoders.py"),
    **dict.fromkeys(["mg.draw_graph", "mg.profile", "mg.summary", "mg.activations", "mg.detect_anomaly"], "looks at others: test_inspect.py"),
    **dict.fromkeys(["mg.no_grad", "mg.enable_grad", "mg.Primitive"], "computes nothing: test_engine.py"),
    **dict.fromkeys(["mg.get_num_threads", "mg.set_num_threads"], "computes nothing: backend/test_cpu_threads_memory.py"),
    "optim.ReduceLROnPlateau": "sets an optimiser's rate: test_optim.py",
    "optim.Muon": "is of bfloat16 in PyTorch: test_optim.py",
    "mg.check_derivatives": "a check itself: test_gradient_check.py", "mg.from_dlpack": "test_interop.py",
    **dict.fromkeys(["mg.capture", "mg.cuda_available"], "of GPUs: backend/cuda")}


def public() -> list[str]:
    """The names of all functions and classes that are public."""
    found = []
    for prefix, module in (("mg.", mg), ("F.", F), ("nn.", nn), ("optim.", optim), ("init.", nn.init)):
        found += [prefix + name for name, value in vars(module).items() if callable(value) and not name.startswith("_") and not isinstance(value, types.ModuleType) and (
            prefix not in ("F.", "init.") or getattr(value, "__module__", "") == module.__name__)]
    return found


def untold() -> list[str]:
    """What is public, and neither has a recipe nor a reason for having none."""
    return [name for name in public() if not {name, ELSEWHERE.get(name)} & {*RECIPES, TRANSFORMS, *LEFT_OUT}]


def targets() -> dict:
    """{name: (strategy, check)} of all that is fuzzed."""
    from .check import check
    from .programs import check_transforms, drawn
    return {**{name: (calls(name, recipe), check) for name, recipe in RECIPES.items()}, TRANSFORMS: (drawn(), check_transforms)}
