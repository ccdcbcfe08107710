"""What the READMEs say is so: their Python runs, the files, figures and modules that they name exist."""
import os
import pathlib
import random
import re
import subprocess
import sys

import pytest

import minigrad

ROOT = pathlib.Path(__file__).parent.parent
READMES = ["README.md", "minigrad/README.md", "methods/README.md", "examples/README.md", "tests/README.md"]
MADE = (  # when one follows it
    "runs/", "encoder/", "IMAGES/", "unlabelled/", "train/", "test/", "supervised/", "summary.md", "entropy.py",
    "unsure/")


def text(readme):
    return (ROOT / readme).read_text()


def blocks(readme):
    """The Python in it."""
    return re.findall(r"```python\n(.*?)```", text(readme), re.S)


def prose(readme):
    """All but the blocks between fences."""
    return re.sub(r"```.*?```", "", text(readme), flags=re.S)


def exists(readme, name):
    """Whether there is such a file (* for anything): from the README's folder or the top; without a folder, anywhere below."""
    folder = (ROOT / readme).parent
    return any(folder.glob(name.rstrip("/"))) or any(ROOT.glob(name.rstrip("/"))) or "/" not in name and any(folder.rglob(name))


def run(source, folder, *arguments):
    """What a script prints, in a process and a folder of its own."""
    (folder / "example.py").write_text(source)
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    command = [sys.executable, "example.py", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("readme", ["README.md", "minigrad/README.md"])
def test_its_python_runs(readme, tmp_path):
    assert len(blocks(readme)) > 1
    for block in blocks(readme):
        run(block, tmp_path)


def test_the_table_for_users_of_jax_is_right():
    import numpy as np

    from minigrad import nn
    net, x, y = nn.Linear(3, 2), np.arange(12, dtype=np.float32).reshape(4, 3), np.array([0, 1, 0, 1])
    params = {name: p.detach() for name, p in net.named_parameters()}

    def losses(params, at=range(4)):
        return minigrad.cross_entropy(nn.functional_call(net, params, x[list(at)]), y[list(at)], reduction="none")

    each = minigrad.jacobian(losses)(params)["weight"].numpy()
    for i in range(4):
        alone = minigrad.grad(lambda params, i=i: losses(params, [i]).sum())(params)["weight"]
        np.testing.assert_allclose(each[i], alone.numpy(), rtol=1e-5, atol=1e-6)
    after = minigrad.tree.map(lambda p, g: p - 1e-3 * g, params, minigrad.grad(lambda p: losses(p).mean())(params))
    assert losses(after).mean() < losses(params).mean() and not after["weight"].requires_grad
    f, v = lambda x: (minigrad.sin(x) * x).sum(), np.array([1.0, 2.0])
    np.testing.assert_allclose(minigrad.jvp(minigrad.grad(f), (v,), (v,))[1].numpy(), minigrad.hvp(f, v, v).numpy(), rtol=1e-12)
    assert minigrad.index_add(v, [1, 1], v).tolist() == [1, 5] and minigrad.index_update(v, 1, 7.0).tolist() == [1, 7]
    assert minigrad.grad(lambda x: minigrad.Tensor(x) * 2 + x)(1.0).item() == 1


def test_the_first_program_prints_what_stands_below_it(tmp_path):
    printed = run(blocks("README.md")[0], tmp_path)
    shown = re.search(r"```python.*?```\n\n```\n(.*?)```", text("README.md"), re.S)[1]
    lines = [re.sub(r"[\d.]+", "x", each) for each in (printed, shown)]
    assert lines[0] == lines[1]


def test_the_method_of_the_methods_readme_trains_and_predicts(tmp_path):
    for library in ("tyro", "tqdm", "sklearn", "safetensors"):
        pytest.importorskip(library)
    from methods.training.classifier import load_classifier
    block, pieces = blocks("methods/README.md")
    assert "% of the test images are right" in run(block, tmp_path, "--steps", "3")
    checkpoint = tmp_path / "runs" / "entropy" / "checkpoint.safetensors"
    assert len(load_classifier(checkpoint).classes) == 10
    whole = re.search(r"    def loss\(.*?\n(?=\n)", block, re.S)[0]
    run("import numpy as np\n" + block.replace(whole, pieces), tmp_path, "--steps", "3", "--out", "pieces")
    assert (tmp_path / "pieces" / "checkpoint.safetensors").read_bytes() == checkpoint.read_bytes()


def test_the_test_of_the_tests_readme_passes():
    (block,) = blocks("tests/README.md")
    names = {}
    exec(block, names)
    names["test_softplus"]()


@pytest.mark.parametrize("readme", READMES)
def test_the_files_it_names_exist(readme):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose(readme))
    names = re.findall(r"`([\w/*.]+/[\w/*.]*|[\w/*]+\.(?:py|c|cu|h|sh|md|cpp))`", prose(readme))
    assert links and names
    for name in [*links, *names]:
        assert name.startswith(MADE) or exists(readme, name), name


