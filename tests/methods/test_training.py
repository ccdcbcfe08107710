"""What the methods share: settings and limits, checkpoints, architectures and classifiers, pictures, the one loop."""
import contextlib
import csv
import dataclasses
import importlib.util
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import warnings
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from examples import compare_transfer
from methods.few_shot import evaluation as few_shot_evaluation, maml_tasks, matching, prototypical
from methods.peft import tuning
from methods.self_supervised import base as self_supervised_base, pictures as self_supervised_pictures, supervised
from methods.self_supervised.base import SelfSupervisedMethod
from methods.semi_supervised import METHODS, base as semi_supervised_base, label_propagation
from methods.semi_supervised.base import SemiSupervisedMethod
from methods.training import (
    characters, checkpoint, comparison, encoders, evaluation, images, networks, objectives, optimizers, plots, prediction,
    teacher, texts)
from methods.training.classifier import Architecture, Classifier, load_classifier
from methods.training.loop import stop_signals, train
from methods.training.method import Method
from methods.training.prediction import write_test
from methods.training.pictures import Preprocessing, picture_files, read_pictures
from methods.training.run import RunFolder, write_whole
from methods.training.settings import RunError, RunSettings, check, command, record, report_errors, setting, subcommands, subset
from methods.transfer import finetune, pictures
from methods.vision_language import zero_shot
from methods.vision_language.base import VisionLanguageMethod
from minigrad import io as files
from minigrad.backend.libraries import library
from minigrad import Tensor, data, nn, optim, random

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
    (dict(count=2.0), "--count 2.0: choose a whole number 1 or more, at most 5"),
    (dict(count=True), "--count True: choose a whole"),
    (dict(count=Tensor(2)), "--count Tensor(2): choose a whole number"), (dict(count="2"), "--count 2: choose a whole number"),
    (dict(count=None), "--count None"), (dict(rate=Tensor(0.5, requires_grad=True)), "choose a number above 0, below 1"),
    (dict(rate="0.5"), "--rate 0.5: choose a number"), (dict(rate=True), "--rate True"),
    (dict(widths=4), "--widths 4: choose several"), (dict(resume="no"), "--resume no: choose True or False"),
    (dict(resume=None), "--resume None"), (dict(name=5), "--name 5: choose a text"),
    (dict(rate=0.0), "--rate 0.0: choose a number above 0, below 1"), (dict(rate=1.0), "--rate 1.0"),
    (dict(rate=float("nan")), "--rate nan"), (dict(rate=float("inf")), "--rate inf"), (dict(count=6), "--count 6"),
    (dict(count=0), "--count 0: choose a number 1 or more, at most 5"), (dict(widths=(4, 0)), "--widths 0"),
    (dict(steps=0), "--steps 0"), (dict(seed=-1), "--seed -1"),
    (dict(device="tpu"), '--device tpu: choose "cpu" or "cuda"'),
    (dict(out=""), '--out "": choose a text that is not empty'), (dict(name=""), '--name ""')])
def test_limits(changes, words):
    check(Run())
    check(Run(rate=1e-9, count=5, widths=()))
    with pytest.raises(SystemExit) as error:
        check(dataclasses.replace(Run(), **changes))
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("value, words", [
    (dict(sizes=(1, 2.5)), "--sizes 2.5: choose a whole number"), (dict(sizes="12"), "--sizes 12: choose several"),
    (dict(names=("a", 1)), "--names 1: choose a text")], ids=["fraction", "text", "number"])
def test_each_of_several_values_is_of_its_type(value, words):
    config = dataclasses.make_dataclass("Config", [("sizes", tuple[int, ...], (1, 2)), ("names", tuple[str, ...], ("a",))])
    check(config())
    with pytest.raises(SystemExit, match=words):
        check(config(**value))


@pytest.mark.parametrize("name", ["semi_supervised fixmatch", "self_supervised simclr", "peft lora"])
def test_methods_are_found_without_texts(monkeypatch, name):  # python -OO strips them
    pytest.importorskip("tyro")
    example, method = name.split()
    module = importlib.import_module(f"examples.{example}")
    methods = getattr(module, "MODULES", None) or module.METHODS
    for one in methods.values():
        monkeypatch.setattr(one, "__doc__", None)
    assert subcommands(methods, module.settings, None, [method, "--steps", "3"]).steps == 3


@pytest.mark.parametrize("name", ["1.png", "2.JPG", "3.txt", "4.wav", "5.wave", "6.ppm", "7.jp2"])
def test_a_class_of_the_data_does_not_become_a_run(tmp_path, name):  # whose files the loaders then pass over
    (tmp_path / "classes" / "cat").mkdir(parents=True)
    (tmp_path / "classes" / "cat" / name).touch()
    RunFolder(tmp_path / "classes", RunSettings(), True)  # which may be anything
    for data in (tmp_path, tmp_path / "classes"):
        with pytest.raises(FileExistsError, match=f"holds data \\(cat/{name}\\).*--out"):
            RunFolder(tmp_path / "classes", SimpleNamespace(data=str(data)), True)
    (tmp_path / "classes" / "cat" / ".minigrad-run").touch()  # a run's figures
    RunFolder(tmp_path / "classes", SimpleNamespace(data=str(tmp_path)), True)
    shutil.rmtree(tmp_path / "classes")
    (tmp_path / name).touch()
    with pytest.raises(FileExistsError, match=f"holds data \\({name}\\).*--out"):
        RunFolder(tmp_path, RunSettings(), True)
    assert os.listdir(tmp_path) == [name]
    (tmp_path / ".minigrad-run").touch()  # it is a run that made it
    RunFolder(tmp_path, RunSettings(), True)


def test_a_number_of_threads_that_cannot_be_is_said_before_training(monkeypatch):
    from minigrad.backend.cpu import threads
    monkeypatch.setattr(threads, "_num_threads", None)
    for given in ("0", "two", "-1", "1.5"):
        monkeypatch.setenv("MINIGRAD_NUM_THREADS", given)
        with pytest.raises(SystemExit, match=f"MINIGRAD_NUM_THREADS={given}: a whole number"):
            check(RunSettings())
    monkeypatch.setenv("MINIGRAD_NUM_THREADS", "1")
    check(RunSettings())


def test_the_interval_of_a_mean_is_that_of_the_spread_over_all_tasks():
    assert np.isnan(evaluation.mean_and_interval(np.array([0.5]))[1])  # one value says nothing of it
    draws = np.random.default_rng(0).normal(size=(20000, 3))
    halves = np.array([evaluation.mean_and_interval(some)[1] for some in draws])
    np.testing.assert_allclose((halves ** 2).mean(), 1.96 ** 2 / 3, rtol=0.03)  # from three values, without a bias


