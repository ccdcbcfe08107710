"""What the README says is so: its tour runs, its files exist."""
import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def test_the_tour_runs(capsys):
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.S):
        exec(block, {})
    assert "Tensor" in capsys.readouterr().out


def test_the_files_it_names_exist():
    folder = ROOT
    names = re.findall(r"`([\w/*.]+/[\w/*.]*)`", TEXT)
    assert len(names) > 15
    for name in names:
        if not name.startswith("runs/"):
            assert list(folder.glob(name.rstrip("/"))), name


def test_the_modules_it_runs_exist():
    for module in re.findall(r"-m ((?:examples|tests)[\w.]*)|`(examples\.\w+)`", TEXT):
        path = ROOT / (module[0] or module[1]).replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").exists(), path
