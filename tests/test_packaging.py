"""What is installed: the package minigrad with its kernels' sources, and nothing else of the clone."""
import configparser
import fnmatch
import pathlib

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
