"""Labelled texts: tables, folders, what is skipped and what is refused."""
import csv
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from methods.few_labels import look
from methods.peft.prediction import texts_in
from minigrad.data.folder import find_pictures
from minigrad.data.labelled_texts import decode_text, made_up_reviews, read_labelled_texts


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name, content", [
    ("a.tsv", "good\t1\nbad \t0\nnot  bad\t1\n"), ("a.tsv", "label\tid\tsentence\n1\t7\tgood\n0\t8\tbad\n1\t9\tnot bad\n"),
    ("a.csv", "text,label\ngood,1\nbad,0\nnot bad,1\n"), ("a.csv", "\ufeffLabel,Review\r\n1,good\r\n0,bad\r\n1,\"not\nbad\"\r\n"),
    ("a.csv", "text;label\ngood;1\nbad;0\nnot bad;1\n"), ("a.csv", "Class|Text\n1|good\n0|bad\n1|not bad\n"),
    ("A.TSV", "1\tgood\n0\tbad\n\n1\tnot bad"), ("a.csv", "good,1\nbad,0\nnot bad,1"),
    ("a.csv", "text,tag\ngood,1\nbad,0\nnot bad,1\n"), ("a.csv", "is it;comment;class\n7;good;1\n7;bad;0\n7;not bad;1\n"),
    ("a.tsv", "tag\treview\tid\n1\tgood\t7\n0\tbad\t8\n1\tnot bad\t9\n"), ("a.csv", "good;1\nbad;0\nnot bad;1\n"),
    ("a.csv", "sep=;\r\nText;Tag\r\ngood;1\r\nbad;0\r\nnot bad;1\r\n"), ("a.csv", "text;label\rgood;1\rbad;0\rnot bad;1\r"),
    ("a.csv", "\ntext;label\ngood;1;;\nbad;0\nnot bad;1;\n"), ("a.csv", "text,label,by\ngood,1\nbad,0\nnot bad,1,me\n")],
    ids=["tabs", "named columns", "commas", "quoted", "semicolons", "bars", "label first", "no last line", "texts named",
         "labels named", "texts named between", "no names", "marked", "old lines", "empty cells", "missing cells"])
def test_tables(tmp_path, name, content):
    found = read_labelled_texts(write(tmp_path / name, content))
    assert found.texts == ["good", "bad", "not bad"] and found.classes == ("0", "1") and found.test is None
    np.testing.assert_array_equal(found.labels, [1, 0, 1])


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=4), st.sampled_from(["x", "y"])),
                min_size=2, max_size=12).filter(lambda rows: len({label for _, label in rows}) == 2))
