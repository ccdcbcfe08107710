"""Other libraries: NumPy's functions called on Tensors, DLPack, copying and pickling, imports, CuPy without a GPU."""
import copy
import io
import os
import pathlib
import pickle
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.ops import declare, missing

ROOT = pathlib.Path(__file__).parents[1]

# -- NumPy's functions -----------------------------------------------------------------------------------------------

DISPATCHED = (np.ufunc, type(np.sum))  # what asks its arguments for __array_ufunc__ or __array_function__
FUNCTIONS = {f"{module.__name__}.{name}": getattr(module, name) for module in (np, np.linalg, np.fft) for name in dir(module)
             if isinstance(getattr(module, name), DISPATCHED) and not name.startswith("save")}  # those write files
PLAIN = {"shape", "ndim", "size", "array_repr", "array_str"}  # facts about an array; they carry no gradient

X = np.array([[0.9, 0.2], [0.2, 0.7]])  # symmetric and positive definite, in the domain of nearly everything
V = np.array([[0.3, -0.5], [-0.5, 0.8]])
C = np.array([[0.55, 0.12], [0.13, 0.47]])
CALLS = [  # how functions are tried: from two arrays to positional arguments and keywords
    lambda x, c: ((x,), {}), lambda x, c: ((x, c), {}), lambda x, c: ((c, x), {}), lambda x, c: ((x, x), {}),
    lambda x, c: ((x, 0), {}), lambda x, c: ((x, 1), {}),
    lambda x, c: ((x, 2), {}), lambda x, c: ((x, 2, 0), {}), lambda x, c: ((x, 0, 1), {}), lambda x, c: (([x, c],), {}),
    lambda x, c: (([x, x], 1), {}),
    lambda x, c: ((x, (4, 1)), {}), lambda x, c: ((x, (3, 2, 2)), {}), lambda x, c: ((x, (0, 1)), {}),
    lambda x, c: ((c > 0.3, x, c), {}), lambda x, c: ((c > 0.3, c, x), {}),
    lambda x, c: (("ij,jk->ik", x, c), {}), lambda x, c: ((x, np.array([1, 0, 0]), 1), {}),
    lambda x, c: ((x, np.array([[1, 0]]), 0), {}), lambda x, c: ((x, [1]), {}),
    lambda x, c: ((x,), {"axis": 0}), lambda x, c: ((x,), {"axis": 1, "keepdims": True}),
    lambda x, c: ((x,), {"axis": (0, 1)}), lambda x, c: ((x,), {"axis": None}),
    lambda x, c: ((x,), {"ddof": 1}), lambda x, c: ((x,), {"dtype": np.float32}), lambda x, c: ((x,), {"where": c > 0.3}),
    lambda x, c: ((x,), {"initial": 2.0}),
    lambda x, c: ((x,), {"out": np.zeros((2, 2))}), lambda x, c: ((x, c), {"out": np.zeros((2, 2))}),
    lambda x, c: ((c, c), {"out": x}), lambda x, c: ((c,), {"out": x}),
    lambda x, c: ((x,), {"kind": "stable"}), lambda x, c: ((x,), {"decimals": 1}), lambda x, c: ((x, 1), {"mode": "edge"}),
    lambda x, c: ((x, 1), {"constant_values": 3}),
    lambda x, c: ((x,), {"a_max": 0.5}), lambda x, c: ((x, 0.31, None), {}), lambda x, c: ((x, 0.31, 0.8), {}),
    lambda x, c: ((x,), {"compute_uv": False}),
    lambda x, c: ((x,), {"ord": "fro"}), lambda x, c: ((x,), {"ord": 1, "axis": 1}), lambda x, c: ((x,), {"k": -1}),
    lambda x, c: ((x,), {"offset": 1}), lambda x, c: ((x,), {"order": "F"}),
    lambda x, c: ((x, c), {"axes": 1}), lambda x, c: ((x, 2), {"axis": 1}), lambda x, c: ((x,), {"newshape": (4,)}),
    lambda x, c: ((x, 0), {"keepdims": True}),
    lambda x, c: ((x, 0, None), {}), lambda x, c: ((x, 0, None, None), {}), lambda x, c: ((x, None, np.float32), {}),
    lambda x, c: ((x, 0, None, None, 1), {}), lambda x, c: ((x, 0, None, None, True), {}), lambda x, c: ((x, 0, "raise"), {}),
    lambda x, c: ((x, -1, "stable"), {}), lambda x, c: ((x, (4,), "F"), {}), lambda x, c: ((x, (4,), "C"), {}),
    lambda x, c: ((x, "F"), {}), lambda x, c: ((x, "U"), {}), lambda x, c: ((x, 1, 0, "wrap"), {}),
    lambda x, c: ((np.stack([x, x, x]), np.stack([c, c, c]), 0), {}), lambda x, c: ((x, np.float32), {}),
    lambda x, c: ((x, 1.0, np.float32), {}), lambda x, c: ((x, True, True, True), {}), lambda x, c: ((x, 0.13), {}),
    lambda x, c: ((x, [0, 1], c, [1, 2], [0, 2]), {}), lambda x, c: ((x, [0, 0]), {}), lambda x, c: ((x, [..., 1, 0]), {}),
    lambda x, c: ((x,), {"correction": 1}), lambda x, c: ((x,), {"initial": 0.5, "where": c > 0.3}),
    lambda x, c: ((x,), {"axis": 1, "initial": x}), lambda x, c: ((x,), {"where": [True, False]}),
    lambda x, c: ((x,), {"where": c > 0.3, "axis": 1, "keepdims": True}), lambda x, c: ((x,), {"where": c > 2}),
    lambda x, c: ((x,), {"UPLO": "U"}), lambda x, c: ((x,), {"hermitian": True}), lambda x, c: ((x,), {"upper": True}),
    lambda x, c: ((x,), {"min": 0.3, "max": 0.8}), lambda x, c: ((x,), {"prepend": c}), lambda x, c: ((x,), {"append": 0}),
    lambda x, c: ((x,), {"stable": True}), lambda x, c: ((x,), {"mean": 0.1}), lambda x, c: ((x,), {"copy": False}),
    lambda x, c: ((x,), {"nan": 1.0}), lambda x, c: ((x,), {"mode": "complete"}), lambda x, c: ((x,), {"full_matrices": False}),
    lambda x, c: ((x,), {"rcond": 0.3}), lambda x, c: ((x,), {"rtol": 0.3}), lambda x, c: ((x, 0), {"mode": "clip"}),
    lambda x, c: ((x, c), {"axisa": 0}), lambda x, c: (([x, c],), {"dtype": np.float32}),
    lambda x, c: (([x, c],), {"casting": "no"}), lambda x, c: ((), {"a": x}), lambda x, c: ((), {"a": x, "axis": 0}),
    lambda x, c: ((), {"x": x}), lambda x, c: ((), {"a": x, "b": c}), lambda x, c: ((), {"a": x, "shape": (4,)}),
    lambda x, c: ((), {"arrays": [x, c]}), lambda x, c: ((), {"condition": c > 0.3, "x": x, "y": c})]


