"""Texts: WordNet's glosses, files of one's own whatever is in them, and WordPiece vocabularies."""
import gzip
import json
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from minigrad.data import PARTS_OF_SPEECH, Texts, WordPiece, load_glosses, read_texts
from minigrad.data.text import SPECIAL, gloss_sentences, paragraphs

# -- WordNet ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gloss, found", [
    ("an entity", [("an entity", 0)]),
    ('a tangible  entity; an entity that casts a shadow; "full of rackets, balls; and more"',
     [("a tangible entity", 0), ("an entity that casts a shadow", 0), ("full of rackets, balls; and more", 1)]),
    ('made lively; "a spirited debate", "a spirited meal"- Byron', [("made lively", 0), ("a spirited debate", 1),
                                                                      ("a spirited meal", 1)]),
    ('the word "foo" as such; "', [('the word "foo" as such', 0)]),
    ('"left open', [("left open", 1)]),
    (" ; ;", []), ("", [])])
def test_sentences_of_a_gloss(gloss, found):
    assert gloss_sentences(gloss) == found


def glosses(count=300):
    return [(PARTS_OF_SPEECH[k % 4], f"word {k}, other", f'meaning number {k}; "example {k}"') for k in range(count)]


def test_the_table_and_the_database_are_the_same_glosses(tmp_path):
    rows = sorted(glosses(), key=lambda row: PARTS_OF_SPEECH.index(row[0]))
    os.mkdir(tmp_path / "text")
    with gzip.open(tmp_path / "text" / "wordnet-glosses.tsv.gz", "wt", encoding="utf-8") as file:
        file.writelines("\t".join(row) + "\n" for row in rows)
    os.mkdir(tmp_path / "dict")
    for part in PARTS_OF_SPEECH:
        lines = [f"{k:08} 03 n 02 word_{row[1].split()[1][:-1]}(ip) 0 other 1 000 | {row[2]}  \n"
                 for k, row in enumerate(rows) if row[0] == part]
        (tmp_path / "dict" / f"data.{part}").write_text("  1 This software | is licensed\n" + "".join(lines))
    one, other = load_glosses(tmp_path), load_glosses(tmp_path / "dict")
    assert one.documents == other.documents and one.kinds == other.kinds and len(one.documents) == 300
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.documents[0] == ["word 0, other: meaning number 0", "example 0"] and one.kinds[0] == [0, 1]
    np.testing.assert_array_equal(np.bincount(one.labels), [75] * 4)


DAMAGED = b"noun only\n", b"name\tword\tgloss\n", b"noun\tw\t\xff\n", b""


@pytest.mark.parametrize("content", [b"no gzip", *(gzip.compress(text, mtime=0) for text in DAMAGED),
                                     gzip.compress(b"noun\tw\tgloss\n" * 99, mtime=0)[:-12]])
def test_damaged_glosses(tmp_path, content):
    (tmp_path / "wordnet-glosses.tsv.gz").write_bytes(content)
    with pytest.raises(ValueError, match="the glosses in .* are (damaged|empty)"):
        load_glosses(tmp_path)


def test_no_glosses(tmp_path):
    with pytest.raises(FileNotFoundError, match="WordNet's glosses are not in .*WNdb-3.0.tar.gz"):
        load_glosses(tmp_path)


def test_the_division_depends_on_the_document_alone():
    documents = [[f"document {k}", "more"] for k in range(2000)]
    texts = Texts(documents, [[0, 1]] * 2000, np.arange(2000))
    train, test = texts.divided()
    assert 150 < len(test.documents) < 250 and len(train.documents) + len(test.documents) == 2000
    assert [f"document {k}" for k in test.labels] == [document[0] for document in test.documents]
    half = texts.chosen(range(0, 2000, 2)).divided()[1]
    assert set(half.labels) == {k for k in test.labels if k % 2 == 0}
    assert texts.chosen([]).divided()[0].documents == []


# -- texts of one's own ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, found", [
    ("A dog barks. It is loud!\n\nA cat.\n", [["A dog barks.", "It is loud!"], ["A cat."]]),
    ("One line is one.\nTwo? Three.\r\n \r\nFour.", [["One line is one.", "Two?", "Three."], ["Four."]]),
    ("A line that goes\non in the next one. And\nanother sentence.",
     [["A line that goes on in the next one.", "And another sentence."]]),
    ("no marks at all\nin these lines", [["no marks at all", "in these lines"]]),
    ("He said: “Go.” “No.” She e.g. stayed at 3.5 km.", [["He said: “Go.”", "“No.”", "She e.g. stayed at 3.5 km."]]),
    ("* * *\n\n---\n\n \t\n", []), ("", [])])
def test_documents_and_sentences(text, found):
    assert list(paragraphs(text)) == found


