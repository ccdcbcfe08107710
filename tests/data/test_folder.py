"""Folders of pictures as people have them: kinds of files, layouts, archives, and what is skipped and said."""
import contextlib
import gzip
import io
import os
import struct
import tarfile
import unicodedata
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from methods.peft.prediction import texts_in
from methods.self_supervised import pictures as unlabelled
from methods.training import characters, images, texts
from methods.training.pictures import picture_files
from methods.transfer import pictures as transferred
from minigrad import data
from minigrad.data import cifar10, files, folder
from minigrad.data.labelled_texts import read_labelled_texts

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "cache"))


def encoded(picture, kind="PNG", **options):
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def png(seed=0, height=9, width=8):
    return encoded(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)))


def write(root, names, content=None):
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i) if content is None else content)
    return root


def zipped(path, names, content=None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, name in enumerate(names):
            archive.writestr(name, png(i) if content is None else content)
    return path


# -- kinds of files ----------------------------------------------------------------------------------------------------

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize("kind", sorted({"PNG", "TIFF", "PPM", "BMP", "GIF", "TGA", "PCX", "SGI", "IM", "JPEG2000", "QOI"}))
def test_grey_values_of_lossless_formats(kind):
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip("the installed Pillow does not write it")
    picture = Image.fromarray(RAMP).convert("RGB") if kind in ("JPEG2000", "QOI") else Image.fromarray(RAMP)
    for channels in (1, 3):
        found = folder.read_picture(encoded(picture, kind), channels=channels)
        assert found.shape == (channels, 16, 16) and (found == RAMP).all()


@pytest.mark.parametrize("values, kind", [
    (RAMP.astype(np.uint16) * 257, "PNG"), (RAMP.astype(np.uint16) * 257, "TIFF"), (RAMP.astype(np.uint16) * 257, "PPM"),
    (RAMP.astype(np.int32) * 1000 - 5, "TIFF"), (RAMP.astype(np.float32) / 255, "TIFF"), (RAMP.astype(np.float32), "TIFF"),
    (RAMP.astype(np.float32) * 30 - 4000, "TIFF")])
def test_deep_images_are_scaled_by_their_range(values, kind):
    assert (folder.read_picture(encoded(Image.fromarray(values), kind), channels=1) == RAMP).all()


@pytest.mark.parametrize("channels", [1, 5])
def test_a_tiff_of_many_channels_is_refused_as_such(channels, tmp_path):
    entries = [(256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (273, 200), (277, channels), (278, 4), (279, 16 * channels)]
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    content = (struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + tags).ljust(200, b"\0") + bytes(16 * channels)
    (tmp_path / "a.tif").write_bytes(content)
    for read in (folder.File(tmp_path / "a.tif"), lambda: content):
        with contextlib.nullcontext() if channels == 1 else pytest.raises(ValueError, match="a TIFF that Pillow cannot read"):
            folder.check_picture(read)


def test_floats_that_are_no_numbers():
    values = RAMP.astype(np.float32) / 255
    values[0, :3] = np.nan, np.inf, -np.inf
    found = folder.read_picture(encoded(Image.fromarray(values), "TIFF"), channels=1)[0]
    assert found[0, :3].tolist() == [0, 255, 0] and (found[1:] == RAMP[1:]).all()
    with pytest.raises(ValueError, match="finite"):
        folder.read_picture(encoded(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
@pytest.mark.parametrize("hidden", [0, 200])
def test_transparent_ground_is_white_whatever_lies_beneath(mode, hidden):
    """Black ink on it stays black, also after scaling."""
    ink = np.zeros((16, 16), bool)
    ink[4:12, 4:12] = True
    rgba = np.full((16, 16, 4), hidden, np.uint8)
    rgba[..., 3] = 255 * ink
    rgba[ink, :3] = 0
    options, picture = {}, Image.fromarray(rgba)
    if mode == "LA":
        picture = picture.convert("LA")
    elif mode == "P":
        picture = Image.fromarray((1 - ink).astype(np.uint8), "L").convert("P")
        picture.putpalette([0, 0, 0, hidden, hidden, hidden])
        options = {"transparency": 1}
    elif mode in ("L", "RGB"):
        picture = Image.fromarray(np.where(ink, 0, 201).astype(np.uint8)).convert(mode)
        options = {"transparency": 201 if mode == "L" else (201, 201, 201)}
    content, on_paper = encoded(picture, **options), encoded(Image.fromarray(np.where(ink, 0, 255).astype(np.uint8)))
    for channels in (1, 3):
        assert (folder.read_picture(content, channels=channels) == np.where(ink, 0, 255)).all()
        assert (folder.read_picture(content, 5, channels) == folder.read_picture(on_paper, 5, channels)).all()
    premultiplied = Image.fromarray(rgba).convert("RGBa")
    assert (np.asarray(folder._on_white(premultiplied).convert("L")) == np.where(ink, 0, 255)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_pictures_are_upright(orientation, kind):
    upright = np.zeros((16, 24), np.uint8)
    upright[:8, :8] = 255  # the upper left corner
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # Pillow's numbers of transpositions
    stored = Image.fromarray(upright) if undo is None else Image.fromarray(upright).transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = folder.read_picture(encoded(stored.convert("RGB"), kind, exif=exif), channels=1)[0]
    assert found.shape == upright.shape and (found[2:6, 2:6] > 200).all() and (found[10:, 10:] < 50).all()


def test_damaged_exif_data_spoils_no_picture():
    content = encoded(Image.fromarray(RAMP), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff nonsense")
    assert (folder.read_picture(content, channels=1) == RAMP).all()


@pytest.mark.parametrize("mode, colour", [("CMYK", (0, 255, 255, 0)), ("YCbCr", (76, 85, 255)), ("LAB", (138, 209, 198))])
def test_other_colour_spaces(mode, colour):
    content = encoded(Image.new(mode, (4, 4), colour), "TIFF")
    try:
        Image.open(io.BytesIO(content)).load()
    except OSError:
        pytest.skip("this Pillow does not read what it has written")
    found = folder.read_picture(content)
    assert (found[0] > 240).all() and (found[1:] < 15).all()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_give_their_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    found = folder.read_picture(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert (found[0] > 240).all() and (found[2] < 15).all()


def bomb():
    """A PNG of 30,000 x 30,000 pixels by its header."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", b"x") + chunk(b"IEND", b""))


BAD = {"empty": b"", "text": b"no picture", "truncated": png()[:90], "header": png()[:8], "bomb": bomb(),
       "script": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("pack", [False, True])
def test_what_cannot_be_read_is_skipped_and_listed(bad, pack, tmp_path):
    names = [f"{c}/{i}.png" for c in "ab" for i in range(3)]
    if pack:
        path = zipped(tmp_path / "x.zip", names)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("a/bad.png", BAD[bad])
    else:
        path = write(tmp_path / "x", names)
        (path / "a" / "bad.png").write_bytes(BAD[bad])
    found = data.read_image_folder(path, 8)
    assert found.names == names and list(found.pictures.skipped) == ["a/bad.png"]
    assert "skipped 1 file: a/bad.png (it " in found.description()
    assert "skipped 1 file: a/bad.png" in images.load(str(path), 0, 0).description


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "ICO", "TGA"]), st.integers(0, 10 ** 6),
       st.binary(min_size=1, max_size=30))
def test_damage_is_a_ValueError_or_harmless(kind, at, damage):
    content = bytearray(encoded(Image.fromarray(RAMP).convert("RGB"), kind))
    at %= len(content)
    content[at:at + len(damage)] = damage
    try:
        assert folder.read_picture(bytes(content), 8).shape == (3, 8, 8)
    except ValueError as error:
        assert "it " in str(error)


def test_nothing_but_unreadable_files(tmp_path):
    write(tmp_path, ["a/1.png", "b/1.png"], b"x")
    with pytest.raises(ValueError, match=r"no readable images .*skipped 2 files: a/1.png"):
        data.read_image_folder(tmp_path, 8)


def test_files_of_other_kinds_are_counted_by_all_readers(tmp_path, capsys):
    write(tmp_path / "pictures", [f"{c}/{i}.png" for c in "ab" for i in range(3)])
    for i, name in enumerate(f"{c}/{i}.txt" for c in "ab" for i in range(3)):
        write(tmp_path / "texts", [name], f"text {i}".encode())
    for name in ("pictures", "texts", "alone"):
        write(tmp_path / name, ["a/4.HEIC", "b/5.heic"], b"x")
    readers = {"pictures": [lambda path: images.load(path, 0, 0), transferred.load, unlabelled.load, picture_files],
               "texts": [texts.load, texts_in]}
    for kind, loads in readers.items():
        for load in loads:
            found = load(str(tmp_path / kind))
            said = getattr(found, "description", "") + "".join(capsys.readouterr())
            assert said.count("not looked at: 2 files of other kinds (2 .heic)") == 1, (load, said)
    for load in (*readers["pictures"][:3], *readers["texts"]):
        with pytest.raises((ValueError, SystemExit), match="0 pictures can|holds no") as error:
            load(str(tmp_path / "alone"))
        assert "(2 .heic)" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("log", ["few_labels.csv", "reviews.few_labels.csv", "._train.csv"])
def test_labels_that_were_clicked_and_hidden_tables_are_no_texts(log, tmp_path, capsys):
    lines = b"time,file,class,moved\n2026-01-02T03:04:05,unlabelled/1.txt,a,\n"
    write(tmp_path / "pictures", [f"{c}/{i}.png" for c in "ab" for i in range(5)])
    for i, name in enumerate(f"{c}/{i}.txt" for c in "ab" for i in range(5)):
        write(tmp_path / "texts", [name], f"text {i}".encode())
    for name in ("pictures", "texts", "alone"):
        write(tmp_path / name, [log], lines)
    found = read_labelled_texts(tmp_path / "texts")
    assert sorted(found.texts) == sorted(text for _, text in texts_in(str(tmp_path / "texts")))
    assert len(found.texts) == 10 and "2026" not in "".join(found.texts)
    assert [texts.is_text(str(tmp_path / name)) for name in ("pictures", "texts", "alone")] == [False, True, False]
    said = transferred.load(str(tmp_path / "pictures")).description
    assert log.startswith(".") or "not looked at: 1 file of other kinds (1 few_labels.csv)" in said


@pytest.mark.parametrize("kind,ending,other,form", [
    ("image", ".heic", ".mp4", "JPEG or PNG"), ("text", ".docx", ".heic", ".txt, in UTF-8"), ("recording", ".mp3", ".heic", ".wav")])
def test_what_files_of_other_kinds_are_to_be_saved_as_is_said(kind, ending, other, form, tmp_path):
    write(tmp_path, [f"a/1{ending}", f"a/2{ending.upper()}", f"a/3{other}"])
    found = folder.find_files(tmp_path, {".x"}, kind).left_out()
    assert found == [f"not looked at: 3 files of other kinds (2 {ending}, 1 {other}), of which {ending} would be read if saved "
                     f"as {form}"]
    (tmp_path / "a" / f"1{ending}").unlink()
    (tmp_path / "a" / f"2{ending.upper()}").unlink()
    assert folder.find_files(tmp_path, {".x"}, kind).left_out() == [f"not looked at: 1 file of other kinds (1 {other})"]


# -- what is found -----------------------------------------------------------------------------------------------------

JUNK = ["a/.ipynb_checkpoints/1-checkpoint.png", ".thumbnails/a/1.png", "a/._1.png", "__MACOSX/a/1.png", "a/Thumbs.db",
        "@eaDir/a/1.png", ".hidden.png", "a/.DS_Store", "a/desktop.ini"]


@pytest.mark.parametrize("pack", [False, True])
def test_hidden_files_are_ignored(pack, tmp_path):
    names = ["a/1.png", "b/1.png"]
    path = zipped(tmp_path / "x.zip", names + JUNK) if pack else write(tmp_path / "x", names + JUNK)
    found = data.find_pictures(path)
    assert list(found.files) == names and not found.others and not found.skipped


def test_endings_are_pillows_in_any_case_and_others_are_counted(tmp_path):
    names = [f"a/{i}{ending}" for i, ending in enumerate((".jfif", ".JPG", ".ppm", ".Jp2", ".avif", ".tga"))]
    write(tmp_path, names + ["a/x.heic", "a/y.HEIC", "a/notes.txt", "a/without"])
    found = data.find_pictures(tmp_path)
    assert list(found.files) == sorted(names)
    assert found.others == {".heic": 2, ".txt": 1, "no ending": 1}
    write(tmp_path, ["b/1.png"])
    assert "not looked at: 4 files of other kinds (2 .heic, " in data.read_image_folder(tmp_path, 4).description()


def test_links_are_followed_without_loops(tmp_path):
    write(tmp_path / "x", ["a/1.png"])
    write(tmp_path / "elsewhere", ["1.png", "deep/2.png"])
    os.symlink(tmp_path / "elsewhere", tmp_path / "x" / "b")
    os.symlink(tmp_path / "x", tmp_path / "x" / "a" / "loop")
    os.symlink(tmp_path / "nowhere", tmp_path / "x" / "a" / "dead.png")
    os.symlink("self.png", tmp_path / "x" / "a" / "self.png")
    os.mkfifo(tmp_path / "x" / "a" / "pipe.png")
    found = data.find_pictures(tmp_path / "x")
    assert [name for name, _ in found.read(folder.read_picture)] == ["a/1.png", "b/1.png", "b/deep/2.png"]
    assert sorted(found.skipped) == ["a/dead.png", "a/pipe.png", "a/self.png"]


def test_composed_and_decomposed_names_are_one_class(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "Prüfung") for form in ("NFC", "NFD"))
    write(tmp_path, [f"train/{nfc}/1.png", "train/b/1.png", f"test/{nfd}/1.png", "test/b/1.png"])
    assert images.load(str(tmp_path), 0, 0).names == tuple(sorted([nfc, "b"]))
    write(tmp_path, [f"train/{nfd}/1.png"])
    assert len(data.read_image_folder(tmp_path, 4).layout.train[nfc]) == 2


# -- archives ----------------------------------------------------------------------------------------------------------

def patched(path, place, change):
    """Changes a field in each header of a zip, local (at `place`) and central (2 bytes on)."""
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", place), (b"PK\1\2", place + 2)):
        at = content.find(mark)
        while at >= 0:
            content[at + offset:at + offset + 2] = struct.pack("<H", change)
            at = content.find(mark, at + 4)
    path.write_bytes(content)


NAMES = ["a/1.png", "a/2.png", "b/1.png", "b/2.png"]


def _encrypted(path):
    patched(zipped(path, NAMES), 6, 1)


def _deflate64(path):
    patched(zipped(path, NAMES), 8, 9)


def _inner(path):
    zipped(path, ["data/inner.zip"], zipped(path.with_suffix(".inner"), NAMES).read_bytes())


def _outside(path):
    zipped(path, NAMES + ["../../etc/c/1.png"])


def _absolute(path):
    zipped(path, NAMES + ["/etc/c/1.png"])


def _drive(path):
    zipped(path, NAMES + [r"C:\c\1.png"])


def _bomb(path):
    with zipfile.ZipFile(zipped(path, NAMES), "a", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a/3.png", "w", force_zip64=True) as member:
            for _ in range(1100):
                member.write(bytes(2 ** 20))


def _cut(path):
    zipped(path, NAMES)
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize("make, word", [(_encrypted, "encrypted"), (_deflate64, "deflate64"), (_inner, "another zip"),
                                        (_outside, "outside"), (_absolute, "outside"), (_drive, "outside"),
                                        (_bomb, "unpacks to 1.1 GiB"), (_cut, "undamaged")])
def test_archives_that_cannot_be_read_are_one_line(make, word, tmp_path):
    path = tmp_path / "x.zip"
    make(path)
    for load in (lambda: data.load_image_folder(path, 8), lambda: images.load(str(path), 0, 0),
                 lambda: characters.load(str(path)), lambda: picture_files(path)):
        with pytest.raises((ValueError, SystemExit), match=word) as error:
            load()
        assert "\n" not in str(error.value) and "x.zip" in str(error.value)


def test_backslashes_are_slashes(tmp_path):
    found = data.read_image_folder(zipped(tmp_path / "x.zip", [f"x\\{name}".replace("/", "\\") for name in NAMES]), 8)
    assert {c: len(m) for c, m in found.layout.train.items()} == {"a": 2, "b": 2}


# -- layouts -----------------------------------------------------------------------------------------------------------

SPLIT = [f"{part}/{c}/{i}.png" for part in ("train", "test") for c in "ab" for i in range(2)]


def summary(names):
    found = folder.arrange(sorted(names))
    return ({c: len(m) for c, m in found.train.items()}, {c: len(m) for c, m in found.test.items()}, len(found.unlabelled),
            " | ".join(found.notes))


@pytest.mark.parametrize("train, test, free", [("train", "test", "unlabelled"), ("Train", "TEST", "Unlabeled"),
                                               ("TRAINING", "Testing", "UNLABELLED"), ("train", "val", "unlabeled"),
                                               ("train", "Valid", "train/unlabelled")])
@pytest.mark.parametrize("outer", ["", "own/", "a/b c/"])
def test_split_layouts(train, test, free, outer):
    names = [name.replace("train/", f"{train}/").replace("test/", f"{test}/") for name in SPLIT]
    got = summary([outer + name for name in [*names, f"{free}/1.png", f"{free}/deep/2.png"]])
    assert got[:3] == ({"a": 2, "b": 2}, {"a": 2, "b": 2}, 2)
    assert ("validation" in got[3]) == test.lower().startswith("val")


@pytest.mark.parametrize("names, train, test, free, note", [
    (["train/1.png", "bus/1.png", "car/1.png"], {"train": 1, "bus": 1, "car": 1}, {}, 0, ""),
    (["train/1.png", "test/1.png", "car/1.png"], {"train": 1, "test": 1, "car": 1}, {}, 0, ""),
    ([*NAMES, "loose.png", "unlabeled/1.png"], {"a": 2, "b": 2}, {}, 1, "loose.png"),
    ([*(f"own/{n}" for n in NAMES), "own/loose.png", "logo.png"], {"a": 2, "b": 2}, {}, 0, "2 pictures beside"),
    ([*SPLIT, "val/a/1.png"], {"a": 2, "b": 2}, {"a": 2, "b": 2}, 0, "1 picture in the validation"),
    ([*SPLIT, "notes/scan.png"], {"a": 2, "b": 2}, {"a": 2, "b": 2}, 0, "1 picture in notes/"),
    ([*SPLIT, "train/x.png", "test/unlabelled/x.png"], {"a": 2, "b": 2}, {"a": 2, "b": 2}, 0, "train/ itself"),
    ([n for n in SPLIT if "train" in n], {"a": 2, "b": 2}, {}, 0, ""),
    ([*NAMES, "Test/a/1.png", "Test/b/1.png"], {"a": 2, "b": 2}, {"a": 1, "b": 1}, 0, ""),
    ([*NAMES, "val/a/1.png", "unlabelled/1.png"], {"a": 2, "b": 2}, {"a": 1}, 1, "tested on: 1 picture in the validation"),
    ([*NAMES, "test/a/1.png", "val/b/1.png"], {"a": 2, "b": 2}, {"a": 1}, 0, "1 picture in the validation"),
    ([*NAMES, "test/k/1.png", "train/1.png", "test/1.png"], {"a": 2, "b": 2, "train": 1}, {"k": 1}, 0, "test/ itself"),
    (["Latin/a/1.png", "Latin/b/1.png", "Greek/a/1.png"], {"Latin/a": 1, "Latin/b": 1, "Greek/a": 1}, {}, 0, "")])
def test_layouts(names, train, test, free, note):
    got = summary(names)
    assert got[:3] == (train, test, free) and note in got[3] and bool(note) == bool(got[3])


@pytest.mark.parametrize("names, word", [(["train/1.png", "test/1.png"], "a folder for each class"),
                                         (["train/1.png", "train/2.png"], "a folder for each class"),
                                         (["test/a/1.png", "test/b/1.png"], "class folders in train"),
                                         (["a/train/1.png", "a/test/1.png", "b/train/1.png", "b/test/1.png"], "at the top")])
def test_layouts_that_are_not_guessed(names, word):
    with pytest.raises(ValueError, match=word):
        folder.arrange(names)


WORDS = st.sampled_from(["train", "Test", "val", "unlabelled", "UNLABELED", "a", "b", "Zug", "own", "1.png", "2.png"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(WORDS, min_size=0, max_size=4), min_size=1, max_size=12), st.sampled_from(["", "outer/"]))
def test_each_picture_serves_once_or_is_said(folders, outer):
    """Whatever the layout: used pictures and those that the notes count are all; an outer folder changes nothing."""
    names = sorted({"/".join([*parts, "x.png"]) for parts in folders})
    try:
        found = folder.arrange(names)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    used = [n for part in (found.train, found.test) for members in part.values() for n in members] + found.unlabelled
    unused = sum(int(note.split()[2]) for note in found.notes if note.startswith("not used"))
    assert len(used) == len(set(used)) and len(used) + unused == len(names)
    assert not any(folder._part(part) == "unlabelled" for c in found.train for part in c.split("/")[:1])
    if outer and any("/" in name for name in names):
        again = folder.arrange([outer + name for name in names])
        assert (list(again.train), list(again.test)) == (list(found.train), list(found.test))


# -- labels and classes ------------------------------------------------------------------------------------------------

def test_labels_are_a_total_and_errors_say_so(tmp_path):
    write(tmp_path, [f"{c}/{i}.png" for c in ("cat", "dog") for i in range(5)])
    assert "8 labels in all (4 per class)" in images.load(str(tmp_path), 8, 0).description
    for i in (5, 6):
        write(tmp_path, [f"dog/{i}.png"], png(100 + i))
    assert "all 10 labels" in (said := images.load(str(tmp_path), 0, 0).description) and "per class" not in said
    for labels, words in ((10, ["5 per class", "cat has 4", "a fifth of each class is held out", "at most 8"]),
                          (1, ["each class needs at least one"])):
        with pytest.raises(SystemExit) as error:
            images.load(str(tmp_path), labels, 0)
        for word in [*words, str(tmp_path), f"--labels {labels}"]:
            assert word in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ValueError, match="6 labels for 10 classes"):
        data.balanced_subset(np.arange(10).repeat(3), 6)


def test_classes_that_differ_or_are_too_small_are_named(tmp_path):
    write(tmp_path / "x", SPLIT + ["train/c/1.png"])
    with pytest.raises(SystemExit, match="c in train alone"):
        images.load(str(tmp_path / "x"), 0, 0)
    write(tmp_path / "y", [*NAMES, "only/1.png"])
    with pytest.raises(SystemExit, match="with one image: only"):
        images.load(str(tmp_path / "y"), 0, 0)
    for name, names in (("loose", ["1.png", "2.png"]), ("without", ["unlabelled/1.png", "unlabelled/2.png"])):
        with pytest.raises(SystemExit, match="found none. Put each class's images"):
            transferred.load(str(write(tmp_path / name, names)))


def test_few_shot_classes_are_new_ones(tmp_path):
    def load(name, names):
        train, test, description = characters.load(str(write(tmp_path / name, names)))
        assert not set(train.names) & set(test.names)
        return train, test, description

    both = [f"{part}/{c}/{i}.png" for part in ("train", "test") for c in "abcdef" for i in range(2)]
    train, test, said = load("same", both)
    assert len(train.names) == 4 and len(test.names) == 2 and {len(c) for c in train.images} == {4} and "put together" in said
    new = [f"test/{c}/{i}.png" for c in "xyz" for i in range(2)]
    train, test, said = load("some", both[:12] + both[12:14] + new)
    assert train.names == list("abcdef") and test.names == list("xyz") and "not tested on: a" in said
    train, test, said = load("one", both[:12] + new + ["test/single/1.png", "Unlabeled/1.png"])
    assert test.names == list("xyz") and "one picture (single)" in said and "1 of them without a label" in said


@pytest.mark.parametrize("ground, ink", [(255, 0), (0, 255)])
def test_characters_have_light_ink_and_are_shown_as_they_were(ground, ink, tmp_path):
    picture = np.full((28, 28), ground, np.uint8)
    picture[10:15, 5:20] = ink
    for k in range(12):
        picture[0, 27] = abs(ground - k % 2)  # or the second would be a copy
        write(tmp_path, [f"{'abcdef'[k // 2]}/{k % 2}.png"], encoded(Image.fromarray(picture)))
    picture[0, 27] = ground
    train, test, _ = characters.load(str(tmp_path))
    for part in (train, test):
        assert part.images[0][0][12, 10] == 1 and part.images[0][0][0, 0] == 0 and part.on_paper == (ground == 255)
        np.testing.assert_array_equal(part.shown(0, 0) * 255, picture)
    with_turns = data.with_rotations(data.Characters(np.stack(train.images), train.names, train.on_paper))
    assert with_turns.on_paper == with_turns.without(["a"]).on_paper == train.on_paper


def test_names_are_printable(tmp_path):
    write(tmp_path, ["a\nb/1\x1b[31m.png"])
    with open(os.fsencode(tmp_path) + b"/a\nb/\xff.png", "wb") as file:
        file.write(png())
    for name in data.find_pictures(tmp_path).files:
        assert name.startswith("a\ufffdb/") and name.encode() and name.replace("/", "").isprintable()


def test_names_for_tables_are_printable_where_that_of_the_folder_is_not(tmp_path):
    path = str(write(tmp_path / os.fsdecode(b"\xff"), [f"{c}/{i}.png" for c in [*"abcd", "unlabelled"] for i in range(3)]))
    found, (_, test, _) = images.load(path, 0, 0), characters.load(path)
    for name in (*found.test_files, *found.unlabelled_files, *sum(test.files, []), *transferred.load(path).names,
                 *picture_files(path)):
        assert "\ufffd/" in name and name.encode()


def test_what_was_found_is_described(tmp_path):
    write(tmp_path, ["cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png", "unlabelled/1.png"])
    (tmp_path / "dog" / "2.png").write_bytes(png(9, 30, 20))
    said = images.load(str(tmp_path), 0, 0).description
    assert "5 pictures of 8 x 9 to 20 x 30 pixels, 1 of them without a label" in said and "2 classes: cat 2, dog 2" in said


# -- publishers' files -------------------------------------------------------------------------------------------------

def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("shape, labels", [((3, 28, 28), [0, 1]), ((2, 28, 28), [0, 255]), ((2, 28, 28), [0, 10]),
                                           ((2, 27, 28), [0, 1]), ((2, 784), [0, 1]), ((0, 28, 28), [])])
def test_mnist_labels_belong_to_the_images(shape, labels, tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(shape, np.uint8))))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.array(labels, np.uint8))))
    with pytest.raises(ValueError, match="wanted are"):
        data.load_mnist("test", tmp_path)


def test_gzip_bombs_are_read_no_further_than_their_header_says(tmp_path):
    head = struct.pack(">HBBI", 0, 8, 1, 10)
    (tmp_path / "a").write_bytes(gzip.compress(head + bytes(2 ** 26)))
    (tmp_path / "b").write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, *[2 ** 20] * 3)))
    for name in "ab":
        with pytest.raises(ValueError, match="magic number or length"):
            data.read_idx(tmp_path / name)


def test_cifar10_labels_sizes_and_caches_are_checked(tmp_path):
    packed = np.zeros((2, 3073), np.uint8)
    packed[1, 0] = 200
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        member.size = packed.size
        archive.addfile(member, io.BytesIO(packed.tobytes()))
    with pytest.raises(ValueError, match="a label of 200"):
        data.load_cifar10("test", tmp_path)
    path = zipped(tmp_path / "cifar10-test.zip", [f"test/{c}/1.png" for c in cifar10.NAMES], png(0, 32, 32))
    expected = data.load_cifar10("test", tmp_path)
    (cached,) = (tmp_path / "cache").glob("*.npy")
    for wrong in (np.zeros((4, 7), np.uint8), np.zeros((10, 3073)), np.zeros((0, 3073), np.uint8), np.zeros(3073, np.uint8)):
        np.save(cached, wrong)
        for found, want in zip(data.load_cifar10("test", tmp_path), expected):
            np.testing.assert_array_equal(found, want)
    zipped(path, ["test/cat/1.png"], png(0, 31, 32))
    with pytest.raises(ValueError, match="32 x 31 pixels"):
        data.load_cifar10("test", tmp_path)


@pytest.mark.parametrize("shape", [(2, 3), (-1, 3)])
def test_a_cached_array_of_another_shape_is_made_anew(shape):
    right = np.arange(6, dtype=np.uint8).reshape(2, 3)
    files.cached("key", lambda: np.zeros((2, 4), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (files.cached("key", lambda: right, shape) == right).all()
        assert (files.cached("key", lambda: 1 / 0, shape) == right).all()


def test_names_of_zip_members_with_dots_and_double_slashes(tmp_path):
    path = zipped(tmp_path / "x.zip", ["./a/1.png", "a//2.png", "./b/./1.png"])
    assert list(data.find_pictures(path).files) == ["a/1.png", "a/2.png", "b/1.png"]


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"", b"\x93NUMPY\x01\x00\x76\x00{'descr': '|u1', 'fortran_order': False, "
                                     b"'shape': (3000000000000, 4), }".ljust(128) + b"\n"])
def test_a_damaged_cache_file_of_any_kind_is_made_anew(tmp_path, monkeypatch, content):
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path))
    (tmp_path / "damaged.npy").write_bytes(content)
    made = np.ones((2, 4), np.uint8)
    assert (files.cached("damaged", lambda: made, (-1, 4)) == made).all()
