"""What is installed: the package minigrad with its kernels' sources, and nothing else of the clone."""
import ast
import configparser
import fnmatch
import pathlib
import sys

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg", encoding="utf-8")


def listed(section, key):
    return [item.strip() for item in CONFIG[section][key].replace(",", "\n").splitlines() if item.strip()]


def test_only_minigrad_is_installed():
    include = listed("options.packages.find", "include")
    folders = [path.name for path in ROOT.iterdir() if path.is_dir() and any(path.rglob("*.py"))]
    assert {"minigrad", "methods", "examples", "tests"} <= set(folders)
    assert [name for name in folders if any(fnmatch.fnmatch(name, pattern) for pattern in include)] == ["minigrad"]


def test_all_files_of_the_package_are_installed():
    patterns = listed("options.package_data", "minigrad")
    for path in (ROOT / "minigrad").rglob("*"):
        name = path.relative_to(ROOT / "minigrad").as_posix()
        if path.is_file() and "__pycache__" not in path.parts:
            assert (path.parent / "__init__.py").exists(), name
            assert path.suffix in (".py", ".md", ".svg") or any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name
    assert (ROOT / "minigrad" / "py.typed").read_text() == "" and "py.typed" in patterns


def test_no_message_says_to_install_a_strangers_package():
    """The name is taken on PyPI: messages name the clone's extra, or the library that is missing."""
    for file in [*ROOT.glob("*.md"), *(path for folder in ("minigrad", "methods", "examples", "tests") for kind in ("*.py", "*.md", "*.sh")
                                       for path in (ROOT / folder).rglob(kind))]:
        assert file == pathlib.Path(__file__) or "minigrad[" not in file.read_text(), file


def starred_subscripts(source):
    """The lines with x[a, *b], which Python 3.10 does not know; x[(a, *b)] is the same."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and any(
                isinstance(item, ast.Starred) for item in node.slice.elts):
            if lines[node.slice.lineno - 1].encode()[node.slice.col_offset:][:1] != b"(":
                yield node.lineno


def test_python_3_10_can_read_every_file():
    if sys.version_info >= (3, 11):
        assert list(starred_subscripts("x = a[1, *b]\ny = a[(1, *b)]")) == [1]
    for folder in ("minigrad", "methods", "examples", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            ast.parse(source, feature_version=(3, 10))
            assert not list(starred_subscripts(source)), path