def test_a_ufunc_of_an_operations_name_is_answered_by_it():
    assert not [name for name, operation in declare.PUBLIC.items() if isinstance(ufunc := getattr(np, name, None), np.ufunc)
                and declare.NUMPY.get(ufunc) is not operation]


def several(y):
    return list(y) if isinstance(y, (tuple, list)) else [y]


def answer(function, call, x):
    """The results of one call, as a list; None if it raises an error (which must say something)."""
    args, options = call(x, C.copy())
    try:
        return several(function(*args, **options))
    except Exception as error:
        assert str(error)
        return None


def wrong(function, name, call):
    """What is wrong with the answer to a call with a Tensor that requires a gradient; None if it is right or an error."""
    x = mg.Tensor(X, requires_grad=True)
    ours, expected = answer(function, call, x), answer(function, call, X.copy())
    if ours is None or expected is None or name in PLAIN:
        return None
    single = any(np.asarray(e).dtype == np.float32 for e in expected)
    step, rtol = (1e-3, 1e-3) if single else (1e-6, 1e-5)
    ahead, behind = (answer(function, call, X + s * V) for s in (step, -step))
    if not all(isinstance(y, mg.Tensor) for y in ours):  # as np.zeros_like(C, x), which reads no more than x.dtype
        same = all(np.array_equal(a, b) for a, b in zip(expected, answer(function, call, X + V)))
        return None if same else f"a silent {type(ours[0]).__name__}"
    if len(expected) != len(ours):
        return f"{len(ours)} results for NumPy's {len(expected)}"
    for y, e, a, b in zip(ours, expected, ahead, behind):
        if y.shape != np.shape(e) or not np.allclose(y.detach().numpy(), e, rtol=1e-10, equal_nan=True):
            return f"value {y} for NumPy's {e}"
        if name != "where" and y.dtype != np.asarray(e).dtype:
            return f"dtype {y.dtype} for NumPy's {np.asarray(e).dtype}"
        slope = np.zeros(y.shape) if np.asarray(e).dtype.kind in "iub" else (a - b) / (2 * step)
        if not y.requires_grad:
            if np.any(np.nan_to_num(slope)):
                return "a lost gradient"
        elif np.isfinite(slope).all():
            weights = np.cos(np.arange(y.size)).reshape(y.shape)
            along = (mg.grad((y * weights).sum(), x, retain_graph=True).numpy() * V).sum()
            if not np.isclose(along, (slope * weights).sum(), rtol=rtol, atol=rtol / 100):
                return f"slope {along} for {(slope * weights).sum()}"
    return None