def test_an_empty_text_is_no_folder():  # "" would be the current one, as an unset variable of a shell gives it
    kind = dataclasses.make_dataclass("Config", [("run", str), ("only", tuple[str, ...], ()), ("data", str, "")])
    check(kind("runs/run"))
    for values, words in (dict(run=""), 'RUN "": choose'), (dict(run="run", only=("a", "")), '--only "": choose'):
        with pytest.raises(SystemExit, match=words):
            check(kind(**values))


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
                                  "semi_supervised", "clip", "clip_few_labels"])
def test_the_same_flags_everywhere(name):
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
    architecture = Architecture("methods.training.networks.MLP", sizes=[16], num_classes=3, norm=False)
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
def test_few_shot_probabilities(tmp_path, name, arguments, monkeypatch):
    """They sum to one, a query that is an example of a class belongs to it, and the examples are prepared once for all."""
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
    prepare, calls = again.net.prepare, []
    monkeypatch.setattr(again.net, "prepare", lambda *args: calls.append(args) or prepare(*args))
    np.testing.assert_allclose(again.probabilities(support[:, 0].astype(np.float32) / 255, batch=1), p, rtol=1e-4)
    assert len(calls) == 1
    assert again.probabilities(np.zeros((0, 1, 28, 28), np.float32)).shape == (0, 3)


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
    assert "not looked at: 1 file of other kinds (1 .txt)" in said and "object at" not in said
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


def trained(tmp_path, steps=12, kind=Line, **settings):
    folder = RunFolder(tmp_path / "run", settings.pop("config", Run()), settings.pop("resume", False))
    net = nn.Linear(1, 1)
    train(kind(None, net), Ones(), {"sgd": optim.SGD(net.parameters(), 0.5)}, steps, folder, **settings)
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


class Pieces(Line):
    """The same in two pieces."""

    loss = Method.loss

    def arguments(self, batch, step):
        return Tensor(batch), 2

    def objective(self, x, factor):
        return ((self.net(x) - factor * x) ** 2).mean(), {"twice": factor * x.data.mean()}

    def after_backward(self, step):
        assert step is None


class Thrice(Pieces):
    def objective(self, x, factor):
        return super().objective(x, 3)


def test_a_method_in_two_pieces_trains_to_the_same_bits(tmp_path):
    pytest.importorskip("tqdm")
    random.seed(0)
    whole = trained(tmp_path / "whole")
    random.seed(0)
    pieces = trained(tmp_path / "pieces", kind=Pieces)
    assert pieces.checkpoint.read_bytes() == whole.checkpoint.read_bytes()
    assert [m["loss"] for m in pieces.history()] == [m["loss"] for m in whole.history()] and pieces.history()[0]["twice"] == 2
    assert trained(tmp_path / "thrice", kind=Thrice).history()[0]["twice"] == 3


@pytest.mark.parametrize("defined, lacking", [((), r"neither loss\(\) nor arguments"), (("arguments",), "no objective"),
                                              (("objective",), r"neither loss\(\) nor arguments")])
def test_what_a_method_lacks_is_named(tmp_path, defined, lacking):
    pytest.importorskip("tqdm")
    kind = type("Incomplete", (Method,), {name: vars(Pieces)[name] for name in defined})
    with pytest.raises(TypeError, match=f"Incomplete defines {lacking}"):
        trained(tmp_path, kind=kind)


def arguments_of(labels):
    """What makes a step's arguments of a batch with labels of three classes, by method."""
    net, x = nn.ResNet(nn.models.resnet.BasicBlock, (1, 1, 1, 1), 3, small_images=True), np.zeros((3, 3, 8, 8), np.float32)
    episode = data.Episode(x, np.arange(3), x, labels, np.arange(3))
    task = self_supervised_base.Task(size=8, channels=3, images=3, batch=3, steps=1, classes=3, flip=False)
    methods = {
        "fine-tuning": (finetune.FineTune(finetune.Config(), net), (x, labels)),
        "peft": (tuning.Tuning(tuning.Config(), SimpleNamespace(net=net)), (x, labels)),
        "prototypes": (prototypical.Prototypical(None, net), episode),
        "matching": (matching.Matching(None, matching.MatchingNetwork(net, 3)), episode),
        "supervised": (supervised.Supervised(supervised.Config(), net, task),
                       self_supervised_base.Batch(x, np.arange(3), labels))}
    return {name: lambda method=method, batch=batch: method.arguments(batch, 0) for name, (method, batch) in methods.items()}


@pytest.mark.parametrize("labels", [[0, 3, 1], [-1, 0, 1]], ids=str)
def test_labels_out_of_range_are_refused_on_the_host(labels):
    for call in arguments_of(np.array([0, 2, -100])).values():
        call()
    for call in arguments_of(np.array(labels)).values():
        with pytest.raises(ValueError, match=f"labels from 0 to 2 wanted for 3 classes, got {min(labels)} to {max(labels)}"):
            call()


@pytest.mark.parametrize("kind, name", [("Line", "loss"), ("Pieces", "objective")])
@pytest.mark.parametrize("found, got", [
    (lambda x: x, "Tensor"), (lambda x: (x, x), "Tensor and Tensor"), (lambda x: (2.0, {}), "float and dict"),
    (lambda x: None, "NoneType"), (lambda x: (x, {}, {}), "Tensor and dict and dict")])
def test_a_loss_comes_with_a_dict(tmp_path, kind, name, found, got):
    pytest.importorskip("tqdm")
    odd = type("Odd", (globals()[kind],), {name: lambda self, x, _: found(self.net(Tensor(x)).sum())})
    with pytest.raises(TypeError, match=rf"Odd\.{name}: a Tensor, the loss, and a dict of numbers to log wanted, got {got}$"):
        trained(tmp_path, kind=odd)


@pytest.mark.parametrize("given, wanted", [
    (np.ones(2), "a tuple wanted, the arguments of objective(), got ndarray"), ([1], "got list"), ({"x": 1}, "got dict"),
    ((SimpleNamespace(x=1),), "Tensors, arrays and numbers in tuples, lists and dicts wanted, got SimpleNamespace"),
    (({"x": {1}},), "got set")])
def test_arguments_are_a_tuple_of_trees(tmp_path, given, wanted):
    pytest.importorskip("tqdm")
    kind = type("Odd", (Pieces,), {"arguments": lambda self, batch, step: given})
    with pytest.raises(TypeError, match=rf"Odd\.arguments: .*{re.escape(wanted)}"):
        trained(tmp_path, kind=kind)


