"""What the methods share: settings and limits, checkpoints, architectures and classifiers, pictures, the one loop."""
import dataclasses
import io
import json
import pathlib
import re
import signal
import sys
import zipfile

import numpy as np
import pytest

from methods.semi_supervised import METHODS, label_propagation, networks
from methods.training import checkpoint, comparison, evaluation, objectives, prediction
from methods.training.classifier import Architecture, Classifier, load_classifier
from methods.training.loop import train
from methods.training.method import Method
from methods.training.pictures import Preprocessing, picture_files, read_pictures
from methods.training.run import RunFolder, write_whole
from methods.training.settings import RunSettings, check, record, setting, subset
from minigrad import io as files
from minigrad import Tensor, data, nn, optim

ROOT = pathlib.Path(__file__).parents[2]


# -- settings ----------------------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Config:
    rate: float = setting(0.5, above=0, below=1)
    count: int = setting(3, least=1, most=5)
    widths: tuple = setting((4, 2), least=1)
    name: str = "any"


@dataclasses.dataclass
class Run(RunSettings, Config):
    count: int = 4  # another default with the same limits
    episodes: int = setting(10, free=True)


@pytest.mark.parametrize("changes, words", [
    (dict(rate=0.0), "--rate 0.0: choose a number above 0, below 1"), (dict(rate=1.0), "--rate 1.0"),
    (dict(rate=float("nan")), "--rate nan"), (dict(rate=float("inf")), "--rate inf"), (dict(count=6), "--count 6"),
    (dict(count=0), "--count 0: choose a number 1 or more, at most 5"), (dict(widths=(4, 0)), "--widths 0"),
    (dict(steps=0), "--steps 0"), (dict(seed=-1), "--seed -1"),
    (dict(device="tpu"), '--device tpu: choose "cpu" or "cuda"')])
def test_limits(changes, words):
    check(Run())
    check(Run(rate=1e-9, count=5, widths=()))
    with pytest.raises(SystemExit) as error:
        check(dataclasses.replace(Run(), **changes))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_every_number_of_every_method_has_limits():
    """What a method does with a negative weight or width should never be found out by a user."""
    for module in (*METHODS.values(), label_propagation):
        for field in dataclasses.fields(module.Config):
            assert "limits" in field.metadata or field.type is bool or "Literal" in str(field.type), (module, field.name)
        check(module.Config(**{k: v for k, v in getattr(module, "SHORT", {}).items() if hasattr(module.Config, k)}))


def test_a_record_leaves_out_what_may_change():
    assert record(Run()) == {"seed": 0, "rate": 0.5, "count": 4, "widths": [4, 2], "name": "any"}
    assert "steps" in record(Run(), without=("out",)) and subset(Run(rate=0.25), Config) == Config(0.25, 4)


