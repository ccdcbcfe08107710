"""Parameter-efficient fine-tuning: what is saved, loaded in another process, refused, switched and copied."""
import copy
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from methods import peft
from methods.peft import tuning
from methods.peft.prediction import texts_in
from methods.training.text_encoders import SentenceEncoder
from minigrad import io, nn

from transformers_small import IDS, MASK, SMALL, bert, drawn, moved, outputs

ROOT = pathlib.Path(__file__).parents[2]
FRESH = """
import sys
import numpy as np
from methods import peft
from methods.training.text_encoders import SentenceEncoder
from minigrad import io, nn
folder = sys.argv[1]
for method in peft.METHODS:
    net = SentenceEncoder(nn.BERT(40, 12, 2, 3, 20, 16, dropout=0.0))
    net.load_state_dict(io.load(folder + "/base.safetensors")[0])
    peft.load(net, f"{folder}/{method}.safetensors")
    ids, mask = (np.load(f"{folder}/{name}.npy") for name in ("ids", "mask"))
    np.save(f"{folder}/{method}.npy", net.eval()(ids, mask).numpy())
"""


def test_saved_and_loaded_in_another_process(tmp_path):
    """Each method learns a little, and classifies the same there, to the last bit."""
    rng = np.random.default_rng(0)
    ids, y = rng.integers(5, 40, (24, 7)), np.arange(24) % 2
    ids[:, 3] = y
    np.save(tmp_path / "ids.npy", ids)
    np.save(tmp_path / "mask.npy", np.ones((24, 7), bool))
    net, here = SentenceEncoder(bert()), {}
    io.save(tmp_path / "base.safetensors", net.state_dict())
    for method in peft.METHODS:
        adaptation = peft.apply(net, method, head=2, **SMALL.get(method, {}))
        optimizers = tuning.make_optimizers(adaptation, 2e-2, tuning.Config(head_lr=2e-2))
        task, losses = tuning.Tuning(tuning.Config(), adaptation), []
        for step in range(25):
            loss, _ = task.loss((ids, np.ones((24, 7), bool), y), step)
            losses.append(loss.item())
            loss.backward()
            for optimizer in optimizers.values():
                optimizer.step()
                optimizer.zero_grad()
        assert losses[-1] < losses[0] - 0.02, method
        adaptation.finish()
        adaptation.save(tmp_path / f"{method}.safetensors", classes=["a", "b"])
        here[method] = outputs(net, (ids, np.ones((24, 7), bool)))
        adaptation.undo()
        assert peft.adaptation.read(tmp_path / f"{method}.safetensors")[0]["classes"] == ["a", "b"]
    assert (here["full"].argmax(1) == y).all()
    subprocess.run([sys.executable, "-c", FRESH, str(tmp_path)], check=True, cwd=ROOT,
                   env={**os.environ, "PYTHONPATH": str(ROOT)})
    for method, scores in here.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{method}.npy"), scores, err_msg=method)


def test_other_weights_are_refused_whatever_they_are_called(tmp_path):
    net = bert()
    moved(peft.apply(net, "lora", head=2)).save(tmp_path / "a.safetensors")
    other = bert()
    other.blocks[0].norm1.bias.data = other.blocks[0].norm1.bias.data + np.float32(1e-6)
    with pytest.raises(peft.OtherBase, match="was trained on other base weights than these of BERT"):
        peft.load(other, tmp_path / "a.safetensors")
    assert not hasattr(other, "adaptation")
    same = nn.BERT(40, 12, 2, 3, 20, 16, num_classes=7)  # another head
    net.adaptation.undo()
    same.load_state_dict(net.state_dict(), strict=False)
    peft.load(same, tmp_path / "a.safetensors")
    assert outputs(same, (IDS, MASK)).shape == (3, 2)
    own = drawn(nn.BERT(40, 12, 2, 3, 20, 16, num_classes=7))  # whose head stays: it counts
    peft.apply(own, "lora").save(tmp_path / "b.safetensors")
    own.adaptation.undo()
    own.head.bias.data = own.head.bias.data + 1
    with pytest.raises(peft.OtherBase):
        peft.load(own, tmp_path / "b.safetensors")