@pytest.mark.parametrize("steady", ["sgd", ("adam",), ("sgd", "adam")])
def test_steady_names_optimisers(tmp_path, steady):
    with pytest.raises(ValueError, match=r"Steady\.steady: some of \('sgd',\) wanted, the names of the optimisers, got "):
        trained(tmp_path, kind=type("Steady", (Line,), {"steady": steady}))


@pytest.mark.parametrize("frame", [SelfSupervisedMethod, SemiSupervisedMethod, VisionLanguageMethod])
def test_methods_of_all_kinds_may_be_in_two_pieces(frame):
    assert frame.loss is Method.loss


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
    assert stopped.value.code == 128 + number and "stopped after 3 steps; " in capsys.readouterr().out
    assert checkpoint.load(tmp_path / "run" / "checkpoint.safetensors")["step"] == 3 and signal.getsignal(number) is before


@pytest.mark.parametrize("config, how", [(Run(), " with --resume"), (Run(out="runs/run/"), " with --resume"),
                                         (Run(out="runs/whole"), " with --resume"), (Run(resume=True), ""), (Config(), "")])
def test_what_a_stopped_run_says_goes_on_with_it(tmp_path, capsys, config, how):
    pytest.importorskip("tqdm")
    with pytest.raises(SystemExit):
        trained(tmp_path, config=config, evaluate=lambda done: signal.raise_signal(signal.SIGINT) or {}, evaluate_every=3)
    assert f"stopped after 3 steps; the same command{how} continues\n" in capsys.readouterr().out


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
    assert comparison.compare(jobs(), True, lambda *_: None, "a") == both  # which data it had was not kept
    assert comparison.result(Run(out=str(tmp_path / "z")), lambda: 1.0, True, "a") == (1.0, 0.0)
    assert comparison.result(Run(out=str(tmp_path / "z")), lambda: 2.0, True, "a") == (1.0, 0.0)
    with pytest.raises(SystemExit, match="z was made with other data; give it again"):
        comparison.result(Run(out=str(tmp_path / "z")), lambda: 2.0, True, "b")

    @dataclasses.dataclass
    class Later(Run):
        other: int = 1

    assert comparison.result(Later(out=str(tmp_path / "x0")), lambda: 9.0, True)[0] == 0.0  # it was made when there was one less
    with pytest.raises(SystemExit, match="other settings: other"):
        comparison.result(Later(out=str(tmp_path / "x0"), other=2), lambda: 9.0, True)

    @dataclasses.dataclass
    class Several(Run):
        names: tuple[str, ...] = ()
        more: list[str] = dataclasses.field(default_factory=list)

    assert comparison.result(Several(out=str(tmp_path / "x0"), names=[]), lambda: 9.0, True)[0] == 0.0
    with pytest.raises(SystemExit, match="other settings: more"):
        comparison.result(Several(out=str(tmp_path / "x0"), more=["a"]), lambda: 9.0, True)
    assert comparison.text_table([("a", "bc"), ("def", "g")]) == "a    bc\n---  --\ndef  g\n"
    assert comparison.spread([1.0], 1) == "1.0" and comparison.spread([1.0, 3.0], 1) == "2.0 +- 1.4"


def test_scores_that_are_no_numbers_are_never_right(monkeypatch):
    scores, y = np.full((6, 3), np.nan), np.arange(6) % 3
    scores[3:] = np.eye(3)[y[3:]]
    assert evaluation.accuracy(scores, y) == 0.5 and evaluation.accuracy(np.where(y == 0, np.nan, scores.T).T, y) == 1 / 3
    assert maml_tasks.CharacterLearner.score(scores.reshape(2, 3, 3), y.reshape(2, 3)).tolist() == [0, 100]
    run = data.LakeRun(np.zeros((3, 4, 4), np.float32), np.zeros((6, 4, 4), np.float32), y)
    monkeypatch.setattr(few_shot_evaluation, "embed_all", lambda net, parts: parts)
    net = SimpleNamespace(classify=lambda *_: Tensor(scores))
    assert few_shot_evaluation.lake_error_rate(net, [run]) == 0.5


def test_deviations_and_intervals_of_few_values_are_those_of_what_the_values_were_drawn_from():
    drawn = np.random.default_rng(0).standard_normal((4000, 3))
    assert np.sqrt(np.mean([evaluation.deviation(three) ** 2 for three in drawn])) == pytest.approx(1, abs=0.02)
    held = [abs(mean) < half for mean, half in map(evaluation.mean_and_interval, drawn.reshape(400, 30))]
    assert np.mean(held) > 0.92
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(evaluation.deviation([5.0])) and np.isnan(evaluation.mean_and_interval([5.0])[1])


def test_charts_have_the_spread_that_tables_have(tmp_path, monkeypatch):
    Axes, seen = pytest.importorskip("matplotlib.axes").Axes, []
    errorbar = Axes.errorbar  # which bars call, too
    monkeypatch.setattr(Axes, "errorbar", lambda *given, **more: (
        seen.append([*given, more.get("xerr")][3]), errorbar(*given, **more))[1])
    plots.bars({"a": [1.0, 3.0]}, tmp_path / "bars.png", "", 50.0)
    compare_transfer.draw({("a", 5): [1.0, 3.0], ("a", 9): [3.0, 1.0]}, [5, 9], ["a"], 2, tmp_path / "lines.png")
    assert seen == [[pytest.approx(2**0.5)], [pytest.approx(2**0.5)] * 2]


def test_charts_show_what_was_measured_in_plain_numbers(tmp_path, monkeypatch):
    Axes, shown = pytest.importorskip("matplotlib.axes").Axes, []
    figure = plots.figure

    @contextlib.contextmanager
    def kept(*given, **settings):
        with figure(*given, **settings) as axes:
            yield axes
            axes[0, 0].figure.canvas.draw()
            texts = axes[0, 0].get_legend().get_texts(), axes[0, 0].get_xticklabels(), axes[0, 0].texts
            shown.append([[text.get_text() for text in some] for some in texts])

    monkeypatch.setattr(plots, "figure", kept)
    few, both = {("a", 2): [50.0], ("b", 2): [60.0]}, {("a", 2): [50.0], ("a", 30): [90.0]}
    compare_transfer.draw(both, [2, 30], ["a", "failed"], 2, tmp_path / "lines.png")
    compare_transfer.draw(few, [2], ["a", "b", "failed"], 2, tmp_path / "bars.png")
    assert shown[0] == [["a"], ["2", "30"], []]
    assert shown[1][0] == ["chance"] and shown[1][2] == ["60.0", "50.0"]
    with figure(tmp_path / "seconds.png") as axes:
        axes[0, 0].plot([0.3, 8], [1, 2])
        plots.logarithmic(axes[0, 0])
        low, high = axes[0, 0].get_xlim()
        assert [x for x in axes[0, 0].get_xticks() if low <= x <= high] == pytest.approx([0.5, 1, 2, 5])


