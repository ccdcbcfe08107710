"""The transforms, on random programs of many operations (those of test_programs.py)."""
from __future__ import annotations

import dataclasses

import numpy as np
from checks import definitions
from hypothesis import strategies as st
from test_programs import KINKS, programs, run

import minigrad as mg

from .check import Finding


@dataclasses.dataclass(frozen=True)
class Program:
    """Inputs and steps, and the seed of the directions."""
    inputs: list
    steps: list
    seed: int

    def code(self) -> str:
        imports = "import numpy as np\nfrom numpy import array\nfrom test_programs import run  # PYTHONPATH=tests\n"
        return f"{imports}inputs = {self.inputs!r}\nsteps = {self.steps!r}\nprint(run(0, steps, inputs))\n"


def drawn() -> st.SearchStrategy:
    return st.builds(lambda program, seed: Program(*program, seed), programs(), st.integers(0, 2 ** 32 - 1))


def check_transforms(program: Program) -> None:
    """Every transform says the same of the program's derivatives."""
    inputs, steps = program.inputs, program.steps
    rng, every = np.random.default_rng(program.seed), tuple(range(len(inputs)))
    vs = [rng.normal(size=x.shape) for x in inputs]

    def f(*xs):
        return run(0, steps, [x if isinstance(x, mg.Tensor) else mg.Tensor(x) for x in xs])

    value, grads = mg.value_and_grad(f, every)(*inputs)
    grads = _arrays(grads)
    slope = sum((g * v).sum() for g, v in zip(grads, vs))
    _same("jvp", [np.asarray(slope)], _arrays(mg.jvp(f, inputs, vs)[1:]))
    again, pull = mg.vjp(f, *inputs)
    _same("vjp", [value.numpy(), *[2 * g for g in grads]], _arrays([again, *pull(mg.Tensor(2.0))]))
    _same("jacobian", grads, _arrays(mg.jacobian(f, every)(*inputs)))
    recomputed = mg.checkpoint(f)
    _same("checkpoint", grads, _arrays(mg.grad(recomputed, every)(*inputs)))
    products = _arrays(mg.hvp(f, inputs, vs))
    _same("checkpoint, second order", products, _arrays(mg.hvp(recomputed, inputs, vs)))
    first = [vs[0]] + [np.zeros_like(v) for v in vs[1:]]
    if inputs[0].size <= 12:
        hessian = mg.hessian(f)(*inputs).numpy()
        _same("hessian", [np.tensordot(hessian, vs[0], vs[0].ndim)], _arrays(mg.hvp(f, inputs, first)[:1]))
    if not any(name in KINKS or name in ("where", "mask") for name, _, _ in steps):
        small = [x.astype(np.float32) for x in inputs]
        _same("float32", grads, _arrays(mg.grad(f, every)(*small)), 1e-2)
    with definitions():
        _same("definitions", grads, _arrays(mg.grad(f, every)(*inputs)))


def _arrays(tensors):
    return [x.numpy() for x in tensors]


def _same(what, xs, ys, tolerance=1e-7):
    scale = max(1, *[np.abs(x).max(initial=0) for x in xs])
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        if x.shape != y.shape or not np.allclose(x, y, rtol=tolerance, atol=tolerance * scale):
            raise Finding(f"{what}: other derivatives in input {i}: {x.tolist()} and {y.tolist()}")