@pytest.mark.filterwarnings("ignore")
def test_numpys_functions_are_right_or_refuse():
    """No function of NumPy silently drops the gradient, ignores an argument, or gives a plain array."""
    found = {}
    for full, function in FUNCTIONS.items():
        for number, call in enumerate(CALLS):
            fault = wrong(function, full.rpartition(".")[2], call)
            if fault:
                found[full, number] = fault
    assert not found, "\n".join(f"{key}: {fault}" for key, fault in found.items())


@pytest.mark.filterwarnings("ignore")
def test_numpys_functions_answer_at_all():
    """Those that the table promises are not all refusals."""
    answered = set()
    for full, function in FUNCTIONS.items():
        for call in CALLS:
            if answer(function, call, mg.Tensor(X, requires_grad=True)) is not None:
                answered.add(full.rpartition(".")[2])
    assert {"equal", "argmax", "isnan", "logical_and", "shape", "sum", "einsum", "where", "concatenate", "clip", "pad",
            "norm", "svd", "eigh", "tensordot", "take", "std", "rint"} <= answered
    assert len(answered) > 110, sorted(answered)


def test_conversions_that_would_lose_the_gradient_are_refused():
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    for convert in (np.asarray, np.array, lambda x: np.array([x, x]), lambda x: np.array([x[0], 1.0]),
                    lambda x: mg.Tensor([x, x]), np.ascontiguousarray, np.from_dlpack,
                    lambda x: np.ones(2).dot(x), lambda x: np.ones(2).__setitem__(0, x), lambda x: np.zeros(2).__iadd__(x),
                    lambda x: np.random.default_rng(0).permutation(x),
                    lambda x: np.add.reduce(x), lambda x: np.add.outer(x, x), lambda x: np.multiply.accumulate(x),
                    lambda x: np.add.at(np.zeros(2), [0, 1], x)):
        with pytest.raises((TypeError, ValueError)):
            convert(x)
    assert np.asarray(x.detach()).tolist() == np.array([x.detach()])[0].tolist() == [1, 2]


def test_operators_with_arrays_on_the_left():
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    a, f = np.array([3.0, 4.0]), np.float64(3)
    for y, expected in ((a + x, [4, 6]), (a - x, [2, 2]), (a * x, [3, 8]), (a / x, [3, 2]), (a ** x, [3, 16]), (a @ x, 11),
                        (f - x, [2, 1]), (f / x, [3, 1.5]),
                        (2 - x, [1, 0]), ([3, 4] - x, [2, 2]), (a % x, [0, 0])):
        assert type(y) is mg.Tensor and y.tolist() == expected and y.requires_grad
    assert (a > x).tolist() == [True, True] and type(a > x) is mg.Tensor
    a += 1
    with pytest.raises(TypeError):
        a += x