def test_a_library_that_is_missing_is_named_in_one_line(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="^this needs the library nothing: pip install nothing$"):
        report_errors(lambda run: library("no_module_has_this_name", "nothing", "this needs"), None)
    (tmp_path / "lacks_a_part.py").write_text("import no_module_has_this_name")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_module_has_this_name'"):
        library("lacks_a_part", "whole", "this needs")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("PIL", "tyro") else name)
    with pytest.raises(SystemExit, match=r'^the examples need pillow, tyro: pip install -e "\.\[examples\]" in the clone$'):
        importlib.reload(sys.modules["examples"])


def test_places_in_the_plane_are_found_by_one_thread(monkeypatch):
    """Several would wait for each other thousands of times, and many times longer where other programs run."""
    manifold, threadpoolctl = pytest.importorskip("sklearn.manifold"), pytest.importorskip("threadpoolctl")
    threads = []

    def fit_transform(self, x):
        threads.extend(pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "openmp")
        return x

    monkeypatch.setattr(manifold.TSNE, "fit_transform", fit_transform)
    plots.plane(np.zeros((10, 2)))
    assert threads and set(threads) == {1}


def twice(folder, divided):
    """Pictures of noise in four classes, some twice, in their class or another: divided, once to train and once to test on."""
    Image = pytest.importorskip("PIL.Image")
    for i in range(20):
        picture = Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8))
        places = [("train/" * divided, "abcd"[i % 4])] + [("test/" * divided, "abcd"[i // 2 % 4])] * (i < 10)
        for k, (part, kind) in enumerate(places):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
            picture.save(folder / part / kind / f"{i} {k}.png")
    return str(folder)


def folder_of_classes(folder, train, test):
    """The path of an image folder with so many pictures of each of four classes to train and to test on."""
    Image, rng = pytest.importorskip("PIL.Image"), np.random.default_rng(0)
    for part, each in (("train", train), ("test", test)):
        for i in range(4 * each):
            (folder / part / "abcd"[i % 4]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / part / "abcd"[i % 4] / f"{i}.png")
    return str(folder)


@pytest.mark.parametrize("divided", (False, True))
def test_copies_of_pictures_to_test_on_are_not_trained_on(tmp_path, divided):
    path = twice(tmp_path, divided)
    semi, transfer, own = images.own_images(path, 0, 0), pictures.own_pictures(path), self_supervised_pictures.load(path)
    at_once = [np.asarray(transfer.pictures[i]) for i in range(len(transfer.labels))]
    for train, test, said in ((semi.x, semi.test, semi.description), (own.x, own.test, own.description),
                              ([at_once[i] for i in transfer.train], [at_once[i] for i in transfer.test], transfer.description)):
        train, test = ({x.tobytes() for x in part} for part in (train, test))
        assert train and test and not train & test and " of pictures to test on (" in said


@pytest.mark.parametrize("labels, used, said", [(-1, 40, "all 40 labels, as there are not 50 with"), (0, 40, "all 40 labels,"),
                                                (8, 8, "8 labels in all (2 per class)")])
def test_a_folder_with_fewer_labels_than_usual_gives_all(tmp_path, labels, used, said):
    path = folder_of_classes(tmp_path, 10, 2)
    found = images.load(path, labels, 0)
    assert len(found.x) == used and found.labels == (8 if used == 8 else 0) and said in found.description
    for wrong in (2, 50, 1000):
        with pytest.raises(SystemExit, match=f"--labels {wrong}: .*; --labels 0 uses all that there are"):
            images.load(path, wrong, 0)


def test_of_a_folder_with_labels_enough_and_of_a_data_set_fifty_are_used(tmp_path):
    for source in (folder_of_classes(tmp_path, 13, 2), "digits"):
        assert len(images.load(source, -1, 0).x) == images.load(source, -1, 0).labels == 50


@pytest.mark.parametrize("divided", (False, True))
def test_unlabelled_copies_of_pictures_to_test_on_are_not_learned_from(tmp_path, divided):
    path = pathlib.Path(twice(tmp_path, divided))
    before = images.own_images(str(path), 0, 0)
    (path / "unlabelled").mkdir()
    for i, name in enumerate(before.test_files[:3]):
        shutil.copy(name, path / "unlabelled" / f"copy {i}.png")
    shutil.copy(before.test_files[0], path / "loose.png")
    Image = pytest.importorskip("PIL.Image")
    Image.fromarray(np.random.default_rng(99).integers(0, 256, (32, 32, 3), np.uint8)).save(path / "unlabelled" / "new.png")
    semi, own = images.own_images(str(path), 0, 0), self_supervised_pictures.load(path)
    tested = {x.tobytes() for x in semi.test}
    assert not tested & {x.tobytes() for x in semi.unlabelled} and len(semi.unlabelled) == len(before.unlabelled) + 1
    assert [pathlib.Path(name).name for name in semi.unlabelled_files] == ["new.png"]
    assert not {x.tobytes() for x in own.test} & {x.tobytes() for x in own.x}
    count, semi_count, own_count = (int(re.search(r"not used: (\d+) cop.* of pictures to test on", found.description)[1])
                                    for found in (before, semi, own))
    assert (semi_count, own_count) == (count + 3, count + 4) and "without a label: 1 picture beside" in own.description
    assert len(pictures.own_pictures(str(path)).unlabelled) == 4  # their classes are written down, nothing is learned


@pytest.mark.parametrize("divided", (False, True))
def test_copies_of_texts_to_test_on_are_not_trained_on(tmp_path, capsys, divided):
    rows = [f"text {i // 2},{'ab'[i // 2 % 2]}\n" for i in range(80)]
    for name, some in {"train": rows[1:], "test": rows[:60:2]}.items():
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(some))
    found = texts.load(str(tmp_path if divided else tmp_path / "train.csv"))
    assert found.x and found.test and not set(found.x) & set(found.test)
    assert "of texts to test on" in capsys.readouterr().out


def test_one_text_of_each_class_leaves_none_to_test_on(tmp_path):
    (tmp_path / "own.csv").write_text("text,label\ngood,1\nbad,0\n")
    with pytest.raises(SystemExit, match="no text to test on, as each class has one; two of a class will do"):
        texts.load(str(tmp_path / "own.csv"))


@pytest.mark.parametrize("tested", (None, np.arange(20, 40)))
@pytest.mark.parametrize("source", texts.NAMES)
def test_texts_of_known_sets_are_trained_on_or_tested_on(monkeypatch, capsys, source, tested):
    labels = np.arange(40) % (4 if source == "glosses" else 2)
    every = [f"text {i}" for i in range(40)]
    monkeypatch.setattr(texts, "_read", lambda _: texts.LabelledTexts(every, labels, tuple("abcd"[:labels.max() + 1]), tested))
    found = texts.load(source)
    assert sorted(found.x + found.test) == sorted(every) and not capsys.readouterr().out
    assert tested is None or found.test == every[20:]


def test_no_query_is_a_copy_of_an_example_of_its_class(tmp_path):
    train, test, said = characters.own_images(twice(tmp_path, False))
    for images in (*train.images, *test.images):
        assert len({x.tobytes() for x in images}) == len(images)
    assert "of pictures of their class (" in said


def test_outputs_in_batches_leave_the_network_as_it_was():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.BatchNorm1d(2).eval())
    x, before = np.random.default_rng(0).random((7, 3), np.float32), net.state_dict()
    outputs = evaluation.in_batches(net, x, 3)
    assert outputs.shape == (7, 2) and all((before[k] == v).all() for k, v in net.state_dict().items())
    assert [module.training for module in net.modules()] == [True, True, True, False]
    np.testing.assert_allclose(outputs, net.eval()(Tensor(x)).numpy(), rtol=1e-5)
    assert objectives.one_hot(np.array([1, 0]), 3).tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("outputs", [evaluation.in_batches, encoders.encode, zero_shot.image_features])
def test_of_no_pictures_there_are_no_outputs(outputs):
    width = 64 if outputs is zero_shot.image_features else 2
    for dtype in (np.float32, np.uint8):
        assert outputs(networks.SmallConv(3, 2), np.zeros((0, 3, 16, 16), dtype)).shape == (0, width)


# -- faults of run folders ---------------------------------------------------------------------------------------------

class Points:
    """Batches of numbers near `centre`."""

    def __init__(self, centre=1.0):
        self.centre, self.rng = centre, np.random.default_rng(0)

    def sample(self):
        return (self.centre + self.rng.standard_normal((4, 2))).astype(np.float32)

    def state(self):
        return {"rng": self.rng}


class Regression(Method):
    def __init__(self):
        self.net = nn.Linear(2, 1)
        self.net.weight.data = np.ones((1, 2), np.float32)

    def loss(self, batch, step):
        return ((self.net(Tensor(batch)) - 3) ** 2).mean(), {}

    def state(self):
        return {"net": self.net}


def regression(run, data=None, centre=1.0, **settings):
    def main(run):
        method, folder = Regression(), RunFolder(run.out, run, run.resume)
        optimizers = {"sgd": optim.SGD(method.net.parameters(), run.rate, 0.9)}
        train(method, Points(centre), optimizers, run.steps, folder, save_every=5, data=data, **settings)
        return method.net.weight.numpy()
    return report_errors(main, run)


def _swap(path, change):
    arrays, facts = files.load(path)
    for name in [name for name in arrays if arrays[name].dtype.kind == "f"]:
        arrays[name] = change(arrays[name])
    files.save(path, arrays, facts)


@pytest.mark.parametrize("fill", [lambda run: np.zeros((1 << 30, 1 << 20)), lambda run: [0] * (1 << 60)])
def test_want_of_memory_is_one_line(fill):
    with pytest.raises(SystemExit, match="^there is not enough memory for these settings and data.") as error:
        report_errors(fill, None)
    assert "\n" not in error.value.code


FILE_DAMAGES = {
    "half": lambda path: os.truncate(path, path.stat().st_size // 2), "empty": lambda path: os.truncate(path, 0),
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 9), "text": lambda path: path.write_text("3\n[1]\nnull\n{}\n"),
    "a broken tail": lambda path: path.write_bytes(path.read_bytes() + b'\xff{"step": 4, \n"x"}\n{"step": "a"}\n'),
    "deep": lambda path: path.write_text("[" * 100_000), "a folder": lambda path: (path.unlink(), path.mkdir()),
    "missing": lambda path: path.unlink()}


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "checkpoint.safetensors"])
@pytest.mark.parametrize("damage", FILE_DAMAGES)
def test_a_damaged_run_is_refused_or_repaired_in_one_line(tmp_path, name, damage):
    run = Run(steps=10, rate=0.01, out=str(tmp_path / "run"))
    regression(run)
    FILE_DAMAGES[damage](tmp_path / "run" / name)
    try:
        regression(dataclasses.replace(run, steps=20, resume=True))
    except SystemExit as error:
        assert error.code and "\n" not in error.code and str(tmp_path / "run") in error.code
    else:
        assert name != "checkpoint.safetensors" or damage == "missing"
        assert [m["step"] for m in RunFolder(run.out, run, True).history()][-1] == 20
        assert json.loads((tmp_path / "run" / "config.json").read_text()) == record(run)
    assert not list((tmp_path / "run").glob("*.part")) and not (tmp_path / "run" / "lock").exists()