def test_the_way_through_the_engine_is_as_long_as_it_says():
    rows = [line.split("|")[2:4] for line in text("minigrad/README.md").splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) == 10
    for files, lines in rows:
        said = int(lines.split()[-1])
        real = sum(len((ROOT / "minigrad" / name).read_text().splitlines()) for name in re.findall(r"\]\(([^)]+)\)", files))
        assert abs(said - real) <= 0.06 * real, f"{files.strip()}: {real} lines, not {said}"


def test_the_mutants_of_the_tests_readme_are_those_that_its_command_draws(monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))  # which the module changes for itself
    monkeypatch.setattr(sys, "path", list(sys.path))
    from tests.backend.cuda.mutate import mutants
    (file, most, seed, shown), = re.findall(r"tests\.backend\.cuda\.mutate (\w+) --most (\d+) --seed (\d+)\n(.*?)```",
                                            text("tests/README.md"), re.S)
    every = list(mutants((ROOT / "minigrad" / "backend" / "cuda" / f"{file}.cu").read_text()))
    drawn = [(str(number), before, after) for number, before, after, _ in random.Random(int(seed)).sample(every, int(most))]
    survivors = re.findall(r"line (\d+)\n +- (.*)\n +\+ (.*)", shown)
    assert survivors and set(survivors) <= set(drawn)
    assert f"{file}: {int(most) - len(survivors)} of {most} noticed" in shown


@pytest.mark.parametrize("readme", READMES[:3])
def test_what_it_names_of_minigrad_is_there(readme):
    from minigrad import data, nn, optim
    named = re.findall(r"(?<![\w./])(?:mg|nn|optim|data)(?:\.[a-zA-Z_]\w*)+", re.sub(r"\]\([^)]*\)", "", text(readme)))
    names = set(named) - {"nn.utils.clip_grad_norm_", "optim.LBFGS"}  # PyTorch's
    assert len(names) > 8
    for name in names:
        assert eval(name, {"mg": minigrad, "nn": nn, "optim": optim, "data": data}), name


@pytest.mark.parametrize("readme", READMES)
def test_the_modules_it_runs_exist(readme):
    named = re.findall(r"-m ((?:examples|tests)[\w.]*)|`(examples\.\w+)", text(readme))
    for module in map("".join, named):
        path = ROOT / module.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").exists(), module


def test_what_takes_data_that_must_be_fetched_is_said_to():
    said = re.search(r"If `--data` is left out,\n(.*?)\n\n", text("examples/README.md"), re.S)[1]
    for path in (ROOT / "examples").glob("*.py"):
        fetched = re.search(r'^    data: str = (setting\()?"(cifar10|mnist|glosses|spoken-digits)"', path.read_text(), re.M)
        assert bool(fetched) == (f"`{path.stem.removeprefix('compare_')}`" in said), path


def test_the_tables_of_methods_and_examples_lack_none():
    def named(readme, folder):
        return [path.stem for path in sorted((ROOT / folder).glob("*.py"))
                if path.stem != "__init__" and f"{path.stem}" not in text(readme)]

    assert not named("examples/README.md", "examples")
    families = ("training", "few_labels", "few_shot", "semi_supervised", "self_supervised", "transfer", "vision_language",
                "peft")
    assert not sum((named("methods/README.md", f"methods/{part}") for part in families), [])
    figures = {path.name for path in (ROOT / "examples" / "gallery").glob("*.png")}
    assert figures == set(re.findall(r"\(gallery/(\w+\.png)\)", text("examples/README.md")))