# -- DLPack ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.int64, np.uint8, bool])
def test_dlpack_shares_memory_with_numpy(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    x = mg.from_dlpack(array)
    back = np.from_dlpack(x if x.data.flags.writeable else mg.Tensor(array))  # NumPy before 2.1 cannot export it again
    assert x.dtype == dtype and (back == array).all() and np.shares_memory(back, array)
    array[0, 0] = 1
    assert x[0, 0].item() == back[0, 0] == 1


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="copy=False is a mere wish before NumPy 2")
def test_a_copy_that_is_forbidden_is_not_made():
    x = mg.Tensor(np.ones(2, np.float32))
    for same in (np.array(x, copy=False), np.array(x, np.float32, copy=False), np.asarray(x)):
        assert np.shares_memory(same, x.numpy())
    assert not np.shares_memory(np.array(x), x.numpy()) and np.asarray(x, int).dtype == int
    with pytest.raises(ValueError, match="without a copy"):
        np.array(x, int, copy=False)


def test_dlpack_is_wanted_of_what_is_imported():
    with pytest.raises(TypeError, match="from_dlpack: .* not list"):
        mg.from_dlpack([1.0])


def test_dlpack_shares_memory_with_torch():
    torch = pytest.importorskip("torch")
    theirs = torch.arange(6.0).reshape(2, 3)
    for source in (theirs, theirs.T):
        x = mg.from_dlpack(source)
        assert x.shape == tuple(source.shape) and x.tolist() == source.tolist()
    theirs[0, 0] = 7
    assert x[0, 0].item() == 7
    again = torch.from_dlpack(mg.Tensor(np.arange(3.0)))
    assert again.tolist() == [0, 1, 2] and again.dtype == torch.float64
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":  # before, NumPy exports nothing that it imported
        assert torch.from_dlpack(x).data_ptr() == theirs.data_ptr()
    with pytest.raises(TypeError, match="gradient"):
        torch.from_dlpack(mg.Tensor([1.0], requires_grad=True))
    assert mg.Tensor(theirs).tolist() == theirs.tolist()


def test_the_size_along_an_axis_is_known_whether_or_not_a_gradient_is_wanted():
    for wanted in (False, True):
        x = mg.Tensor(np.ones((2, 3)), requires_grad=wanted)
        assert (np.size(x), np.size(x, 0), np.size(x, axis=-1)) == (6, 2, 3) and np.size(x * 2, None) == 6


# -- masked arrays ---------------------------------------------------------------------------------------------------


PLACES, MASK = np.ma.array([0, 1], mask=[0, 1]), np.ma.array([True, False], mask=[0, 1])


def load_masked(make):
    from minigrad import nn, optim
    net = nn.Linear(2, 1)
    owner = net if make == "net" else optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    state = owner.state_dict()
    owner.load_state_dict({name: np.ma.array(a, mask=np.ones(a.shape, bool)) if a.ndim else a for name, a in state.items()})


@pytest.mark.parametrize("call", [
    lambda x: mg.Tensor(PLACES), lambda x: x * PLACES, lambda x: x[PLACES], lambda x: x[MASK], lambda x: x[0, MASK],
    lambda x: mg.take(x, PLACES), lambda x: mg.take_along_axis(x, PLACES, None), lambda x: mg.embedding(PLACES, x),
    lambda x: mg.scatter(x[0], PLACES, [1.0, 2.0], 0), lambda x: mg.cross_entropy(x, PLACES), lambda x: mg.one_hot(PLACES, 2),
    lambda x: mg.where(MASK, x, 0), lambda x: mg.sum(x, where=MASK), lambda x: x.__setitem__(MASK, 0.0),
    lambda x: x.__setitem__((0, PLACES), 0.0), lambda x: x.__setitem__(0, PLACES), lambda x: load_masked("net"),
    lambda x: load_masked("optimizer"), lambda x: pytest.importorskip("safetensors") and mg.io.save("never-written", {"a": PLACES})])