def test_damaged_files_are_refused(tmp_path):
    net = bert()
    adaptation = peft.apply(net, "lora", head=2)
    adaptation.save(tmp_path / "a.safetensors")
    adaptation.undo()
    arrays, about = io.load(tmp_path / "a.safetensors")
    with pytest.raises(FileNotFoundError):
        peft.load(net, tmp_path / "none.safetensors")
    some = dict(list(arrays.items())[1:])
    for changed, facts, message in (({}, {}, "is damaged: lora: missing"), (some, {}, "is damaged: lora: missing"),
                                    (arrays, {"format": 9}, "format 9"), (arrays, {"method": "magic"}, "made by 'magic'"),
                                    (arrays, {"config": 3}, "holds no parameter-efficient"),
                                    (arrays, {"config": {"rang": 3}}, "is damaged: .*unexpected keyword argument 'rang'"),
                                    (arrays, {"head": [1]}, "is damaged"), (arrays, {"config": {"rank": "x"}}, "is damaged")):
        io.save(tmp_path / "b.safetensors", changed or {"x": np.zeros(1)}, {**about, **facts})
        with pytest.raises(ValueError, match=message):
            peft.load(net, tmp_path / "b.safetensors")
        assert not hasattr(net, "adaptation")
    io.save(tmp_path / "c.safetensors", arrays, json.loads("null"))
    with pytest.raises(ValueError, match="holds no parameter-efficient fine-tuning"):
        peft.load(net, tmp_path / "c.safetensors")


def test_texts_are_those_of_files_and_folders_and_no_picture_is_one(tmp_path, capsys):
    (tmp_path / "below").mkdir()
    (tmp_path / "a.txt").write_text("one\n\ntwo  words\n", encoding="utf-8-sig")
    rest = [("three", "three"), ("four", "four")]
    (tmp_path / "below" / "b.csv").write_text("text,label\nthree,x\nfour,y\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "empty").mkdir()
    assert texts_in(str(tmp_path)) == [(f"{tmp_path}/a.txt", "one two words"), *rest]
    assert texts_in(str(tmp_path / "a.txt")) == [("one", "one"), ("two words", "two words")]
    assert texts_in(str(tmp_path / "below" / "b.csv")) == rest
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(tmp_path / "a.txt", "in/a.txt")
    assert texts_in(str(tmp_path / "z.zip")) == [(f"{tmp_path}/z.zip/in/a.txt", "one two words")]
    (tmp_path / "below" / ".hidden.txt").write_text("unseen")
    (tmp_path / "broken.txt").write_bytes(b"\xff\xfe\xfa")
    (tmp_path / "dead.txt").symlink_to(tmp_path / "nowhere")
    assert texts_in(str(tmp_path)) == [(f"{tmp_path}/a.txt", "one two words"), *rest]
    assert {"broken.txt", "dead.txt"} == {word.strip("(),") for word in capsys.readouterr().err.split() if word.endswith(".txt")}
    assert texts_in("a  plain text") == [("a plain text", "a plain text")]
    for text in ("word " * 100, "x" * 5000, "with a \0 in it", "and so on .."):
        assert texts_in(text) == [(" ".join(text.split()),) * 2]
    (tmp_path / "nothing.txt").write_text(" \n")
    for wrong, said in (("picture.png", "a file, but no text"), ("empty", "holds no texts"), ("nothing.txt", "nothing.txt: it is empty"),
                        ("broken.txt", "broken.txt: it is no text in UTF-8")):
        with pytest.raises(ValueError, match=said):
            texts_in(str(tmp_path / wrong))
    for blank in ("", " \n"):
        with pytest.raises(ValueError, match="a text is empty"):
            texts_in(blank)


def test_several_are_switched(tmp_path):
    net = bert()
    plain, wanted = outputs(net, (IDS, MASK)), {}
    library = peft.Library(net)
    for i, method in enumerate(peft.METHODS):
        adaptation = moved(peft.apply(net, method, head=2 + i, **SMALL.get(method, {})), i)
        wanted[method] = outputs(net, (IDS, MASK))
        adaptation.finish()
        adaptation.save(tmp_path / f"{method}.safetensors")
        adaptation.undo()
        library.add(method, adaptation if i % 2 else tmp_path / f"{method}.safetensors")
    for name in (*peft.METHODS, None, "lora", "lora", None, *reversed(peft.METHODS)):
        library.use(name)
        assert library.active == name
        np.testing.assert_allclose(outputs(net, (IDS, MASK)), plain if name is None else wanted[name], atol=1e-6)
    library.use("prefix")
    library.add("more", tmp_path / "lora.safetensors")
    assert library.active == "prefix"
    for call, message in ((lambda: library.use("x"), "no 'x'; there are: lora, adapters"),
                          (lambda: library.add("lora", tmp_path / "lora.safetensors"), "there is 'lora' already"),
                          (lambda: library.add("y", peft.apply(bert(), "probe")), "'y' is of another network")):
        with pytest.raises(ValueError, match=message):
            call()


def test_adapted_networks_are_copied():
    for method in peft.METHODS:
        net = bert()
        moved(peft.apply(net, method, head=2, **SMALL.get(method, {})))
        other = copy.deepcopy(net)
        np.testing.assert_array_equal(outputs(other, (IDS, MASK)), outputs(net, (IDS, MASK)))
        moved(other.adaptation)
        other.adaptation.undo()
        assert hasattr(net, "adaptation") and not hasattr(other, "adaptation")