@pytest.mark.parametrize("change", [lambda a: a * np.float32("nan"), lambda a: a + np.float32("inf"),
                                    lambda a: np.ones((1, 1, 1, 1), a.dtype), lambda a: a.ravel()[:0]])
def test_a_checkpoint_of_other_numbers_is_refused(tmp_path, change):
    run = Run(steps=5, rate=0.01, out=str(tmp_path / "run"))
    regression(run)
    _swap(tmp_path / "run" / "checkpoint.safetensors", change)
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    with pytest.raises(SystemExit, match="cannot be resumed"):
        regression(dataclasses.replace(run, steps=20, resume=True))
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize("inner", ["", "inner/deep"])
def test_a_file_in_the_place_of_a_folder(tmp_path, inner):
    (tmp_path / "file").write_text("mine")
    for resume in (False, True):
        with pytest.raises(SystemExit, match="is a file, no folder"):
            regression(Run(out=str(tmp_path / "file" / inner), resume=resume))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_without_a_checkpoint_is_not_overwritten(tmp_path):
    semi_supervised = pytest.importorskip("examples.semi_supervised")
    run = dataclasses.replace(semi_supervised.settings("label_propagation"), steps=2, out=str(tmp_path / "run"))
    semi_supervised.main(run)
    before = (tmp_path / "run" / "mistakes.csv").read_bytes()
    for other in (run, dataclasses.replace(run, neighbours=3),
                  dataclasses.replace(semi_supervised.settings("supervised"), steps=2, out=run.out)):
        with pytest.raises(FileExistsError, match="holds a run; continue it with --resume"):
            semi_supervised.main(other)
    assert (tmp_path / "run" / "mistakes.csv").read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_a_program_whose_output_is_closed_runs(tmp_path):
    pytest.importorskip("tyro")
    command = f"{sys.executable} -m examples.prototypical_networks --help"
    assert subprocess.run(f"{command} >&-", shell=True, cwd=ROOT, stderr=subprocess.PIPE).stderr == b""
    if os.path.exists("/dev/full"):
        said = subprocess.run(f"{command} > /dev/full", shell=True, cwd=ROOT, stderr=subprocess.PIPE, text=True).stderr
        assert "Traceback" not in said and "No space left" in said