def test_masked_elements_never_count(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError, match="masked elements"):
        call(mg.Tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("call, said", [
    (lambda x: mg.take(x, PLACES), "take: indices"), (lambda x: mg.where(MASK, x, 0), "where: condition"),
    (lambda x: mg.scatter(x[0], PLACES, [1.0, 2.0], 0), "scatter: indices"), (lambda x: mg.multiply(x, PLACES), "multiply: y"),
    (lambda x: mg.take_along_axis(x, PLACES, None), "take_along_axis: indices"), (lambda x: mg.equal(x, PLACES), "equal: y")])
def test_an_argument_with_masked_elements_is_named(call, said):
    with pytest.raises(TypeError, match=f"^{said}: .*masked elements"):
        call(mg.Tensor([[1.0, 2.0], [3.0, 4.0]]))


# -- copies ----------------------------------------------------------------------------------------------------------


def test_copies_and_pickles():
    x = mg.Tensor(np.float32([1, 2]), requires_grad=True)
    (x * x).sum().backward()
    for twin in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), copy.deepcopy({"a": [x]})["a"][0]):
        assert twin.tolist() == [1, 2] and twin.dtype == np.float32 and twin.requires_grad
        assert twin is not x and type(twin) is mg.Tensor
        twin.data += 1.0
        assert x.tolist() == [1, 2]
    twin = copy.deepcopy(x)
    twin.grad.data += 1.0
    assert x.grad.tolist() == [2, 4]
    both = copy.deepcopy([x, x])
    assert both[0] is both[1]
    for duplicate, said in ((copy.deepcopy, "copied"), (copy.copy, "copied"), (pickle.dumps, "pickled")):
        with pytest.raises(RuntimeError, match=f"{said}.* x.detach"):
            duplicate(x * 2)
    for twin in (y := x.copy(), np.copy(x), mg.copy(x)):
        assert mg.grad((twin * twin).sum(), x).tolist() == [2, 4]
    y = y.detach()
    y[0] = 7
    assert x.tolist() == [1, 2] and mg.Tensor([[1], [2]]).T.copy().numpy().flags.f_contiguous
    layer = nn.Linear(2, 3)
    again = pickle.loads(pickle.dumps(layer))
    assert (again(mg.Tensor(np.ones((1, 2), np.float32))).numpy() == layer(mg.Tensor(np.ones((1, 2),
                                                                                             np.float32))).numpy()).all()


class Named(mg.Tensor):
    """A subclass with an attribute of its own and another constructor."""

    def __init__(self, name, array):
        super().__init__(array, requires_grad=True)
        self.name = name


def test_copies_and_pickles_of_a_subclass_keep_its_attributes():
    x = Named(["w"], [1.0, 2.0])
    for duplicate in (copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))):
        twin = duplicate(x)
        assert type(twin) is Named and twin.name == ["w"] and twin.tolist() == [1, 2] and twin.requires_grad and twin.is_leaf
        assert (twin.name is x.name) == (duplicate is copy.copy)


def test_operations_are_copied_and_pickled_by_name():
    from minigrad import nn, ops
    for name in ops.__all__:
        operation = getattr(mg, name)
        assert operation is copy.copy(operation) is copy.deepcopy(operation), name
        assert operation is pickle.loads(pickle.dumps(operation)), name
    layer = nn.Linear(2, 3)
    layer.activation = mg.tanh
    assert pickle.loads(pickle.dumps(layer)).activation is mg.tanh
    own = mg.Primitive("own", np.negative, lambda g, _out, _x: -g)
    assert copy.deepcopy(own) is not own and copy.copy(own).rules == own.rules


