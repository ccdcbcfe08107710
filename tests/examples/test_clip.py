"""examples.clip and what is done with its runs, on a few digits and made-up pictures; what is refused."""
import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

for library in ("tokenizers", "tyro", "tqdm", "sklearn", "safetensors", "matplotlib", "PIL"):
    pytest.importorskip(library)

from PIL import Image  # noqa: E402

from examples import clip, clip_few_labels, compare_captions, predict, retrieve, transfer, zero_shot  # noqa: E402
from methods.training import checkpoint, encoders  # noqa: E402
from methods.vision_language import TASKS, pictures, trained  # noqa: E402
from minigrad import data, nn  # noqa: E402

SMALL = dict(tower="small", width=4, dim=16, text_width=16, text_layers=1, text_heads=2, vocabulary=560, length=10, batch=32,
             held_out=60)


def run(folder, **settings):
    return clip.Run(**{**SMALL, "out": str(folder), "steps": 10, **settings})


SHAPES = {"square": (slice(6, 18), slice(6, 18)), "line": (slice(10, 14), slice(0, 24)), "bar": (slice(0, 24), slice(10, 14))}
COLOURS = {"red": (255, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 255)}


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """A folder of 90 coloured shapes with captions, one of them broken, in a sub-folder for each shape."""
    path, rng, rows = tmp_path_factory.mktemp("drawings"), np.random.default_rng(0), [("image", "caption")]
    for i in range(90):
        (shape, where), (colour, ink) = (list(d.items())[k] for d, k in ((SHAPES, i % 3), (COLOURS, i // 3 % 3)))
        picture = rng.integers(220, 256, (24, 24, 3)).astype(np.uint8)
        picture[where] = ink
        (path / shape).mkdir(exist_ok=True)
        Image.fromarray(picture).save(path / shape / f"{i}.png")
        rows.append((f"{shape}/{i}.png", f"a {colour} {shape}"))
    (path / "square" / "broken.png").write_bytes(b"no picture")
    rows += [("square/broken.png", "a yellow square"), ("square/none.png", "a square")]
    with open(path / "captions.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture(scope="module")
def learned(drawings, tmp_path_factory):
    """A run on these drawings that has learned them."""
    out = tmp_path_factory.mktemp("run") / "clip"
    found = clip.main(run(out, data=str(drawings), steps=120, size=24, lr=5e-3, crop=1.0, held_out=20, k=1))
    return out, found


def test_it_learns_and_a_fresh_process_classifies_by_names(learned, drawings):
    out, found = learned
    assert found["zero-shot, bare names"] > 0.6 and found["text of picture"] > 0.5  # chance 33 % and 5 %
    for name in ("curves.png", "metrics.jsonl", "config.json", "checkpoint.safetensors"):
        assert (out / name).is_file()
    given = [str(drawings / "square" / "0.png"), str(drawings / "bar" / "8.png")]
    command = [sys.executable, "-m", "examples.zero_shot", str(out), *given, "--classes", "red square", "blue bar",
               "green line", "--templates", "a {}", "--csv", str(out / "found.csv")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with open(out / "found.csv") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["red square", "blue bar"]
    rows = zero_shot.main(zero_shot.Run(str(out), tuple(given)))
    assert [kind for _, kind, _ in rows] == ["square", "bar"]
    with pytest.raises(SystemExit, match="'bar' and 'Bar' are the same to the network"):
        zero_shot.main(zero_shot.Run(str(out), tuple(given), ("bar", "square", "Bar")))


def test_pictures_are_found_by_texts_and_texts_by_pictures(learned, drawings, tmp_path, capsys):
    out, _ = learned
    near = retrieve.main(retrieve.Run(str(out), (str(drawings / "square"),), ("a red square",), most=3))
    (answers,) = near.values()
    assert len(answers) == 3 and all((int(name.rpartition("/")[2][:-4]) // 3) % 3 == 0 for name, _ in answers)
    (tmp_path / "texts").write_text("a red square\n\na blue line\n", encoding="utf-8-sig")
    one = str(drawings / "square" / "0.png")
    near = retrieve.main(retrieve.Run(str(out), (one,), (" ", "a red square "), str(tmp_path / "texts"), "pictures", 3))
    assert [[text for text, _ in answers] for answers in near.values()] == [["a red square", "a blue line"]]
    assert "broken.png: it is no picture" in capsys.readouterr().err


def test_few_labels_on_top(learned, drawings, tmp_path):
    out, _ = learned
    (tmp_path / "images").mkdir()
    for shape in SHAPES:
        (tmp_path / "images" / shape).symlink_to(drawings / shape)
    few = clip_few_labels.Run(run=str(out), data=str(tmp_path / "images"), per_class=3, finetune=True, steps=3, batch=4,
                              out=str(tmp_path / "few"))
    found = clip_few_labels.main(few)
    assert len(found) == 5 and all(value > 0.5 for value in found.values())
    rows = predict.main(predict.Run(str(tmp_path / "few"), (str(drawings / "bar" / "5.png"),)))
    assert rows[0][1] in SHAPES
    with pytest.raises(SystemExit, match="--names: 2 names for 3 classes: bar, line, square"):
        clip_few_labels.main(dataclasses.replace(few, names=("a", "b"), out=str(tmp_path / "no")))
    with pytest.raises(SystemExit, match="--names: 'bar' and 'Bar' are the same to the network"):
        clip_few_labels.main(dataclasses.replace(few, names=("bar", "line", "Bar"), out=str(tmp_path / "no")))
    assert not (tmp_path / "no").exists()


def test_the_image_tower_of_a_run_serves_as_encoder(learned, tmp_path, drawings):
    out, _ = learned
    encoder, preprocessing = encoders.load_encoder(str(out))
    assert preprocessing.size == 24 and isinstance(encoder.head, nn.Identity)
    frozen = clip.main(run(tmp_path / "frozen", data=str(drawings), encoder=str(out), held_out=20, steps=40, lr=5e-3))
    assert frozen["zero-shot, bare names"] > 0.6
    net = trained.load(str(tmp_path / "frozen")).net
    for name, array in encoder.state_dict().items():
        np.testing.assert_array_equal(array, net.image.state_dict()[name], err_msg=name)
    clip.main(run(tmp_path / "tuned", data=str(drawings), encoder=str(out), frozen=False, held_out=20, steps=2))
    moved = trained.load(str(tmp_path / "tuned")).net.image.state_dict()
    assert any(not np.array_equal(array, moved[name]) for name, array in encoder.state_dict().items())
    probe = transfer.main(transfer.Run(data="digits", encoder=str(out), per_class=2, baselines=False,
                                       out=str(tmp_path / "probe")))
    assert set(probe) == {"prototypes", "ridge", "logistic", "svm"}


@pytest.mark.parametrize("task, build", [
    ("contrastive", lambda: nn.EfficientNetLite(0.1, 0.1, num_classes=0)), ("caption", lambda: nn.VisionTransformer(
        16, 8, 3, 0, 8, 1, 2)), ("bag_of_words", lambda: nn.EfficientNetLite(0.1, 0.1, num_classes=0))],
    ids=["EfficientNet", "Transformer", "bag of words"])
def test_of_a_frozen_tower_the_projection_alone_learns(task, build):
    encoder, captions = build(), pictures.load("digits", 100).train  # their heads have other names in checkpoints
    net, *_ = clip.build(run("nowhere", task=task, encoder="given"), TASKS[task], encoders.architecture(encoder),
                         encoder.state_dict(), captions, nn.Preprocessing(8, crop=1))
    learned = {id(p) for p in net.image.parameters() if p.requires_grad}
    assert learned == {id(p) for p in net.image.head.parameters()}
    assert all(np.array_equal(array, net.image.state_dict()[key]) for key, array in encoder.state_dict().items())


@pytest.mark.parametrize("task", ["contrastive", "caption", "bag_of_words"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(task, tmp_path, monkeypatch):
    clip.main(run(tmp_path / "whole", task=task))
    with monkeypatch.context() as patch:
        patch.setattr(clip.Tests, "brief", lambda *_: os.kill(os.getpid(), signal.SIGINT) or {})
        with pytest.raises(SystemExit, match="130"):
            clip.main(run(tmp_path / "stopped", task=task, test_every=5))
    with pytest.raises(FileExistsError, match="continue it with --resume"):
        clip.main(run(tmp_path / "stopped", task=task))
    clip.main(run(tmp_path / "stopped", task=task, resume=True))
    whole, stopped = (checkpoint.load(tmp_path / name / "checkpoint.safetensors")["state"]["net"]
                      for name in ("whole", "stopped"))
    for name, array in whole.items():
        np.testing.assert_array_equal(array, stopped[name], err_msg=name)
    assert len(zero_shot.main(zero_shot.Run(str(tmp_path / "whole"), (str(picture(tmp_path)),), ("seven", "eight")))) == 1
    if task != "contrastive":
        with pytest.raises(SystemExit, match="only the contrastive task embeds texts"):
            retrieve.main(retrieve.Run(str(tmp_path / "whole"), (str(picture(tmp_path)),), ("seven",)))


def picture(folder):
    Image.new("RGB", (12, 9), "red").save(folder / "a.png")
    return folder / "a.png"


def test_all_tasks_are_compared(tmp_path):
    settings = compare_captions.Run(steps=10, batch=16, held_out=40, tests=2, out=str(tmp_path))
    found = compare_captions.main(settings)
    assert set(found) == {"contrastive", "caption", "bag_of_words"}
    assert all([images for images, *_ in curve] == [80, 160] for curves in found.values() for curve in curves)
    assert (tmp_path / "accuracies.png").is_file() and "bag of words" in (tmp_path / "table.txt").read_text()
    assert compare_captions.main(dataclasses.replace(settings, resume=True)) == found
    with pytest.raises(SystemExit, match="no method is called 'zebra'"):
        compare_captions.main(dataclasses.replace(settings, only=("zebra",)))


@pytest.mark.parametrize("captions, said", [(("a", "b"), "there are 1 and 1"), (("a",) * 6, "there are 5 and 1")],
                         ids=["two", "same"])
def test_too_few_pictures_to_test_on_are_counted(captions, said, tmp_path):
    for i, _ in enumerate(captions):
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption", *(f"{i}.png,{text}" for i, text in enumerate(captions))]))
    with pytest.raises(SystemExit, match=f"of different captions, are the least; {said}"):
        clip.main(run(tmp_path / "run", data=str(tmp_path)))


@pytest.mark.parametrize("changes, said", [
    (dict(data="nowhere"), "--data nowhere: no pictures with captions at"),
    (dict(unseen=("zebra",)), "there is no class zebra"),
    (dict(text_heads=3), "--text-heads 3: choose a number that divides --text-width 16"),
    (dict(tower="wide"), "--tower wide takes a --width that 16 divides"), (dict(encoder="nothing"), "--encoder nothing: "),
    (dict(tokenizer="nothing"), "--tokenizer nothing: no vocabulary in nothing"), (dict(vocabulary=513), "--vocabulary 513"),
    (dict(temperature=0.0), "--temperature 0.0"),
    (dict(task="guess"), "--task guess: choose one of contrastive, caption, bag_of_words")])
def test_what_cannot_be_is_one_line_before_anything_is_written(tmp_path, changes, said):
    with pytest.raises(SystemExit) as error:
        clip.main(run(tmp_path / "run", **changes))
    assert said in str(error.value) and "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("length, cut", ((4, True), (30, False)))
def test_what_a_short_text_tower_does_not_read_is_said(tmp_path, capsys, length, cut):
    clip.main(run(tmp_path / "run", length=length, steps=1, held_out=10))
    said = capsys.readouterr().out
    assert (f"captions to train on what is behind {length} pieces is not read (--length)" in said) == cut
    assert ("5 prompts: 'red zero' and 'red one' are the same to the network" in said) == cut


def test_folders_that_hold_no_clip(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="no file ending in"):
        trained.load(str(tmp_path / "empty"))
    with pytest.raises(SystemExit, match="no encoder at"):
        trained.load(str(tmp_path / "nothing"))
    from examples import self_supervised
    other = dataclasses.replace(self_supervised.settings("simclr"), data="digits", steps=1, batch=4, network="small",
                                pictures=40, out=str(tmp_path / "other"))
    self_supervised.main(other)
    with pytest.raises(SystemExit, match="a run of examples.clip is wanted; the network of this one is of type SmallConv"):
        trained.load(other.out)


def test_a_published_clip_is_used_by_its_folder(tmp_path, drawings):
    folder = published(tmp_path / "clip")
    rows = zero_shot.main(zero_shot.Run(str(folder), (str(drawings / "square" / "0.png"),), ("cat", "dog")))
    assert rows[0][1] in ("cat", "dog")
    clip.main(run(tmp_path / "run", tokenizer=str(folder), steps=1))
    assert trained.load(str(tmp_path / "run")).prompts.vocabulary.text() == trained.load(str(folder)).prompts.vocabulary.text()
    with pytest.raises(SystemExit, match="--classes: which ones"):
        zero_shot.main(zero_shot.Run(str(folder), (str(drawings / "square" / "0.png"),)))
    found = trained.load(str(folder))
    image, text, scale, preprocessing = nn.load_clip(folder)
    assert float(found.net.s) == np.float32(scale) == np.float32(3.3) and preprocessing.size == 16
    x, ids = np.random.default_rng(0).random((2, 3, 16, 16), np.float32), found.prompts.vocabulary.encode(["a cat"], 9)
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (image(x).numpy(), text(ids).numpy())]
    np.testing.assert_allclose(found.net(x, ids).numpy(), np.exp(3.3) * unit[0] @ unit[1].T, rtol=1e-4)


def published(folder):
    """A CLIP of two small Transformers with random weights, as the Hub has it."""
    from minigrad import io
    from minigrad.data import BytePairs
    from minigrad.nn.models import published_state
    from minigrad.nn.models.published import CLIP_VISION_NAMES, Publisher, _sources
    vocabulary = BytePairs.train(["a cat", "a dog"], 520)
    vocabulary.save(folder)
    text = nn.CLIPText(len(vocabulary), 8, 1, 2, 16, 12, 6, eot=vocabulary.end)
    image = nn.VisionTransformer(16, 8, 3, 0, 8, 1, 2, 2.0, eps=1e-5, pre_norm=True, activation="quick_gelu")
    publisher, state = Publisher("", "", CLIP_VISION_NAMES), dict(published_state(text))
    for name, array in image.state_dict().items():
        found = _sources(publisher, name)
        state |= zip(found, np.split(array, len(found)))
    state["vision_model.embeddings.class_embedding"] = state["vision_model.embeddings.class_embedding"][0, 0]
    positions = "vision_model.embeddings.position_embedding.weight"
    state |= {positions: state[positions][0], "logit_scale": np.array(3.3, np.float32),
              "visual_projection.weight": np.ones((6, 8), np.float32) + np.eye(6, 8, dtype=np.float32)}
    io.save(folder / "model.safetensors", state)
    (folder / "config.json").write_text(json.dumps({
        "text_config": {"num_attention_heads": 2, "eos_token_id": vocabulary.end},
        "vision_config": {"num_attention_heads": 2}}))
    return folder


def test_what_is_tested_while_training_has_all_classes_though_pictures_are_sorted():
    labels, seen = np.repeat(np.arange(10), 100), []
    task = SimpleNamespace(classes=tuple("abcdefghij"), templates=("{}",))
    captions = data.captioned(np.zeros((1000, 1, 2, 2), np.uint8), labels, task.classes, ("{}",))
    tests = clip.Tests(SimpleNamespace(task="caption"), task, None, None, None, captions.pictures, captions)
    tests.scores = lambda templates, which: seen.append(which) or np.eye(10)[labels[which]]
    assert tests.brief(1) == {"zero-shot": 1.0} and len(np.unique(seen[0])) == 300
    assert np.bincount(labels[seen[0]]).min() > 15