@given(st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_text_has_sentences_with_a_word_in_each(text):
    for document in paragraphs(text):
        assert document and all(any(c.isalnum() or c == "_" for c in s) and "\n" not in s for s in document)


def test_what_cannot_be_read_is_named_and_skipped(tmp_path):
    (tmp_path / "a.txt").write_text("One. Two.\n\nThree.", encoding="utf-8-sig")
    os.mkdir(tmp_path / "deep")
    (tmp_path / "deep" / "b.TXT").write_text("Four.")
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    (tmp_path / "utf16.txt").write_bytes("text".encode("utf-16-le"))
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / ".hidden.txt").write_text("Hidden.")
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    os.symlink(tmp_path / "nowhere", tmp_path / "dead.txt")
    texts = read_texts(tmp_path)
    assert texts.documents == [["One.", "Two."], ["Three."], ["Four."]] and texts.kinds == [[0, 0], [0], [0]]
    assert texts.labels is None
    assert texts.skipped.keys() == {"latin.txt", "utf16.txt", "empty.txt", "blank.txt", "dead.txt"}
    assert "UTF-8" in texts.skipped["latin.txt"] and "empty" in texts.skipped["blank.txt"]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "a.txt", "folder/a.txt")
        archive.write(tmp_path / "empty.txt", "folder/empty.txt")
    assert read_texts(tmp_path / "all.zip").documents == [["One.", "Two."], ["Three."]]
    assert read_texts(tmp_path / "a.txt").documents == [["One.", "Two."], ["Three."]]


def test_nothing_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="no text at"):
        read_texts(tmp_path / "nothing")
    with pytest.raises(ValueError, match="holds no text in .txt files"):
        read_texts(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="holds no text .* skipped a.txt .it is no text in UTF-8"):
        read_texts(tmp_path / "a.txt")
    (tmp_path / "a.md").write_text("Text.")
    with pytest.raises(ValueError, match="neither a folder nor an undamaged zip"):
        read_texts(tmp_path / "a.md")


# -- WordPiece -------------------------------------------------------------------------------------------------------


def test_a_vocabulary_and_its_special_tokens(tmp_path):
    tokens = ["[unused0]", *SPECIAL, "dog", "##s", "[unused1]", "Bark"]
    for lower in (True, False):
        vocabulary = WordPiece(tokens, lower)
        assert (vocabulary.pad, vocabulary.unknown, vocabulary.cls, vocabulary.sep, vocabulary.mask) == (1, 2, 3, 4, 5)
        assert [tokens[i] for i in vocabulary.ordinary] == ["dog", "##s", "Bark"] and len(vocabulary) == 10
        assert vocabulary.decode([6, 7, 9]) == "dogs Bark"
        vocabulary.save(tmp_path)
        for path in (tmp_path, tmp_path / "vocab.txt"):
            again = WordPiece.load(path)
            assert again.tokens == tokens and again.lower == lower
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(tokens).encode())
    assert WordPiece.load(tmp_path).tokens == tokens
    os.remove(tmp_path / "vocab.txt")
    ids = {token: i for i, token in reversed(list(enumerate(tokens)))}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": ids}}))
    assert WordPiece.load(tmp_path).tokens == tokens and not WordPiece.load(tmp_path).lower


def test_what_is_no_vocabulary(tmp_path):
    with pytest.raises(FileNotFoundError, match="no vocabulary at"):
        WordPiece.load(tmp_path)
    for tokens, message in ((["a", "b"], r"\[PAD\], \[UNK\]"), ([*SPECIAL, "dog", "dog"], "'dog' stands twice")):
        (tmp_path / "vocab.txt").write_text("\n".join(tokens))
        with pytest.raises(ValueError, match=message):
            WordPiece.load(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xff")
    with pytest.raises(ValueError, match="is no vocabulary"):
        WordPiece.load(tmp_path)
    for content in ("{", "[]", '{"model": {"vocab": [["a", 0.5]]}}', '{"model": {"vocab": {"[PAD]": 1}}}',
                    '{"model": {"vocab": {"a": 0, "b": "c"}}}', "{}"):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(ValueError, match="tokenizer.json is no vocabulary"):
            WordPiece.load(tmp_path / "tokenizer.json")


def test_a_trained_vocabulary_is_always_the_same_and_divides_greedily():
    pytest.importorskip("tokenizers")
    texts = ["the dogs bark at the barking dog", "a dog barked", "Café, dogs & cats"] * 3
    vocabulary = WordPiece.train(texts, 60)
    assert tuple(vocabulary.tokens[:5]) == SPECIAL and len(vocabulary) <= 60
    assert all(WordPiece.train(iter(texts), 60).tokens == vocabulary.tokens for _ in range(5))
    ids = {token: i for i, token in enumerate(vocabulary.tokens)}

    def greedy(word):
        found = []
        while word:
            piece = next((word[:n] for n in range(len(word), 0, -1) if ("##" if found else "") + word[:n] in ids), None)
            if piece is None:
                return [ids["[UNK]"]]
            found.append(ids[("##" if found else "") + piece])
            word = word[len(piece):]
        return found

    for word in ("dogs", "barking", "cats", "gob", "zebra"):
        np.testing.assert_array_equal(vocabulary.encode([word])[0], greedy(word))
    one, other, empty, brackets = vocabulary.encode(["CAFÉ", "cafe", "", "[MASK]"])
    np.testing.assert_array_equal(one, other)
    assert not len(empty) and vocabulary.mask not in brackets and one.dtype == np.int32
    assert vocabulary.decode(vocabulary.encode(["The DOGS bark"])[0]) == "the dogs bark"
    with pytest.raises(ValueError, match="20 pieces are too few"):
        WordPiece.train(texts, 20)
    for wrong in ("60", None, 60.5, True, 0):
        with pytest.raises(ValueError, match="WordPiece.train: size must be a whole number"):
            WordPiece.train(texts, wrong)


def test_a_vocabulary_that_keeps_case():
    pytest.importorskip("tokenizers")
    vocabulary = WordPiece([*SPECIAL, "Dog", "dog"], lower=False)
    assert [vocabulary.tokens[i] for i in vocabulary.encode(["Dog dog"])[0]] == ["Dog", "dog"]