def test_a_run_whose_standard_error_is_closed_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    regression(Run(steps=2, out=str(tmp_path)))
    assert checkpoint.load(tmp_path / "checkpoint.safetensors")["step"] == 2


@pytest.mark.parametrize("file", ["out", "out/inner"])
def test_a_file_where_a_folder_is_wanted_is_refused_at_the_start(tmp_path, file):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SystemExit, match="--out .*out is a file, no folder"):
        check(Run(out=str(tmp_path / file)))


def test_an_empty_folder_is_a_new_run(tmp_path):
    regression(Run(steps=2, out=str(tmp_path), resume=True))
    with pytest.raises(SystemExit, match="continue it with --resume, or choose another --out"):
        regression(Run(steps=2, out=str(tmp_path)))


def test_the_configuration_is_not_rewritten(tmp_path):
    run = Run(steps=5, rate=0.01, out=str(tmp_path))
    regression(run)
    before = (tmp_path / "config.json").stat()
    regression(dataclasses.replace(run, steps=10, resume=True))
    after = (tmp_path / "config.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("momentum_rate", [0.9, 1e30])
def test_divergence_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path, momentum_rate):
    run = Run(steps=5, rate=0.01, out=str(tmp_path))
    regression(run)
    good = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(SystemExit, match=r"diverged.*smaller learning rate.*checkpoint after step \d+") as error:
        regression(dataclasses.replace(run, steps=5000, resume=True), schedule=lambda step, steps: 100 * momentum_rate)
    assert isinstance(error.value.code, str)
    now, _ = files.load(tmp_path / "checkpoint.safetensors")
    assert all(np.isfinite(a).all() for a in now.values() if a.dtype.kind == "f")
    assert momentum_rate < 1 or (tmp_path / "checkpoint.safetensors").read_bytes() == good


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_last_step_to_infinity_is_not_saved(tmp_path):
    with pytest.raises(SystemExit, match="diverged.*no checkpoint yet"):
        regression(Run(steps=1, out=str(tmp_path)), schedule=lambda step, steps: 1e39)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_a_second_run_into_the_same_folder_is_refused_and_a_dead_one_forgotten(tmp_path):
    run = Run(steps=5, rate=0.01, out=str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").write_text("1\n")  # left behind
    with RunFolder(run.out, run, False).locked():
        with pytest.raises(SystemExit, match=rf"another run writes into .* \(process {os.getpid()}\)"):
            regression(run)
        assert {path.name for path in (tmp_path / "run").iterdir()} == {".minigrad-run", "lock"}
    regression(run)
    assert not (tmp_path / "run" / "lock").exists()


@pytest.mark.parametrize("other", [dict(data="b"), dict(data=checkpoint.fingerprint(np.zeros(3)))])
def test_a_run_does_not_go_on_with_other_data(tmp_path, other):
    run = Run(steps=5, rate=0.01, out=str(tmp_path))
    regression(run, data="a")
    regression(dataclasses.replace(run, steps=6, resume=True), data="a")
    with pytest.raises(SystemExit, match="was made with other data"):
        regression(dataclasses.replace(run, steps=7, resume=True), **other)


def test_fingerprints():
    x = np.arange(5000.0).reshape(2500, 2)
    different = [x, x[:-1], x.astype("f"), x.reshape(-1), x + 1, [x], [x, x], (x[:1], x[1:]), ["a", "b"], ["ab"], np.float64(1),
                 x[:0], "x"]
    assert len({checkpoint.fingerprint(value) for value in different}) == len(different)
    assert checkpoint.fingerprint(x[:, ::-1]) == checkpoint.fingerprint(x[:, ::-1].copy())


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_save_what_is_done(tmp_path, name):
    number = getattr(signal, name)

    def send(step):
        os.kill(os.getpid(), number)
        return {}
    with pytest.raises(SystemExit) as error:
        regression(Run(steps=50, rate=0.01, out=str(tmp_path)), evaluate=send, evaluate_every=7)
    assert error.value.code == 128 + number and checkpoint.load(tmp_path / "checkpoint.safetensors")["step"] == 7


@pytest.mark.parametrize("kept", [signal.SIG_IGN, None], ids=["ignored", "handled in C"])
def test_signals_that_are_others_stay_theirs(monkeypatch, kept):
    monkeypatch.setattr(signal, "getsignal", lambda number: kept)
    monkeypatch.setattr(signal, "signal", lambda number, handler: pytest.fail("another's handler was replaced"))
    with stop_signals() as received:
        assert received == []


def test_a_reader_that_goes_away_ends_the_program_quietly():
    code = ("from methods.training.settings import report_errors\n"
            "report_errors(lambda run: [print('x' * 99) for _ in range(99999)], None)")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 141


def test_help_says_what_to_type_and_is_quiet_when_its_reader_goes_away():
    read, write = os.pipe()
    command = [sys.executable, "-m", "examples.predict"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 2 and "python -m examples.predict --help" in process.stderr and "RUN" in process.stderr
    os.close(read)
    process = subprocess.run([*command, "--help"], cwd=ROOT, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert process.returncode == 141 and process.stderr == b""


@pytest.mark.parametrize("words", [[], ["--help"]])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])  # the second is Python's in the locale C
def test_what_the_encoding_of_the_output_lacks_is_escaped(monkeypatch, encoding, errors, words):
    pytest.importorskip("tyro")
    text, written = "K\u00e4se \u65e5", io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, errors))
    with contextlib.suppress(SystemExit):  # the last letter is as in a file's name that is no UTF-8
        command(lambda run: print(text, "\udcff"), dataclasses.make_dataclass("Nothing", []), text, words)
    assert text.encode(encoding, "backslashreplace") in written.getvalue()


