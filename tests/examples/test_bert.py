"""examples.bert on a few hundred made-up glosses: a whole run, its resumption, continuing it, and what is refused."""
import gzip
import os
import signal

import numpy as np
import pytest

pytest.importorskip("tokenizers")

from examples import bert as example  # noqa: E402
from methods.training import checkpoint  # noqa: E402
from minigrad import nn  # noqa: E402
from minigrad.data import PARTS_OF_SPEECH  # noqa: E402


@pytest.fixture
def glosses(tmp_path, monkeypatch):
    """Glosses of which the words tell the part of speech."""
    rng = np.random.default_rng(0)
    own = {part: [f"{part}{ending}" for ending in ("ab", "er", "ing", "or", "us")] for part in PARTS_OF_SPEECH}
    with gzip.open(tmp_path / "wordnet-glosses.tsv.gz", "wt") as file:
        for k in range(600):
            part = PARTS_OF_SPEECH[k % 4]
            first, second = (" ".join(rng.choice([*own[part], "of", "the", "with"], 5)) for _ in range(2))
            file.write(f'{part}\tword{k}\t{first} {k}; "{second}"\n')
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    return tmp_path


def run(folder, **settings):
    return example.Run(**{**dict(out=str(folder), vocabulary=200, layers=1, width=16, heads=2, length=24, batch=16, steps=12,
                                 evaluate_every=5, labels=8, draws=2, tuning_steps=6, tuning_batch=4), **settings})


def test_a_run_its_resumption_and_what_it_leaves(glosses, capsys):
    whole = example.main(run(glosses / "whole", steps=150))
    with pytest.raises(FileExistsError, match="continue it with --resume"):
        example.main(run(glosses / "whole", steps=150))
    again = example.main(run(glosses / "whole", steps=150, resume=True))
    assert again == whole and len(whole["pre-trained"]) == len(whole["from scratch"]) == 2
    printed = capsys.readouterr().out
    for words in ("hidden words: ", "next sentence: ", "held-out sentences", "8 labels (noun, verb, adj, adv), 2 draws: "):
        assert words in printed
    for name in ("curves.png", "metrics.jsonl", "encoder/model.safetensors", "encoder/vocab.txt", "encoder/config.json"):
        assert (glosses / "whole" / name).is_file()
    encoder, _ = nn.load_text_encoder(glosses / "whole" / "encoder")
    kept = checkpoint.load(glosses / "whole" / "checkpoint.safetensors")["state"]["net"]
    np.testing.assert_array_equal(encoder.state_dict()["word.weight"], kept["bert.word.weight"])
    found = example.main(run(glosses / "whole", fill="a [MASK] of [MASK]"))
    assert len(found) == 2 and len(found[0]) == 5
    assert example.main(run(glosses / "x", fill="[MASK]", encoder=str(glosses / "whole" / "encoder")))
    continued = example.main(run(glosses / "on", encoder=str(glosses / "whole" / "encoder"), steps=1, lr=1e-9, labels=0))
    assert continued["words right"] == whole["words right"]  # it began where the other ended


@pytest.mark.parametrize("labels, message", [(3, "--labels 3: 3 labels for 4 classes"), (4000, "--labels 4000: 1000 labels of adj wanted")])
def test_labels_that_there_are_not_are_refused_before_training(glosses, labels, message):
    with pytest.raises(SystemExit, match=message):
        example.main(run(glosses / "new", labels=labels))
    assert not (glosses / "new").exists()


def test_a_run_that_was_stopped_ends_with_the_same_bits(glosses, monkeypatch):
    example.main(run(glosses / "whole", labels=0))
    with monkeypatch.context() as patch:
        patch.setattr(example.bert_evaluation, "measured", lambda *_: os.kill(os.getpid(), signal.SIGINT) or {})
        with pytest.raises(SystemExit, match="130"):
            example.main(run(glosses / "stopped", labels=0))
    assert not (glosses / "stopped" / "encoder").exists()
    example.main(run(glosses / "stopped", labels=0, resume=True))
    whole, stopped = (checkpoint.load(glosses / name / "checkpoint.safetensors")["state"]["net"]
                      for name in ("whole", "stopped"))
    for name, array in whole.items():
        np.testing.assert_array_equal(array, stopped[name], err_msg=name)


def test_a_text_of_ones_own_and_what_is_refused(tmp_path, capsys):
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(f"Dog {k} barks at the cat. The cat number {k} runs. It is gone." for k in range(60)))
    found = example.main(run(tmp_path / "own", data=str(path)))
    assert "pre-trained" not in found and found["words right"] >= 0
    for settings, message in ((dict(data=str(tmp_path / "no")), "no text at"), (dict(data=str(path), vocabulary=50), "too few"),
                              (dict(data=str(path), encoder=str(tmp_path / "no")), "--encoder .*no encoder at"),
                              (dict(data=str(path), encoder=str(tmp_path / "own" / "encoder"), length=40), "--length 40"),
                              (dict(fill="a dog", encoder=str(tmp_path / "own" / "encoder")), r"no \[MASK\]"),
                              (dict(fill="a [MASK]"), "no encoder at"), (dict(batch=0), "--batch 0"),
                              (dict(data=str(path), width=15), "num_heads must divide the 15 features, not 2"),
                              (dict(masked=0.95), "--masked 0.95 and --changed 0.1")):
        with pytest.raises(SystemExit, match=message):
            example.main(run(tmp_path / "new", **settings))
        assert not (tmp_path / "new").exists()
    path.write_text("One. Two. Three.")
    with pytest.raises(SystemExit, match="1 documents, of which one of ten is held out"):
        example.main(run(tmp_path / "new", data=str(path)))
    path.write_text("\n\n".join(f"Only one sentence {k}." for k in range(60)))
    with pytest.raises(SystemExit, match="no sentence that follows another.*--no-next-sentence"):
        example.main(run(tmp_path / "new", data=str(path)))
    assert not (tmp_path / "new").exists()
    assert "next sentence right" not in example.main(run(tmp_path / "new", data=str(path), next_sentence=False))