def test_printing():
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    assert repr(x) == "Tensor([1., 2.], requires_grad=True)" and repr(mg.Tensor(1)) == "Tensor(1)"
    assert repr(mg.Tensor(np.zeros((0, 2), np.float32))) == "Tensor([], dtype=float32, shape=(0, 2))"
    assert "op=exp" in repr(mg.exp(x)) and "dtype=float16" in repr(mg.Tensor(np.float16(1)))
    assert f"{mg.Tensor(0.25):.1%}" == "25.0%" and f"{x}" == str(x) == repr(x)
    assert [float(v) for v in x] == [1, 2] and len(x) == 2 and 2.0 in x and 5 not in x
    assert int(mg.Tensor(3.7)) == 3 and [5, 6, 7][mg.Tensor(1)] == 6
    for bad in (lambda: bool(x), lambda: float(x), lambda: len(mg.Tensor(1.0)), lambda: list(mg.Tensor(1.0)),
                lambda: [1][mg.Tensor(0.0)], lambda: x.item()):
        with pytest.raises((ValueError, TypeError)):
            bad()


# -- imports and devices ---------------------------------------------------------------------------------------------


def python(code, **environment):
    paths = os.pathsep.join(filter(None, [environment.pop("PYTHONPATH", ""), str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, **environment, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_quick_and_needs_numpy_alone():
    out = python("""
        import sys, time, numpy
        start = time.process_time()
        import minigrad
        print(time.process_time() - start)
        print([m for m in "matplotlib PIL torch cupy scipy sklearn pooch safetensors tqdm tyro".split() if m in sys.modules])
    """)
    seconds, extra = out.splitlines()
    assert float(seconds) < 5 and extra == "[]"


def test_without_cupy_the_gpu_is_a_clear_error(tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError('no such module')")
    out = python("""
        import minigrad as mg
        assert not mg.cuda_available()
        try:
            mg.Tensor([1.0]).to("cuda")
        except RuntimeError as error:
            print(error)
    """, PYTHONPATH=str(tmp_path))
    assert "needs CuPy" in out and "pip install" in out


def test_cupy_without_a_gpu_is_a_clear_error_and_the_cpu_works(tmp_path):
    package = tmp_path / "cupy"
    package.mkdir()
    (package / "__init__.py").write_text(textwrap.dedent("""
        from types import SimpleNamespace

        class ndarray:
            pass

        class CUDARuntimeError(RuntimeError):
            pass

        def getDeviceCount():
            raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

        cuda = SimpleNamespace(runtime=SimpleNamespace(CUDARuntimeError=CUDARuntimeError, getDeviceCount=getDeviceCount))
    """))
    out = python("""
        import sys
        import numpy as np
        import minigrad as mg
        from minigrad import nn
        assert "cupy" not in sys.modules
        for device in ("cuda", "cuda:1"):
            for move in (mg.Tensor([1.0]).to, nn.Linear(2, 2).to):
                try:
                    move(device)
                except RuntimeError as error:
                    print(error)
        assert not mg.cuda_available() and "cupy" in sys.modules
        x = mg.Tensor([1.0, 2.0], requires_grad=True)
        (mg.exp(x) * x[[0, 0]] + mg.softmax(x)).sum().backward()
        nn.Conv4(width=4)(mg.Tensor(np.ones((1, 1, 28, 28), np.float32))).sum().backward()
        print(x.grad.device, mg.Tensor([1.0]).to("cpu").device, x.to("cpu") is x)
    """, PYTHONPATH=str(tmp_path))
    assert out.count("no CUDA-capable device") == 4 and out.splitlines()[-1] == "cpu cpu True"


def test_devices_that_do_not_exist_are_refused():
    x = mg.Tensor([1.0])
    for name in ("gpu", "cuda:x", "cpu:1", "tpu"):
        with pytest.raises(ValueError, match=name):
            x.to(name)
    assert x.to("float16").dtype == np.float16 and x.to(np.float32).dtype == np.float32
    with pytest.raises(AttributeError):
        x.__cuda_array_interface__


def test_what_requires_no_gradient_is_numpys_to_compute():
    x = mg.Tensor([1.0, 2.0, 3.0])
    assert np.allclose(x, [1, 2, 3]) and np.histogram(x, 2)[0].tolist() == [1, 2]
    np.testing.assert_allclose(x, x + 1e-12)
    file = io.BytesIO()
    np.save(file, x)
    assert np.load(io.BytesIO(file.getvalue())).tolist() == [1, 2, 3]
    assert np.add.reduce(x) == 6 and np.sum(x, dtype=np.float32).dtype == np.float32
    assert np.interp(1.5, [x, [0, 1, 2]][0], x) == 1.5 and np.select([x > 1], [x], default=0).tolist() == [0, 2, 3]
    out = np.zeros(3)
    assert np.add(x, 1, out=out) is out and out.tolist() == [2, 3, 4]


def test_numpy_does_not_write_into_tensors():
    x = mg.Tensor([1.0, 2.0, 3.0])
    for write in (lambda: np.add(x, 1, out=x), lambda: np.copyto(x, 0), lambda: np.cumsum(x, out=x)):
        with pytest.raises((TypeError, ValueError)):
            write()
    assert x.tolist() == [1, 2, 3]


def test_a_tensor_in_a_list_that_requires_a_gradient_is_noticed():
    x, y = mg.Tensor([1.0, 2.0]), mg.Tensor([3.0, 4.0], requires_grad=True)
    for call in (lambda: np.block([[x], [y]]), lambda: np.lexsort([x, y]), lambda: np.select([x > 1], [y])):
        with pytest.raises(TypeError, match="gradient"):
            call()
    assert mg.grad(np.stack([x, y]).sum(), y).tolist() == [1, 1]


def test_names_of_pytorchs_are_missing_with_a_hint():
    x = mg.ones(2)
    for holder, name in [(x, "view"), (x, "unsqueeze"), (nn.Parameter(x), "clamp"), (mg, "cat"), (mg, "from_numpy"),
                         (nn, "utils"), (nn, "ZeroPad3d"), (nn.functional, "unpad"), (nn.init, "sparse_"),
                         (mg.optim, "lr_scheduler")]:
        assert not hasattr(holder, name) and getattr(holder, name, None) is None
        with pytest.raises(AttributeError, match=f"no attribute '{name}': .*README") as caught:
            getattr(holder, name)
        assert caught.value.name == name
    with pytest.raises(AttributeError, match=r"no attribute 'sin': minigrad.sin\(x\) is a function"):
        x.sin()
    with pytest.raises(AttributeError, match=r"no attribute 'cdist': minigrad.cdist\(x\) is a function"):
        nn.functional.cdist
    with pytest.raises(AttributeError, match="only a Tensor on the GPU"):
        x.__cuda_array_interface__
    with pytest.raises(ImportError, match="cannot import name 'cat'"):
        exec("from minigrad import cat")


def test_a_name_of_numpys_that_is_missing_says_what_there_is():
    for name, said in {"absolute": r"minigrad.abs\(x\) is a function", "amax": r"minigrad.max\(x\) is a function",
                       "acos": r"minigrad.arccos\(x\)|.*README", "mod": r"minigrad.remainder\(x\)",
                       "asarray": r"minigrad has Tensor\(x\)",
                       "fliplr": r"minigrad has flip\(x, 1\)", "linalg": "minigrad has inv",
                       "unwrap": r"numpy.unwrap works on arrays, .*x.numpy\(\)", "nextafter": r"numpy.nextafter works on arrays",
                       "pi": "numpy.pi serves", "float32": "numpy.float32 serves", "nonsense": ".*README"}.items():
        with pytest.raises(AttributeError, match=f"no attribute '{name}': ({said})"):
            getattr(mg, name)
    with pytest.raises(AttributeError, match=r"no attribute 'absolute': minigrad.abs\(x\)"):
        mg.ones(2).absolute
    for name in ("nbytes", "strides", "flat", "fill"):  # of arrays alone
        with pytest.raises(AttributeError, match=rf"no attribute '{name}': an array has it, x\.numpy\(\)\.{name}$"):
            getattr(mg.ones(2), name)
    with pytest.raises(AttributeError, match=r'no attribute \'cuda\': minigrad has x\.to\("cuda"\)'):
        mg.ones(2).cuda()
    with pytest.raises(AttributeError, match="no attribute 'unwrap': .*README"):
        nn.unwrap
    for name in dir(np):  # each leads somewhere: to a function that there is, or to NumPy
        if not (hasattr(mg, name) or name.startswith("_") or name not in vars(np)):
            with pytest.raises(AttributeError, match="is a function|minigrad has|works on arrays|serves here"):
                getattr(mg, name)


@pytest.mark.parametrize("name", sorted(missing.INSTEAD))
def test_what_stands_for_numpys_names_is_there(name):
    assert not hasattr(mg, name)
    for word in re.findall(r"[a-zA-Z]\w+", missing.INSTEAD[name].split(", with")[0].split(", each")[0]):
        assert hasattr(mg, word) or word == "shape", word


@pytest.mark.parametrize("name", sorted(missing.PYTORCH))
def test_what_stands_for_pytorchs_names_runs(name, tmp_path):
    if name in ("load", "save"):
        pytest.importorskip("safetensors")
    for holder in (mg, mg.ones(2)):
        if not hasattr(holder, name):  # contiguous memory, say, is a matter of copies
            with pytest.raises(AttributeError, match=f"no attribute '{name}': minigrad has {re.escape(missing.PYTORCH[name])}$|is a function"):
                getattr(holder, name)
    assert not hasattr(mg, name) or not hasattr(mg.ones(2), name)
    if name == "load":
        mg.io.save(tmp_path / "x.safetensors", {"x": np.ones(2)})
    given = dict(x=mg.ones(2, 2), y=mg.ones(2, 2), n=2, t=0.5, axis=0, indices=np.array([1]), mask=np.ones((2, 2), bool),
                 path=tmp_path / "x.safetensors", arrays={"x": np.ones(2)}, f=lambda x: (x * x).sum(),
                 net=nn.Linear(2, 2), step=lambda: None, name="double", forward=lambda x: 2 * x, rules=[lambda g, _out, _x: 2 * g])
    exec(missing.PYTORCH[name], {**vars(mg), **given})


class Foreign:
    """Another library's array, which only NumPy's protocol knows."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)


@pytest.mark.parametrize("kind", [Foreign, lambda a: pytest.importorskip("torch").from_numpy(a)], ids=["any", "torch"])
def test_operators_take_the_arrays_of_other_libraries(kind):
    x, other = mg.Tensor([1.0, 2.0], requires_grad=True), kind(np.array([1.0, 3.0]))
    for y, expected in ((x + other, [2, 5]), (x - other, [0, -1]), (x * other, [1, 6]), (x ** other, [1, 8]), (x @ other, 7)):
        assert type(y) is mg.Tensor and y.tolist() == expected and y.requires_grad
    assert (x == other).tolist() == [True, False] and (x < other).tolist() == [False, True]
    labels = kind(np.array([0, 2]))
    logits = mg.Tensor(np.eye(3)[:2])
    assert mg.cross_entropy(logits, labels).item() == mg.cross_entropy(logits, np.array([0, 2])).item()
    assert mg.Tensor([0, 1]) != "a" and (mg.Tensor([0, 1]) == None) is False  # noqa: E711


def test_the_module_called_tensor_says_what_makes_one():
    with pytest.raises(TypeError, match=r"minigrad\.Tensor\(x\) makes a Tensor"):
        mg.tensor([1.0])
    with pytest.raises(AttributeError, match=r"'normal'; generator\(\) is a numpy.random.Generator"):
        mg.random.normal
    with pytest.raises(AttributeError, match="no attribute 'DataLoader': .*README"):
        mg.data.DataLoader


def test_a_property_that_refuses_says_why():
    class Labelled(mg.Tensor):
        @property
        def label(self):
            return {}.label

    with pytest.raises(AttributeError, match="'dict' object has no attribute 'label'"):
        Labelled([1.0]).label
    assert not hasattr(Labelled([1.0]), "label")


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B", "CG", "SLSQP"])
def test_scipys_optimisers(method):
    optimize = pytest.importorskip("scipy.optimize")
    found = optimize.minimize(mg.value_and_grad(lambda x: ((x - 2)**2).sum() + x[0]**2), np.zeros(3), jac=True, method=method)
    assert np.allclose(found.x, [1, 2, 2], atol=1e-3)