@settings(max_examples=40, deadline=None)
def test_any_text_comes_back_from_a_table(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "a.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    found = read_labelled_texts(path)
    assert [(text, found.classes[k]) for text, k in zip(found.texts, found.labels)] == rows


def test_a_word_that_stands_in_its_column_again_is_no_name(tmp_path):
    found = read_labelled_texts(write(tmp_path / "a.csv", "fine,review\nwhat is it,question\nbad,review\n"))
    assert found.texts == ["fine", "what is it", "bad"] and found.classes == ("question", "review")


@pytest.mark.parametrize("names", ["text,label", "text,tag", "comment,label"])
def test_names_of_columns_hold_also_where_tables_were_joined_or_a_text_is_one(tmp_path, names):
    for content in (f"{names}\nfine,1\n{names}\nbad,0\n", f"{names}\nfine,1\nbad,0\n"):
        found = read_labelled_texts(write(tmp_path / "a.csv", content))
        assert found.texts == ["fine", "bad"] and found.classes == ("0", "1")
    found = read_labelled_texts(write(tmp_path / "a.csv", "id,text,label\n7,text,1\n8,bad,0\n"))
    assert found.texts == ["text", "bad"] and found.classes == ("0", "1")


def test_a_folder_of_tables(tmp_path):
    write(tmp_path / "train.tsv", "a b\tpos\nc d\tneg\n")
    write(tmp_path / "dev.tsv", "e f\tpos\n")
    assert read_labelled_texts(tmp_path).texts == ["a b", "c d", "e f"]
    write(tmp_path / "test.tsv", "g h\tneg\ni j\tpos\n")
    found = read_labelled_texts(tmp_path)
    assert found.texts == ["a b", "c d", "g h", "i j"] and found.classes == ("neg", "pos")
    np.testing.assert_array_equal(found.test, [2, 3])
    write(tmp_path / "test.tsv", "g h\tother\n")
    with pytest.raises(ValueError, match="to train on there is no text of class other"):
        read_labelled_texts(tmp_path)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_folders_of_files(tmp_path, packed):
    for name, text in {"train/good/a.txt": "fine\n film", "train/bad/b.txt": "no", "test/good/c.txt": "ok",
                       "test/bad/d.txt": "bad", "train/bad/e.txt": " \n"}.items():
        write(tmp_path / "d" / name, text)
    (tmp_path / "d" / "train" / "bad" / "f.txt").write_bytes(b"\xff\xfe\x00")
    where = tmp_path / "d"
    if packed:
        where = tmp_path / "d.zip"
        with zipfile.ZipFile(where, "w") as archive:
            for path in sorted((tmp_path / "d").rglob("*.txt")):
                archive.write(path, path.relative_to(tmp_path).as_posix())
    found = read_labelled_texts(where)
    assert dict(zip(found.texts, found.labels)) == {"fine film": 1, "no": 0, "ok": 1, "bad": 0}
    assert {found.texts[i] for i in found.test} == {"ok", "bad"}
    assert sorted(name.rpartition("/")[2] for name in found.skipped) == ["e.txt", "f.txt"]


def test_rows_that_are_skipped(tmp_path):
    found = read_labelled_texts(write(tmp_path / "a.tsv", "text\tlabel\na\t1\nb\t\n\t1\nc\t0\td\ne\t0\n"))
    assert found.texts == ["a", "e"]
    assert found.skipped == {"a.tsv, row 3": "no text or no label", "a.tsv, row 4": "no text or no label",
                             "a.tsv, row 5": "3 cells, not 2"}


def test_a_text_with_a_comma_gets_no_wrong_label(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\nlovely, great,1\n\"bad, dull\",0\nfine,1\nawful,0\n")
    labelled, found = read_labelled_texts(path), look.look(path, tmp_path / "out")
    assert labelled.texts == [found.text(i) for i in range(3)] == ["bad, dull", "fine", "awful"]
    assert [text for text, _ in texts_in(str(path))] == labelled.texts
    assert labelled.classes == found.classes == ("0", "1")
    assert labelled.skipped == {"a.csv, row 2": "3 cells, not 2"} and found.unusable == {"row 2": "3 cells, not 2"}
    path = write(tmp_path / "b.csv", "text,label\n" + "".join(f"{i},text {i},{i % 2}\n" for i in range(4)))
    for read in (read_labelled_texts, lambda path: look.look(path, tmp_path / "out")):
        with pytest.raises(ValueError, match=r"row 2 \(3 cells, not 2"):
            read(path)


@pytest.mark.parametrize("quoting", (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
@pytest.mark.parametrize("end", ("\n", "\r\n"))
def test_a_tsv_that_a_writer_of_csv_made_is_read_as_csv(tmp_path, quoting, end):
    cells = ['he said "fine", twice', "two\nlines", "a\ttab", "plain", '"all"', "", 'long "' + "x" * 200_000]
    with open(tmp_path / "a.tsv", "w", newline="") as file:
        csv.writer(file, "excel-tab", lineterminator=end, quoting=quoting).writerows(
            [("text", "label"), *((cell, "ab"[i % 2]) for i, cell in enumerate(cells))])
    found, folder = read_labelled_texts(tmp_path / "a.tsv"), look.look(tmp_path / "a.tsv", tmp_path / "out")
    assert found.texts == [" ".join(cell.split()) for cell in cells if cell] and list(found.skipped) == ["a.tsv, row 7"]
    assert len(folder.files) == len(found.texts)


@pytest.mark.parametrize("cell", ['"fine"', 'a "fine" film', '"open', 'shut"', '""', '"a" and "b"', 'both ""doubled""'])
def test_in_other_tsv_files_quotation_marks_are_text(tmp_path, cell):
    found = read_labelled_texts(write(tmp_path / "a.tsv", f"text\tlabel\n{cell}\t1\nawful\t0\nfine\t1\n"))
    assert found.texts == [cell, "awful", "fine"]


def test_only_ends_of_lines_end_lines(tmp_path):
    """Not the other characters that `str.splitlines` takes, which stand in texts from the web."""
    mark = "\u2028\x85\x0b\x0c\x1c\u2029"
    path = write(tmp_path / "a.tsv", f"text\tlabel\ngood{mark}one\t1\r\nbad\t0\rfine\t1\n")
    labelled, found = read_labelled_texts(path), look.look(path, tmp_path / "out")
    assert labelled.texts == [found.text(i) for i in range(3)] == ["good one", "bad", "fine"] and not labelled.skipped
    assert len(found.files) == 3 and len(look.look(write(tmp_path / "a.txt", f"good{mark}one\nbad\n"), tmp_path).files) == 2
    assert [text for text, _ in texts_in(str(tmp_path / "a.txt"))] == ["good one", "bad"]


@pytest.mark.parametrize("files, message", [
    ({"a.tsv": ""}, "a.tsv is empty"), ({"a.tsv": "only\nthese\n"}, "its rows have 1 cell$"),
    ({"a.tsv": "a\t1\nb\t1\n"}, "1 class, and two or more"), ({"a.csv": "\n".join(f"text {i},{i}" for i in range(30))},
                                                               "no column looks like labels"),
    ({"a.csv": 'text,label\nfine,1\n"bad,0\nfine,1\n'}, "row that begins in line 3 is never closed"),
    ({"x.md": "a"}, "holds no table"), ({"d/b.tsv": "a\t1\n", "d/c.tsv": "b\t0\n"}, "name one of them")],
    ids=["empty", "one column", "one class", "no labels", "open quotation", "other files", "several tables"])
def test_what_is_refused(tmp_path, files, message):
    for name, content in files.items():
        write(tmp_path / name, content)
    (first,) = {name.split("/")[0] for name in files}
    with pytest.raises(ValueError, match=message):
        read_labelled_texts(tmp_path if first == "x.md" else tmp_path / first)


def test_nothing_there_and_other_encodings(tmp_path):
    with pytest.raises(FileNotFoundError, match="no texts at"):
        read_labelled_texts(tmp_path / "none.tsv")
    (tmp_path / "a.tsv").write_bytes("gr\u00fcn\t1\n".encode("latin-1"))
    with pytest.raises(ValueError, match="a.tsv: it is no text in UTF-8; save it"):
        read_labelled_texts(tmp_path / "a.tsv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_texts_are_read_in_the_encodings_that_say_what_they_are(tmp_path, encoding):
    (tmp_path / "a.tsv").write_bytes("gr\u00fcn\t1\nrot\t0\n".encode(encoding))
    assert read_labelled_texts(tmp_path / "a.tsv").texts == ["gr\u00fcn", "rot"]
    assert decode_text("gr\u00fcn\n ist".encode(encoding)) == "gr\u00fcn ist"


@pytest.mark.parametrize("content", [b"gr\xfcn", b"a\0b", b"\xff\xfea", "gr\u00fcn".encode("utf-16-be")], ids=str)
def test_other_encodings_say_what_to_do(content):
    with pytest.raises(ValueError, match="no text in UTF-8; save it with that encoding"):
        decode_text(content)


@pytest.mark.parametrize("labels, classes", [
    (["10", "2", "-1"], ("-1", "2", "10")), (["10.0", "2.5"], ("2.5", "10.0")), (["b", "7", "a"], ("7", "a", "b")),
    (["\u00b2", "1", "--5", "-"], ("1", "-", "--5", "\u00b2")), (["-nan", "inf", "1"], ("1", "-nan", "inf"))], ids=str)
def test_classes_are_in_the_order_of_their_numbers(tmp_path, labels, classes):
    text = "text,label\n" + "".join(f"text {i},{label}\n" for i, label in enumerate(labels))
    assert read_labelled_texts(write(tmp_path / "a.csv", text)).classes == classes


@pytest.mark.parametrize("ending", [".xlsx", ".json", ".JSONL", ".parquet"])
def test_other_kinds_of_tables_say_what_to_do(tmp_path, ending):
    (tmp_path / f"a{ending}").write_bytes(b"PK")
    for reader in (read_labelled_texts, lambda path: look.look(path, tmp_path), find_pictures):
        with pytest.raises(ValueError, match="save it as CSV"):
            reader(tmp_path / f"a{ending}")
    with pytest.raises(ValueError, match="a.txt has no labels"):
        read_labelled_texts(write(tmp_path / "a.txt", "fine"))


@pytest.mark.parametrize("names", ["", "text,label\n"])
def test_labels_that_look_alike_are_one_class_and_missing_ones_none(tmp_path, names):
    labels = ["cafe\u0301", "caf\u00e9", '"two\n words"', "two  words", "nan", "NaN", "<NA>", "NULL"]
    table = write(tmp_path / "a.csv", names + "".join(f"a text {i},{label}\n" for i, label in enumerate(labels)))
    assert read_labelled_texts(table).classes == ("caf\u00e9", "two words")
    found = look.look(table, tmp_path)
    assert found.classes == ("caf\u00e9", "two words") and found.counts().tolist() == [2, 2] and len(found.unlabelled) == 4


def test_names_of_columns_in_other_words_are_noted_and_empty_columns_have_no_labels(tmp_path):
    rows = "".join(f"eine Zeile {i},{'gut' if i % 2 else 'schlecht'}\n" for i in range(4))
    table = write(tmp_path / "a.csv", f"Kommentar,Klasse\n{rows}")
    for notes in (read_labelled_texts(table).notes, look.look(table, tmp_path).notes):
        assert ["only one of class Klasse" in note for note in notes] == [True]
    assert not read_labelled_texts(write(tmp_path / "a.csv", rows)).notes
    table = write(tmp_path / "a.csv", rows.replace("\n", ",,\n"))
    assert read_labelled_texts(table).classes == ("gut", "schlecht")
    (note,) = look.look(write(tmp_path / "b.csv", "text\nfine\n"), tmp_path).description()[1:]
    assert "write labels into a column of the table, called label" in note


def test_made_up_reviews_are_always_the_same():
    found, again = made_up_reviews(300), made_up_reviews(300)
    assert found.texts == again.texts and len(found.test) == 100 and found.labels.mean() == 0.5
    assert made_up_reviews(300, seed=1).texts != found.texts