def test_the_comment_of_a_setting_is_on_its_line():  # where --help looks for it
    for path in [*ROOT.glob("examples/*.py"), *ROOT.glob("methods/**/*.py")]:
        assert not re.search(r"\n    \w+: [^#\n]*# .*\n    #", path.read_text()), path


# -- odd settings ------------------------------------------------------------------------------------------------------

def odd_settings():
    """(example, field, value out of its range) of all examples and methods."""
    from examples import attention, embed, few_labels, self_supervised, semi_supervised, simclr_v2
    from methods import self_supervised as without_labels
    examples = {name: importlib.import_module(f"examples.{name}") for name in (
        "prototypical_networks", "matching_networks", "siamese_networks", "maml", "two_moons", "compare_few_shot",
        "compare_semi_supervised", "gallery", "transfer", "compare_transfer", "compare_self_supervised", "vit_resolution",
        "cpc_audio", "bert", "clip", "clip_few_labels", "compare_captions")}
    configs = [(module, module.Run()) for module in examples.values()]
    configs += [(semi_supervised, semi_supervised.settings(name)) for name in (*METHODS, "label_propagation")]
    configs += [(self_supervised, self_supervised.settings(name)) for name in without_labels.METHODS]
    configs += [(attention, attention.Run(())), (embed, embed.Run(())), (simclr_v2, simclr_v2.Run("runs")),
                (few_labels, few_labels.Run(folder="runs"))]
    for module, config in configs:
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if field.name == "device":
                yield module, config, field.name, "tpu"
            elif "Literal" in str(field.type):
                yield module, config, field.name, "manhattan"
            elif type(value) in (int, float):
                for odd in (-2, float("nan"), float("inf")):  # -1 may stand for a default
                    yield module, config, field.name, odd


def test_odd_settings_are_one_line_before_anything_is_written(tmp_path):
    pytest.importorskip("tyro")
    for module, config, name, odd in odd_settings():
        out = tmp_path / "run"
        with pytest.raises(SystemExit, match=f"^--{name.replace('_', '-')} {odd}: ") as error:
            module.main(dataclasses.replace(config, out=str(out), **{name: odd}))
        assert "\n" not in error.value.code and not out.exists(), (module, name)


IDLE = """
transfer --lr 0.01 | --lr 0.01 has no effect without --finetune
transfer --steps 3 | --steps 3 has no effect without --finetune
clip_few_labels --smoothing 0 | --smoothing 0.0 has no effect without --finetune
compare_transfer --mirror yes | --mirror yes has no effect unless --only names 'LP-FT' or
compare_transfer --only pixels --scratch-steps 4 | --scratch-steps 4 has no effect unless --only names 'scratch'
few_labels . --move | --move has no effect without --label
few_labels . --classes a b | --classes a b has no effect without --label
clip --encoder lite0 --tower vit | --tower vit has no effect with --encoder
clip --encoder lite0 --crop 0.5 | --crop 0.5 has no effect with --encoder, unless --no-frozen
clip --no-frozen | --no-frozen has no effect without --encoder
clip --depth 4 | --depth 4 has no effect with --tower residual
clip --tower resnet18 --width 8 | --width 8 has no effect with --tower resnet18
clip --tokenizer DIR --vocabulary 600 | --vocabulary 600 has no effect with --tokenizer
clip --languages de | --languages de has no effect without --data emoji
clip --task caption --dim 64 | --dim 64 has no effect without --task contrastive
clip --task bag_of_words --text-heads 3 | --text-heads 3 has no effect with --task bag_of_words, which reads no texts
compare_captions --image-size 64 | --image-size 64 has no effect without --encoder
bert --encoder DIR --layers 3 | --layers 3 has no effect with --encoder
bert --labels 0 --draws 5 | --draws 5 has no effect with --labels 0
maml --task sinusoid --data fashion | --data fashion has no effect with --task sinusoid
prototypical_networks --schedule cosine --halve-every 50 | --halve-every 50 has no effect without --schedule halve
matching_networks --reads 2 | --reads 2 has no effect without --context
compare_few_shot --task sinusoid --images 9 | --images 9 has no effect with --task sinusoid
compare_few_shot --steps 9 | --steps 9 has no effect with --task characters
compare_semi_supervised --depth 16 | --depth 16 has no effect with --network small
compare_self_supervised --depth 16 | --depth 16 has no effect with --network residual
self_supervised mae --network vit | --network vit has no effect with mae, which has a network of its own
self_supervised cpc_images --width 8 | --width 8 has no effect with cpc_images
self_supervised simclr --depth 4 | --depth 4 has no effect with --network residual
self_supervised vicreg --data digits --barlow --variance 3 | --variance 3.0 has no effect with --barlow
self_supervised vicreg --data digits --redundancy 3 | --redundancy 3.0 has no effect without --barlow
self_supervised simclr --data digits --no-colour --strength 1 | --strength 1.0 has no effect with --no-colour
semi_supervised ladder --network wide | --network wide has no effect with ladder, which has a network of its own
semi_supervised ladder --top 3 | --top 3.0 has no effect with --variant full
semi_supervised ladder --variant gamma --weights 3 4 | --weights 3.0 4.0 has no effect with --variant gamma
semi_supervised fixmatch --depth 16 | --depth 16 has no effect with --network small
semi_supervised freematch --no-strong --learned | --learned has no effect with --no-strong
semi_supervised mixmatch --mix no --alpha 0.5 | --alpha 0.5 has no effect with --mix no
peft setfit --batch 8 | --batch 8 has no effect with setfit
peft probe --steps 8 | --steps 8 has no effect with probe
peft lora --image-size 64 | --image-size 64 has no effect with texts
compare_peft --image-size 64 | --image-size 64 has no effect with texts
peft lora --data . --pooling first | --pooling first has no effect with pictures
"""


class Said(BaseException):
    """What was waited for was said."""


@pytest.mark.parametrize("case", IDLE.strip().splitlines())
def test_settings_without_effect_are_named_before_anything_is_written(tmp_path, case, monkeypatch):
    pytest.importorskip("tyro")
    words, said = case.split(" | ")
    name, *words = words.split()
    module = importlib.import_module(f"examples.{name}")

    def write(text):
        if text.startswith(said):
            raise Said
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=write, flush=lambda: None))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Said):
        if hasattr(module, "from_command_line"):
            module.main(module.from_command_line(words))
        else:
            command(module.main, module.Run, module.__doc__, words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place, said", [
    (".", "this is a folder; name a file"), ("/dev/null", "this is no regular file; name a file"), ("file/found.csv", "file is a file, no folder"),
    ("a" * 300 + ".csv", "File name too long"), ("locked/new/found.csv", "locked cannot be written to; choose another place")])
