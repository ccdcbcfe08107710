"""The house: imports only go down, operations know no backend, the public interface is documented, there is one training loop."""
import ast
import inspect
import pathlib
import re
import types

import pytest

import minigrad as mg
from minigrad import data, nn, ops, optim, primitive

ROOT = pathlib.Path(__file__).parent.parent
FLOORS = [  # from the bottom; what stands on a floor may import that floor and those below
    {"minigrad.backend", "minigrad.tree"}, {"minigrad.recording", "minigrad.versions", "minigrad.pth", "minigrad.io"},
    {"minigrad.tensor"}, {"minigrad.primitive"}, {"minigrad.backward"}, {"minigrad.fused"}, {"minigrad.ops"},
    {"minigrad.transforms", "minigrad.inspect", "minigrad.cuda_graph", "minigrad.data"}, {"minigrad.nn"},
    {"minigrad.optim", "minigrad.gradient_check", "minigrad.graph_picture"}, {"minigrad"}, {"methods"}, {"examples"}]


def imports(path):
    """(module, names, whether inside a function) of each import in a file; modules by their full names."""
    package = list(path.relative_to(ROOT).with_suffix("").parts)
    tree = ast.parse(path.read_text())
    inside = {id(node) for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.Lambda)) for node in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, [], id(node) in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + (path.stem == "__init__")] if node.level else []
            base = base[:-1] if node.level and path.stem == "__init__" else base
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module, [alias.name for alias in node.names], id(node) in inside


def floor(module):
    """The number of the floor on which a module stands, or None if it is no part of the project."""
    parts = module.split(".")
    for length in range(min(len(parts), 2), 0, -1):
        for number, modules in enumerate(FLOORS):
            if ".".join(parts[:length]) in modules:
                return number
    return None


FILES = [path for folder in ("minigrad", "methods", "examples") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    here = floor(name)
    for module, names, _ in imports(path):
        for target in {module, *(f"{module}.{n}" for n in names if floor(f"{module}.{n}") is not None)} - {"minigrad"}:
            there = floor(target)
            if there is not None and not (name == "minigrad" or target == name):
                assert there <= here, f"{name} imports {target}, which stands above it"


def test_operations_know_no_backend_and_import_at_the_top():
    for path in (ROOT / "minigrad" / "ops").glob("*.py"):
        for module, names, inside in imports(path):
            assert not inside, f"{path.name} imports {module} inside a function"
            assert not re.match(r"minigrad\.backend\.(cpu|cuda)", module), f"{path.name} imports {module}"
            assert not (module == "minigrad.backend" and {"cpu", "cuda"} & set(names)), path.name


def public(module):
    for name, value in vars(module).items():
        if not name.startswith("_") and callable(value) and not isinstance(value, types.ModuleType) and (
                getattr(value, "__module__", "") or "").startswith("minigrad"):
            yield name, value


@pytest.mark.parametrize("module", [mg, nn, optim, nn.functional, nn.init], ids=lambda module: module.__name__)
def test_the_public_interface_says_what_it_does(module):
    for name, value in public(module):
        assert value.__doc__ and value.__doc__.strip(), f"{name} has no docstring"
        functions = [value] if not inspect.isclass(value) else [
            f for n, f in vars(value).items() if inspect.isfunction(f) and not n.startswith("_")]
        for function in functions:
            signature = inspect.signature(function)
            if function is value:
                assert signature.return_annotation is not signature.empty, f"{name} has no annotation of its result"
                missing = [p.name for p in signature.parameters.values()
                           if p.annotation is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
                assert not missing, f"{name}: {missing} have no annotation"


@pytest.mark.parametrize("module", [mg, nn, optim, data, primitive], ids=lambda module: module.__name__)
def test_what_public_classes_add_to_their_bases_is_documented_and_annotated(module):
    for kind in (value for _, value in public(module) if inspect.isclass(value)):
        for name, member in vars(kind).items():
            if name.startswith("_") or any(hasattr(base, name) for base in kind.__mro__[1:]):
                continue
            if isinstance(member, property) or inspect.isroutine(member):
                assert inspect.getdoc(member), f"{kind.__name__}.{name} has no docstring"
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if inspect.isfunction(function) and function.__name__ != "<lambda>":
                signature = inspect.signature(function)
                missing = [p.name for p in list(signature.parameters.values())[not isinstance(member, staticmethod):]
                           if p.annotation is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
                assert not missing and signature.return_annotation is not signature.empty, f"{kind.__name__}.{name}: {missing}"


@pytest.mark.parametrize("folder", ["minigrad", "methods", "examples"])
def test_lines_are_no_longer_than_130_characters(folder):
    long = [f"{path.relative_to(ROOT)}:{i}" for path in sorted((ROOT / folder).rglob("*")) if path.suffix in (".py", ".c", ".cu", ".h")
            for i, line in enumerate(path.read_text().splitlines(), 1) if len(line) > 130]
    assert not long


def test_methods_of_tensor_are_the_operations():
    for name, operation in ops.PUBLIC.items():
        if name in vars(mg.Tensor):
            assert vars(mg.Tensor)[name] is operation and operation.__doc__, name
    assert "axis" in inspect.signature(mg.Tensor.sum).parameters and "e to the power" in mg.Tensor.exp.__doc__


def test_the_operators_of_tensor_are_declared_for_who_checks_types():
    tree = ast.parse((ROOT / "minigrad" / "tensor.py").read_text())
    (block,) = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    declared = {target.id for node in block.body if isinstance(node, ast.Assign) for target in node.targets}
    attached = {name for name, value in vars(mg.Tensor).items() if getattr(value, "__module__", None) == "minigrad.ops.declare"}
    assert declared == attached


@pytest.mark.parametrize("module", [mg, nn, nn.models, nn.functional, optim, data], ids=lambda module: module.__name__)
def test_names_that_a_package_gives_on_are_imported_as_themselves(module):
    """Else who checks types takes them for the package's own affair."""
    given_on = {alias.asname for node in ast.parse(pathlib.Path(module.__file__).read_text()).body if isinstance(node, ast.ImportFrom)
                for alias in node.names}
    for name, value in public(module):
        of_star = module is mg and name in ops.PUBLIC
        own_affair = module is nn.functional and name not in ops.PUBLIC
        assert value.__module__ == module.__name__ or name in given_on or of_star or own_affair, name


def test_there_is_one_training_loop():
    """One place under methods/ and examples/ runs a backward pass and an optimiser's step."""
    steps = [path for path in FILES if path.relative_to(ROOT).parts[0] != "minigrad" and ".backward()" in path.read_text()]
    assert [path.name for path in steps] == ["loop.py"]
