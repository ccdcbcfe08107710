"""Pictures with captions, found in folders, zips and tables as people have them; emoji; byte-pair vocabularies."""
import io
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from checks import named
from minigrad import data
from minigrad.data import captions
from minigrad.data.emoji import base

Image = pytest.importorskip("PIL.Image")


def png(value=0):
    content = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(content, "PNG")
    return content.getvalue()


def folder(path, table, files=("a.png", "b.png", "c.png")):
    path.mkdir(exist_ok=True)
    for i, name in enumerate(files):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(png(i))
    (path / "captions.csv").write_text(table, encoding="utf-8")
    return path


# -- tables ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"], ids=named)
@pytest.mark.parametrize("columns", [("image", "caption"), ("File", "TEXT"), ("filename", "title")], ids=named)
def test_tables_of_all_kinds(tmp_path, delimiter, columns):
    rows = [columns, ("a.png", "a cat"), ("b.png", '"a dog, or two; and | a\tcat"')]
    found = data.read_captions(folder(tmp_path / "f", "\ufeff" + "".join(delimiter.join(row) + "\r\n" for row in rows)))
    assert found.names == ["a.png", "b.png"] and found.skipped == {}
    assert [found.caption(i) for i in (0, 1)] == ["a cat", "a dog, or two; and | a cat"]
    assert found.labels.tolist() == [-1, -1] and found.classes == ()
    assert [Image.open(io.BytesIO(read())).size for read in found.pictures] == [(4, 4)] * 2


def test_columns_in_another_order_with_keywords_and_others_between(tmp_path):
    found = data.read_captions(folder(tmp_path / "f", "keywords,author,image,title\nred; round thing ;red;,me,a.png,Ball\n"
                                                      'x,me,b.png,\n"one, two",you,c.png,Pair\n'))
    assert found.texts == [("Ball",), ("",), ("Pair",)]
    assert found.keywords == [("red", "round thing"), ("x",), ("one", "two")]
    assert found.caption(0) == "Ball, red, round thing" and found.caption(1) == "x"
    rng = np.random.default_rng(0)
    drawn = {found.caption(0, rng) for _ in range(300)}
    assert {"Ball", "red", "round thing", "Ball, red, round thing", "round thing, red, Ball"} <= drawn and len(drawn) == 15
    assert {found.caption(1, rng) for _ in range(9)} == {"x"}


def test_bad_rows_are_named_and_skipped(tmp_path):
    table = ("image,caption\na.png,a cat\na.png,a cat\na.png,the same cat\nnone.png,a dog\n,no picture\nb.png,\nb.png\n"
             "../b.png,outside\n\nc.png,empty file\nb.png,nan\n")
    path = folder(tmp_path / "f", table)
    (path / "c.png").write_bytes(b"")
    found = data.read_captions(path)
    assert found.names == ["a.png"] and found.texts == [("a cat", "the same cat")]
    assert found.skipped == {
        "captions.csv line 3": "the same row stands above", "captions.csv line 5": "there is no picture none.png",
        "captions.csv line 6": "it names no picture", "captions.csv line 7": "it has no caption",
        "captions.csv line 8": "it has no caption", "captions.csv line 9": "there is no picture ../b.png",
        "captions.csv line 12": "it has no caption",
        "c.png": "it is empty"}


def test_a_caption_with_a_comma_is_not_cut(tmp_path):
    path = folder(tmp_path / "f", 'image,caption\na.png,a cat, grey\nb.png,"a dog, brown"\na.png,one,,\n')
    found = data.read_captions(path)
    assert dict(zip(found.names, found.texts)) == {"b.png": ("a dog, brown",), "a.png": ("one",)}
    assert list(found.skipped) == ["captions.csv line 2"] and "3 cells, not 2" in found.skipped["captions.csv line 2"]


@pytest.mark.parametrize("table", ["sep=;\r\nimage;caption\r\na.png;a cat\r\n", "\n\nimage;caption\na.png;a cat\n",
                                   "image|caption\ra.png|a cat\r"], ids=["mark", "empty lines", "old lines"])
def test_tables_as_spreadsheets_write_them(tmp_path, table):
    assert data.read_captions(folder(tmp_path / "f", table)).texts == [("a cat",)]


def test_a_zip_with_one_outer_folder_classes_and_copies(tmp_path):
    path = tmp_path / "drawings.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i, name in enumerate(("cats/a", "cats/b", "big_dogs/c")):
            archive.writestr(f"outer/pictures/{name}.png", png(min(i, 1)))
        archive.writestr("outer/captions.csv", "image,caption\n" + "".join(
            f"pictures/{name}.png,{name}\n" for name in ("cats/a", "cats/b", "big_dogs/c")))
    found = data.read_captions(path)
    assert found.classes == ("big dogs", "cats") and found.labels.tolist() == [1, 1, 0]
    assert found.groups.tolist() == [0, 1, 1]  # b and c have the same content