def test_help_and_errors_of_the_command_line(capsys):
    pytest.importorskip("tyro")
    from examples import prototypical_networks as example
    from methods.training.settings import command
    with pytest.raises(SystemExit):
        command(example.main, example.Run, example.__doc__, ["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert all(words in said for words in ("classes in a training episode", "channels of the network", "continue the run"))
    with pytest.raises(SystemExit, match="--way 1: choose a number 2 or more"):
        command(example.main, example.Run, example.__doc__, ["--way", "1"])


@pytest.mark.parametrize("name", ["prototypical_networks", "matching_networks", "siamese_networks", "maml", "two_moons",
                                  "semi_supervised"])
def test_the_same_flags_everywhere(name):
    import importlib
    run = importlib.import_module(f"examples.{name}").Run
    assert {"data", "device", "seed", "steps", "out", "resume"} <= {field.name for field in dataclasses.fields(run)}


# -- checkpoints -------------------------------------------------------------------------------------------------------

class Part:
    """Arrays, numbers and lists in one state, some of them below others."""

    def __init__(self, value):
        self.value = value

    def state_dict(self):
        return {"a": np.full(3, self.value), "inner": {"step": self.value, "list": [1, np.full((0, 2), 1.0)]}, "none": None}

    def load_state_dict(self, state):
        self.loaded = state


class Holder:
    def __init__(self, rng, part):
        self.rng, self.part = rng, part

    def state(self):
        return {"rng": self.rng, "part": self.part}


def test_a_checkpoint_gives_back_arrays_as_arrays_and_values_as_values(tmp_path):
    path, rng = tmp_path / "c.safetensors", np.random.default_rng(3)
    checkpoint.save(path, 7, {"net": nn.Linear(2, 3), "holder": Holder(rng, Part(5)), "other": Part(1)})
    expected = rng.random(4)
    other = Holder(np.random.default_rng(9), Part(0))
    assert checkpoint.restore(path, {"holder": other}) == 7
    assert (other.rng.random(4) == expected).all()
    state = other.part.loaded
    assert (state["a"] == 5).all() and state["inner"]["step"] == 5 and state["none"] is None
    assert state["inner"]["list"][0] == 1 and state["inner"]["list"][1].shape == (0, 2)
    with pytest.raises(ValueError, match="no state of teacher"):
        checkpoint.restore(path, {"net": nn.Linear(2, 3), "teacher": nn.Linear(2, 3)})


def test_other_files_are_no_checkpoints(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "none.safetensors")
    files.save(tmp_path / "old.safetensors", {"net.weight": np.zeros(2)}, {"step": 3})
    with pytest.raises(ValueError, match="no checkpoint of this version"):
        checkpoint.load(tmp_path / "old.safetensors")
    checkpoint.save(tmp_path / "c.safetensors", 1, {"net": nn.Linear(2, 3)})
    with pytest.raises(ValueError, match="holds no classifier"):
        load_classifier(tmp_path / "c.safetensors")


def test_files_are_written_whole(tmp_path, monkeypatch):
    write_whole(tmp_path / "new" / "f.txt", "first")
    monkeypatch.setattr("os.replace", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "new" / "f.txt", "second")
    assert (tmp_path / "new" / "f.txt").read_text() == "first"


# -- architectures and classifiers -------------------------------------------------------------------------------------

def test_architectures_are_built_again_from_json():
    encoder = Architecture("minigrad.nn.Conv4", width=5)
    outer = Architecture("methods.few_shot.prototypical.PrototypicalNetwork", net=encoder, distance="cosine")
    again = Architecture.of(json.loads(json.dumps(outer.facts()))).build()
    assert again.distance == "cosine" and again.net.blocks[0].conv.weight.shape[0] == 5
    for name in ("os.system", "minigrad.nn.NoSuch", "builtins.eval", "methods.training.run.RunFolder", "nothing"):
        with pytest.raises(ValueError, match="there is no network"):
            Architecture(name).build()


@pytest.mark.parametrize("network, size", [("small", 8), ("residual", 8), ("wide", 8)])
def test_networks_are_encoders_with_a_head(network, size):
    net = networks.architecture(network, 1, size, 3, 0.0, 16, 10).build().eval()
    x = np.random.default_rng(0).random((2, 1, size, size), np.float32)
    features = net.features(Tensor(x))
    assert features.shape == (2, net.width) and net.head.weight.shape == (3, net.width)
    np.testing.assert_allclose(net.head(features).numpy(), net(Tensor(x)).numpy(), rtol=1e-5)
    net.head = nn.Linear(net.width, 7)
    assert net(Tensor(x)).shape == (2, 7)


def small_classifier(**changes):
    architecture = Architecture("methods.semi_supervised.networks.MLP", sizes=[16, 3], norm=False)
    return Classifier(architecture, ("a", "b", "c"), Preprocessing(4, 1, "dark"), **changes)


def test_a_classifier_is_all_in_its_checkpoint(tmp_path):
    classifier = small_classifier(weights="teacher")
    net, teacher = classifier.architecture.build(), classifier.architecture.build()
    teacher.rotation = nn.Linear(2, 2)  # a head that only training needs
    checkpoint.save(tmp_path / "c.safetensors", 1, {"net": net, "teacher": teacher}, classifier.facts())
    again = load_classifier(tmp_path / "c.safetensors")
    x = np.random.default_rng(0).random((5, 1, 4, 4), np.float32)
    z = x.reshape(5, 16) @ teacher.head.weight.numpy().T + teacher.head.bias.numpy()
    e = np.exp(z - z.max(1, keepdims=True))
    np.testing.assert_allclose(again.probabilities(x, batch=2), e / e.sum(1, keepdims=True), rtol=1e-4)
    assert again.classes == ("a", "b", "c") and again.preprocessing == classifier.preprocessing and not again.net.training


@pytest.mark.parametrize("name, arguments", [
    ("prototypical.PrototypicalNetwork", {}), ("matching.MatchingNetwork", dict(size=6)), ("siamese.Siamese", dict(size=6)),
    ("matching.MatchingNetwork", dict(size=6, context=True, learn_scale=True))])
def test_few_shot_probabilities(tmp_path, name, arguments):
    """They sum to one, and a query that is an example of a class belongs to it."""
    encoder = Architecture("minigrad.nn.Conv4", width=6)
    support = np.random.default_rng(0).integers(0, 256, (3, 1, 1, 28, 28), np.uint8)
    classifier = Classifier(Architecture(f"methods.few_shot.{name}", net=encoder, **arguments), ("a", "b", "c"),
                            Preprocessing(28, 1), support)
    checkpoint.save(tmp_path / "c.safetensors", 1, {"net": classifier.architecture.build()}, classifier.facts())
    again = load_classifier(tmp_path / "c.safetensors")
    p = again.probabilities(support[:, 0].astype(np.float32) / 255)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    if "prototypical" in name:
        assert p.argmax(1).tolist() == [0, 1, 2]


# -- pictures ----------------------------------------------------------------------------------------------------------

def png(array):
    Image = pytest.importorskip("PIL.Image")
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG")
    return content.getvalue()


def test_pictures_become_what_training_saw(tmp_path):
    """The same array as from `load_image_folder`; with a dark background wanted, light paper is inverted."""
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "a.png").write_bytes(png(picture))
    for channels in (1, 3):
        expected = data.load_image_folder(tmp_path, 8, channels)[0][0]
        np.testing.assert_array_equal(Preprocessing(8, channels)(png(picture)), expected)
    ink = np.zeros((8, 8), np.uint8)
    ink[2:5, 2:5] = 255
    dark = Preprocessing(8, 1, "dark")
    np.testing.assert_allclose(dark(png(255 - ink)), dark(png(ink)), atol=1e-6)
    np.testing.assert_allclose(Preprocessing(8, 1)(png(255 - ink)), 1 - Preprocessing(8, 1)(png(ink)), atol=1e-6)


def test_broken_pictures_are_named_and_skipped(tmp_path, capsys):
    good = png(np.zeros((5, 5), np.uint8))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "good.png").write_bytes(good)
    (tmp_path / "broken.png").write_bytes(good[:40])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "notes.txt").write_text("not looked at")
    names, images = read_pictures(picture_files(tmp_path), Preprocessing(4, 3))
    assert names == [str(tmp_path / "b" / "good.png")] and images.shape == (1, 3, 4, 4)
    said = capsys.readouterr().err
    assert "skipped" in said and "broken.png" in said and "text.jpg" in said
    assert "notes.txt" not in said and "object at" not in said
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("b/good.png", good)
        archive.writestr("__MACOSX/b/._good.png", good)
    names, again = read_pictures(picture_files(tmp_path / "all.zip"), Preprocessing(4, 3))
    assert names == [f"{tmp_path / 'all.zip'}/b/good.png"] and (again == images).all()
    assert read_pictures({}, Preprocessing(4, 3))[1].shape == (0, 3, 4, 4)
    with pytest.raises(FileNotFoundError):
        picture_files(tmp_path / "nowhere")
    (tmp_path / "damaged.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match="damaged.zip"):
        picture_files(tmp_path / "damaged.zip")


def test_csv(tmp_path):
    prediction.write_csv(tmp_path / "p.csv", [('a "b", c.png', "x", 0.25)])
    assert (tmp_path / "p.csv").read_text() == 'file,class,probability\n"a ""b"", c.png",x,0.2500\n'


# -- the loop ----------------------------------------------------------------------------------------------------------

def test_there_is_one_training_loop():
    holders = [path for folder in ("methods", "examples") for path in (ROOT / folder).rglob("*.py")
               if re.search(r"\.backward\(|\.zero_grad\(", path.read_text())]
    assert holders == [ROOT / "methods" / "training" / "loop.py"]


class Line(Method):
    """y = w x towards 2 x."""

    def loss(self, batch, step):
        return ((self.net(batch) - 2 * Tensor(batch)) ** 2).mean(), {"twice": 2 * step}

    def schedule(self, step, steps):
        return 1 - step / steps


class Ones:
    def sample(self):
        return np.ones((2, 1), np.float32)

    def state(self):
        return {}


def trained(tmp_path, steps=12, **settings):
    folder = RunFolder(tmp_path / "run", Run(), settings.pop("resume", False))
    net = nn.Linear(1, 1)
    train(Line(None, net), Ones(), {"sgd": optim.SGD(net.parameters(), 0.5)}, steps, folder, **settings)
    return folder


def test_the_method_sets_the_rates_and_the_loop_evaluates(tmp_path):
    pytest.importorskip("tqdm")
    asked = []
    folder = trained(tmp_path, evaluate=lambda done: asked.append(done) or {"accuracy": 0.5}, evaluate_every=4)
    history = folder.history()
    assert asked == [4, 8, 12] and [m["step"] for m in history] == [4, 8, 10, 12]
    assert history[2]["lr"] == pytest.approx(0.5 * (1 - 9 / 12)) and history[2]["twice"] == 18 and "accuracy" not in history[2]
    assert history[-1]["loss"] < history[0]["loss"] and history[-1]["accuracy"] == 0.5
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == record(Run())


def test_a_schedule_may_replace_the_methods_and_outlives_a_resumption(tmp_path):
    pytest.importorskip("tqdm")
    trained(tmp_path, 10, schedule=lambda step, steps: 0.5)
    folder = trained(tmp_path, 20, schedule=lambda step, steps: 0.5, resume=True)
    assert [m["lr"] for m in folder.history()] == [0.25, 0.25]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends(tmp_path, capsys, number):
    pytest.importorskip("tqdm")
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stopped:
        trained(tmp_path, evaluate=lambda done: signal.raise_signal(number) or {}, evaluate_every=3)
    assert stopped.value.code == 128 + number and "stopped after 3 steps" in capsys.readouterr().out
    assert checkpoint.load(tmp_path / "run" / "checkpoint.safetensors")["step"] == 3 and signal.getsignal(number) is before


def test_nothing_is_written_before_training(tmp_path):
    RunFolder(tmp_path / "run", Run(), False)
    assert not (tmp_path / "run").exists()


# -- pieces ------------------------------------------------------------------------------------------------------------

def test_comparisons_run_what_is_missing(tmp_path):
    ran, reported = [], []

    def jobs(rows=("x", "y")):
        for row in rows:
            for seed in range(2):
                run = Run(seed=seed, out=str(tmp_path / f"{row}{seed}"))
                yield row, run, lambda: ran.append(run.out) or print("hidden") or float(seed)

    first = comparison.compare(jobs(("x",)), False, lambda row, results: reported.append((row, len(results))))
    assert reported == [("x", 1), ("x", 2)] and [v for v, _ in first["x"]] == [0.0, 1.0] and len(ran) == 2
    both = comparison.compare(jobs(), True, lambda *_: None)
    assert len(ran) == 4 and both["x"] == first["x"]
    with pytest.raises(SystemExit, match="holds a comparison"):
        comparison.compare(jobs(), False, lambda *_: None)
    with pytest.raises(SystemExit, match="other settings: steps"):
        comparison.result(Run(out=str(tmp_path / "x0"), steps=5), lambda: 0.0, True)
    assert comparison.text_table([("a", "bc"), ("def", "g")]) == "a    bc\n---  --\ndef  g\n"
    assert comparison.spread([1.0], 1) == "1.0" and comparison.spread([1.0, 3.0], 1) == "2.0 +- 1.0"


def test_outputs_in_batches_leave_the_network_as_it_was():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    x, before = np.random.default_rng(0).random((7, 3), np.float32), net.state_dict()
    outputs = evaluation.in_batches(net, x, 3)
    assert outputs.shape == (7, 2) and net.training and all((before[k] == v).all() for k, v in net.state_dict().items())
    np.testing.assert_allclose(outputs, net.eval()(Tensor(x)).numpy(), rtol=1e-5)
    assert objectives.one_hot(np.array([1, 0]), 3).tolist() == [[0, 1, 0], [1, 0, 0]]