@pytest.mark.parametrize("name, setting", [("predict", "csv"), ("zero_shot", "csv"), ("embed", "out"), ("attention", "out")])
def test_where_no_file_can_be_written_is_said_before_the_work(tmp_path, monkeypatch, name, setting, place, said):
    (tmp_path / "file").write_text("")
    (tmp_path / "locked").mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: pathlib.Path(path).name != "locked" and access(path, mode))
    module = importlib.import_module(f"examples.{name}")
    given = {"images": ("no.png",), setting: str(tmp_path / place)} | ({"run": "none"} if setting == "csv" else {})
    with pytest.raises(SystemExit, match=f"^--{setting} .*: (.*/)?{said}$"):
        module.main(module.Run(**given))


def test_a_folder_that_cannot_be_written_to_is_said_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(SystemExit, match=f"^--out {tmp_path / 'run'}: {tmp_path} cannot be written to"):
        check(RunSettings(out=str(tmp_path / "run")))
    with pytest.raises(SystemExit, match="^--out .*: File name too long$"):
        check(RunSettings(out=str(tmp_path / ("a" * 300))))


def test_a_ladder_without_weights_is_one_line(tmp_path):
    from examples import semi_supervised
    run = dataclasses.replace(semi_supervised.settings("ladder"), weights=(), labels=20, out=str(tmp_path / "run"))
    with pytest.raises(SystemExit, match="^--weights: at least one number"):
        semi_supervised.main(run)
    assert not (tmp_path / "run").exists()


# -- comparisons -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("damage", FILE_DAMAGES)
def test_a_damaged_result_is_one_line_and_a_failed_run_costs_no_other(tmp_path, damage, capsys):
    def fails():
        raise RunError("diverged")
    runs = [(name, Run(out=str(tmp_path / name)), work) for name, work in (("a", lambda: 1.5), ("b", fails), ("c", lambda: 2.5))]
    found = comparison.compare(runs, False, lambda *args: None)
    assert {name: value[0][0] for name, value in found.items()} == {"a": 1.5, "c": 2.5}
    assert "b: diverged" in capsys.readouterr().err
    FILE_DAMAGES[damage](tmp_path / "a" / "result.json")
    if damage == "missing":
        assert comparison.compare(runs, True, lambda *args: None).keys() == {"a", "c"}
    else:
        with pytest.raises(SystemExit, match="result.json is damaged.*delete it") as error:
            comparison.compare(runs, True, lambda *args: None)
        assert "\n" not in str(error.value)
    with pytest.raises(SystemExit, match="no run was finished: b: diverged"):
        comparison.compare(runs[1:2], False, lambda *args: None)


def test_mistakes_and_confusion_by_hand(tmp_path):
    probabilities = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.05, 0.05, 0.9]])
    text = write_test(tmp_path, probabilities, np.array([0, 1, 1, 0]), ("ant", "bee, or so", "cat"))
    with open(tmp_path / "mistakes.csv", newline="") as file:
        assert list(csv.reader(file)) == [["image", "class", "predicted", "probability"], ["3", "ant", "cat", "0.9000"],
                                          ["1", "bee, or so", "ant", "0.6000"]]
    with open(tmp_path / "confusion.csv", newline="") as file:
        assert list(csv.reader(file))[1:] == [["ant", "1", "0", "1"], ["bee, or so", "1", "1", "0"], ["cat", "0", "0", "0"]]
    assert "ant 50.0 %" in text and "cat" not in text and text.endswith("; mean over classes 50.0 %")
    rare = write_test(tmp_path, probabilities, np.array([0, 0, 1, 0]), "abc")  # three of four right, and all of the rare class
    assert rare.endswith("a 66.7 %, b 100.0 %; mean over classes 83.3 %")
    write_test(tmp_path, probabilities, np.array([1, 0, 1, 2]), "abc", ["w.png", "x.png", "y.png", "z.png"])
    assert (tmp_path / "mistakes.csv").read_text() == "file,class,predicted,probability\nw.png,b,a,0.7000\n"


@pytest.mark.parametrize("name", [*METHODS, "label_propagation"])
def test_every_run_says_which_images_were_wrong(tmp_path, name):
    from examples import semi_supervised
    run = dataclasses.replace(semi_supervised.settings(name), steps=2, batch=10, width=4, labels=20, out=str(tmp_path))
    found = semi_supervised.main(run)
    with open(tmp_path / "mistakes.csv") as mistakes, open(tmp_path / "confusion.csv") as confusion:
        wrong, table = list(csv.reader(mistakes))[1:], list(csv.reader(confusion))
    total = sum(int(cell) for row in table[1:] for cell in row[1:])
    assert len(wrong) == total - sum(int(row[i]) for i, row in enumerate(table[1:], 1)) and found == pytest.approx(1 - len(wrong) / total)


@pytest.mark.parametrize("kind, factor", [("adam", 1.0), ("sgd", 1.9)])
def test_kernels_alone_decay(kind, factor):
    """By lr times decay in a step without a gradient, which Nesterov's momentum enlarges; biases and norms stay."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    for p in net.parameters():
        p.data, p.grad = np.ones(p.shape, np.float32), Tensor(np.zeros(p.shape, np.float32))
    made = optimizers.make(net.parameters(), kind, 0.1, 0.5, " of it")
    assert made.keys() == {"kernels of it", "rest of it"}
    for optimizer in made.values():
        optimizer.step()
    for p in net.parameters():
        np.testing.assert_allclose(p.numpy(), 1 - 0.05 * factor if p.ndim > 1 else 1, rtol=1e-5)


@pytest.mark.parametrize("ramp, end", [(lambda k, n: teacher.cosine_momentum(k, n, 0.9), 1),
                                       (lambda k, n: optim.linear_decay(1.0, n, 0.1 * n)(k), 0),
                                       (lambda k, n: semi_supervised_base.learning_rate(k, n, 1.0), np.cos(7 * np.pi / 16)),
                                       (teacher.sigmoid_ramp, 1), (teacher.linear_ramp, 1)])
def test_what_changes_while_training_stays_as_it_is_in_the_end(ramp, end):
    np.testing.assert_allclose([ramp(k, 40) for k in (40, 41, 60, 10**6)], end)
    assert 0 < ramp(10, 40) < 1 and np.isfinite(ramp(0, 0))