@pytest.mark.parametrize("table, said", [
    (None, "holds no captions.csv"), ("", "captions.csv: it is empty"), ("picture,author\na.png,me\n", "names no column image and caption"),
    ("a.png,a cat\n", "names no column image and caption"), (b"image,caption\na.png,\xff\xfe\n", "no text in UTF-8"),
    (b"\xef\xbb\xbf", "names no column image"), ("\n\n", "names no column image"),
    ("sep=;\nphoto;caption\n", "names no column image"),
    ("image,caption\n", "no row of captions.csv has a caption and a picture"),
    ("image,caption\nz.png,a\n", "line 2: there is no picture z.png"),
    ('image,caption\na.png,"' + "x" * 200000, "row that begins in line 2 is never closed")],
    ids=lambda value: named(value)[:60])
def test_what_is_no_table_is_one_line(tmp_path, table, said):
    path = folder(tmp_path / "f", "")
    (path / "captions.csv").unlink()
    if table is not None:
        (path / "captions.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(ValueError, match=said):
        data.read_captions(path)
    with pytest.raises(FileNotFoundError, match="no pictures with captions at"):
        data.read_captions(tmp_path / "nothing")


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 30), st.integers(1, 9))
def test_groups_are_never_divided_and_captions_never_tested_twice(groups, tested, texts):
    n = len(groups)
    found = captions.CaptionedPictures(np.zeros((n, 1, 1, 1), np.uint8), list(map(str, range(n))),
                                       [(str(i % texts),) for i in range(n)], [()] * n, np.array(groups), np.full(n, -1))
    train, test = found.divided(tested)
    assert not set(found.groups[train]) & set(found.groups[test]) and len(set(found.groups[test])) == len(test)
    assert len(set(found.keys()[test])) == len(test) <= min(tested, len(set(groups)) // 2)
    assert set(found.groups[train]) | set(found.groups[test]) == set(groups)
    again = found.divided(tested)
    assert np.array_equal(again[0], train) and np.array_equal(again[1], test)


def test_labels_in_words_and_digits_in_colours():
    images = np.zeros((3, 1, 2, 2), np.uint8)
    found = data.captioned(images, [1, 0, 1], ("cat", "dog"), ("a {}", "{}s"))
    assert found.texts == [("a dog", "dogs"), ("a cat", "cats"), ("a dog", "dogs")] and found.keys().tolist() == [0, 1, 0]
    digits = data.coloured_digits(np.ones((50, 2, 2), np.float32), np.arange(50) % 10)
    for i in range(50):
        colour, digit = digits.classes[digits.labels[i]].split()
        assert captions.DIGITS.index(digit) == i % 10 and tuple(digits.pictures[i, :, 0, 0]) == captions.COLOURS[colour]


# -- published sets ----------------------------------------------------------------------------------------------------

def test_variants_of_an_emoji_are_a_group():
    artist, tone, female = 0x1F3A8, 0x1F3FD, 0x2640
    assert base((0x1F469, 0x200D, artist)) == base((0x1F468, tone, 0x200D, artist)) == base((0x1F9D1, 0x200D, artist))
    assert base((0x1F3C4, 0x200D, female, 0xFE0F)) == base((0x1F3C4, tone)) == (0x1F3C4,)
    assert base((0x1F600,)) != base((0x1F601,))


def test_emoji_with_names_in_languages_and_groups(tmp_path):
    pytest.importorskip("emoji")
    names = ["1f600", "1f408", "1f415", "1f3c4", "1f3c4_1f3fd_200d_2640", "0023", "1f1e6_1f1f9"]
    with zipfile.ZipFile(tmp_path / "noto-emoji.zip", "w") as archive:
        for i, name in enumerate(names):
            archive.writestr(f"32/emoji_u{name}.png", png(i))
    (tmp_path / "emoji-test.txt").write_text(
        "# subgroup: face-smiling\n1F600 ; fully-qualified # x\n# subgroup: animal-mammal\n1F408 ; fully-qualified\n"
        "1F415 ; fully-qualified\n# subgroup: country-flag\n1F1E6 1F1F9 ; fully-qualified\n")
    found = data.load_emoji(("en", "de"), tmp_path)
    assert found.skipped == {"32/emoji_u0023.png": "it has no name"} and len(found) == 6
    assert found.texts[2] == ("dog", "hund") and found.texts[-1][0] == "woman surfing medium skin tone"
    surfers = [i for i, texts in enumerate(found.texts) if "surfing" in texts[0]]
    assert len(set(found.groups[surfers])) == 1 and len(set(found.groups)) == 5 and len(surfers) == 2
    assert {found.classes[k] for k in found.labels if k >= 0} == {"face smiling", "animal mammal", "country flag"}
    with pytest.raises(ValueError, match="not en, xx"):
        data.load_emoji(("en", "xx"), tmp_path)
    with pytest.raises(FileNotFoundError, match="no emoji in"):
        data.load_emoji(("en",), tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="openclipart-64.zip is not in"):
        data.load_clipart(tmp_path / "nothing")


def test_openclipart():
    try:
        found = data.load_clipart()
    except FileNotFoundError:
        pytest.skip("MINIGRAD_DATA has no openclipart-64.zip")
    assert len(found) > 7900 and len(found.classes) == 22 and len(found.skipped) < 10
    train, test = found.divided(500)
    assert len(test) == 500 and len(train) > 7000


# -- byte pairs --------------------------------------------------------------------------------------------------------

TEXTS = ["a red cat", "the red dog", "redder cats and dogs", "a cat's cradle", "Ängste, 犬 and 42!"] * 3


@pytest.fixture(scope="module")
def vocabulary():
    pytest.importorskip("tokenizers")
    return data.BytePairs.train(TEXTS, 540)


def test_every_text_is_known_and_comes_back(vocabulary):
    assert len(vocabulary) <= 540 and (vocabulary.start, vocabulary.end) == (len(vocabulary) - 2, len(vocabulary) - 1)
    ids = vocabulary.encode(["A  red CAT", "", "Ängste 犬 🎉"], 30)
    assert ids.dtype == np.int64 and (ids[:, 0] == vocabulary.start).all()
    assert [vocabulary.decode(row) for row in ids] == ["a red cat", "", "ängste 犬 🎉"]
    assert (ids[1, 1:] == vocabulary.end).all()
    short = vocabulary.encode(["redder cats and dogs, and more of them"], 5)
    assert short.shape == (1, 5) and short[0, -1] == vocabulary.end and (short[0, :4] != vocabulary.end).all()
    assert vocabulary.encode([], 5).shape == (0, 2)


def test_a_save_for_which_there_is_no_room_leaves_the_old_vocabulary(vocabulary, tmp_path):
    """No room: a limit on the size of files, which a file system that is full answers in the same way."""
    resource = pytest.importorskip("resource")
    words = data.WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog"])
    for kind, old, new in ((data.BytePairs, vocabulary, vocabulary),
                           (data.WordPiece, words, data.WordPiece([*words.tokens, *(f"word{i}" for i in range(3000))]))):
        old.save(tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
            with pytest.raises(OSError):
                new.save(tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        kind.load(tmp_path)


def test_saved_in_both_forms_it_is_the_same(vocabulary, tmp_path):
    vocabulary.save(tmp_path)
    wanted = vocabulary.encode(TEXTS, 40)
    np.testing.assert_array_equal(data.BytePairs.load(tmp_path).encode(TEXTS, 40), wanted)
    (tmp_path / "tokenizer.json").unlink()
    np.testing.assert_array_equal(data.BytePairs.load(tmp_path).encode(TEXTS, 40), wanted)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no vocabulary of byte pairs: (?!no vocabulary)"):
        data.BytePairs.load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(ValueError, match="no vocabulary of byte pairs"):
        data.BytePairs.load(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match="tokenizer.json wanted"):
        data.BytePairs.load(tmp_path)
    for text in ("", "{}", '{"model": 3}'):
        with pytest.raises(ValueError):
            data.BytePairs.parse(text)


def test_training_is_the_same_in_every_process(vocabulary):
    script = f"from minigrad import data; print(hash(data.BytePairs.train({TEXTS!r}, 540).text()))"
    environment = dict(os.environ, PYTHONHASHSEED="0")
    own = subprocess.run([sys.executable, "-c", f"print(hash({vocabulary.text()!r}))"], env=environment, capture_output=True)
    assert subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True).stdout == own.stdout


def test_sizes_that_cannot_be(vocabulary):
    with pytest.raises(ValueError, match="513 pieces are too few"):
        data.BytePairs.train(TEXTS, 513)
    with pytest.raises(ValueError, match="length 1 has no room"):
        vocabulary.encode(["a"], 1)


def test_published_vocabularies_divide_as_the_reference(vocabulary, tmp_path):
    library = pytest.importorskip("transformers")
    vocabulary.save(tmp_path)
    reference = library.CLIPTokenizerFast(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    for text in [*TEXTS, "it's  I'll WE'VE", "<b>x_y</b>", "12 345", "naïve café"]:
        assert vocabulary.encode([text], 77)[0].tolist() == reference(text)["input_ids"], text
