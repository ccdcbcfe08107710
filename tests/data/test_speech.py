"""Recordings: .wav files of all kinds, damaged ones, folders and zips of them, the Free Spoken Digit Dataset."""
import io
import os
import struct
import wave
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from minigrad import data
from minigrad.data import speech

RAMP = np.linspace(-1, 1, 257)[:-1]  # of 256 steps, each an exact number in all formats
INTEGERS = {1: lambda x: np.rint(x * 128 + 128).astype(np.uint8), 2: lambda x: np.rint(x * 2**15).astype("<i2"),
            4: lambda x: np.rint(x * 2**31).astype("<i4")}


def samples(x, width):
    """The bytes of samples in [-1, 1) as integers of so many bytes."""
    if width == 3:
        return INTEGERS[4](x).view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    return INTEGERS[width](x).tobytes()


def by_wave(x, width=2, rate=8000, channels=1):
    """A file as the standard library writes it; x (samples,) or (samples, channels)."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(samples(np.ravel(x), width))
    return content.getvalue()


def chunk(name, body, size=None):
    return name + struct.pack("<I", len(body) if size is None else size) + body + bytes(len(body) % 2)


def riff(*chunks):
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def head(kind=1, channels=1, rate=8000, bits=16, frame=None, more=b""):
    frame = channels * bits // 8 if frame is None else frame
    return chunk(b"fmt ", struct.pack("<HHIIHH", kind, channels, rate, rate * frame % 2**32, frame, bits) + more)


def floats(values, bits=32):
    return riff(head(3, bits=bits), chunk(b"data", np.asarray(values, f"<f{bits // 8}").tobytes()))


WORD = samples(RAMP, 2)


# -- one file ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_integers_of_all_widths_and_the_mean_of_channels(width, channels):
    x = np.stack([np.roll(RAMP, 2 * i) for i in range(channels)], 1)
    found, rate = speech.read_wav(by_wave(x, width, 11025, channels))
    assert rate == 11025 and found.dtype == np.float32
    np.testing.assert_allclose(found, x.mean(1), atol=1e-7)


@pytest.mark.parametrize("bits", [32, 64])
def test_floats_are_cut_off_at_one(bits):
    found, _ = speech.read_wav(floats([0.25, -1.5, 1e30, 0], bits))
    assert found.tolist() == [0.25, -1, 1, 0] and found.dtype == np.float32


def test_other_chunks_odd_lengths_and_the_extensible_header():
    extensible = head(0xFFFE, more=struct.pack("<HHIH14s", 22, 16, 4, 1, b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"))
    for content in (riff(chunk(b"LIST", b"odd"), head(), chunk(b"fact", bytes(5)), chunk(b"data", WORD), chunk(b"tail", b"x")),
                    riff(extensible, chunk(b"data", WORD)), riff(head(), chunk(b"data", WORD, 0xFFFFFFFF)),
                    riff(head(more=b"\0\0"), chunk(b"data", WORD + b"\1"))):
        np.testing.assert_allclose(speech.read_wav(content)[0], RAMP, atol=1e-7)


BAD = {
    "empty": (b"", "empty"), "text": (b"no sound at all", "no RIFF"), "other RIFF": (b"RIFF\4\0\0\0AVI ", "no RIFF"),
    "truncated": (by_wave(RAMP)[:90], "cut off"), "header alone": (by_wave(RAMP)[:12], "no header"),
    "no samples": (by_wave(RAMP[:0]), "no samples"), "no data": (riff(head()), "no samples"),
    "no format": (riff(chunk(b"data", WORD)), "no header"),
    "short format": (riff(chunk(b"fmt ", b"12"), chunk(b"data", WORD)), "no header"),
    "lying size": (riff(head(), chunk(b"data", WORD, 2**31)), "cut off"),
    "lying chunk": (riff(chunk(b"LIST", b"", 2**32 - 1), head()), "cut off"),
    "compressed": (riff(head(85), chunk(b"data", WORD)), "compressed"),
    "mu-law": (riff(head(7, bits=8), chunk(b"data", WORD)), "compressed"),
    "odd bits": (riff(head(bits=12, frame=2), chunk(b"data", WORD)), "compressed"), "half": (floats([1], 16), "compressed"),
    "no channels": (riff(head(channels=0), chunk(b"data", WORD)), "no sense"),
    "no rate": (riff(head(rate=0), chunk(b"data", WORD)), "no sense"),
    "slow": (riff(head(rate=1), chunk(b"data", WORD)), "no sense"),
    "fast": (riff(head(rate=2**32 - 1), chunk(b"data", WORD)), "no sense"),
    "frame": (riff(head(frame=0), chunk(b"data", WORD)), "no sense"),
    "wide frame": (riff(head(frame=9), chunk(b"data", WORD)), "no sense"),
    "NaN": (floats([0, np.nan]), "finite"), "infinity": (floats([0, -np.inf]), "finite"),
    "long": (riff(head(rate=1000, bits=8), chunk(b"data", bytes(3_600_001))), "longer than 60 minutes")}


@pytest.mark.parametrize("pack", [False, True])
def test_what_cannot_be_read_is_skipped_and_listed_by_name_and_reason(pack, tmp_path):
    files = {f"a/{name}.wav": content for name, (content, _) in BAD.items()} | {"a/good.WAV": by_wave(RAMP)}
    found = data.read_recordings(written(tmp_path / ("x.zip" if pack else "x"), files))
    assert found.names == ["a/good.WAV"] and len(found) == 1
    assert set(found.files.skipped) == {f"a/{name}.wav" for name in BAD}
    for name, (_, why) in BAD.items():
        assert why in found.files.skipped[f"a/{name}.wav"], name
    assert f"skipped {len(BAD)} files: a/NaN.wav (it " in found.description() and "\n\n" not in found.description()


def test_nothing_is_left(tmp_path):
    path = written(tmp_path / "x", {"a.wav": b"", "b.mp3": b"ID3"})
    with pytest.raises(ValueError, match=r"no readable .wav files; skipped 1 file: a.wav \(it is empty\); not looked at: 1 fi"):
        data.read_recordings(path)
    with pytest.raises(FileNotFoundError, match="no recording folder or zip at"):
        data.read_recordings(tmp_path / "y")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([by_wave(RAMP), by_wave(RAMP, 3), floats(RAMP)]), st.integers(0, 80), st.binary(min_size=1, max_size=9))
def test_damage_is_a_ValueError_or_harmless(content, at, damage):
    try:
        x, rate = speech.read_wav(content[:at] + damage + content[at + len(damage):])
    except ValueError as error:
        assert "\n" not in str(error) and str(error).startswith("it")
        return
    assert x.dtype == np.float32 and x.ndim == 1 and len(x) and np.isfinite(x).all() and abs(x).max() <= 1 and rate >= 1000


# -- another rate --------------------------------------------------------------------------------------------------------

@settings(max_examples=40, deadline=None)
@given(st.integers(1000, 48000), st.integers(1000, 48000), st.floats(0.02, 0.4))
def test_a_tone_stays_that_tone(old, new, share):
    """Below half of the smaller rate it is kept; what lies above would come back as another tone and is taken out."""
    f = share * min(old, new)
    x = np.sin(2 * np.pi * f * np.arange(old // 2) / old)
    y = speech.resample(x, old, new)
    assert len(y) == -(-len(x) * new // old) and y.dtype == x.dtype
    edge = 40 * new // min(old, new)
    np.testing.assert_allclose(y[edge:-edge], np.sin(2 * np.pi * f * np.arange(len(y)) / new)[edge:-edge], atol=0.01)
    if new < 0.6 * old:
        high = speech.resample(np.sin(2 * np.pi * 0.7 * new * np.arange(old // 2) / old), old, new)
        assert abs(high[edge:-edge]).max() < 0.01


@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("old, new", [(8000, 8000), (8000, 48000), (44100, 8000), (192000, 1000), (1000, 192000)])
def test_short_recordings_have_another_rate_too(length, old, new):
    found = speech.resample(np.ones(length, np.float32), old, new)
    assert len(found) == -(-length * new // old) and np.isfinite(found).all() and found.dtype == np.float32


def test_all_get_the_rate_of_most_files(tmp_path):
    files = {f"{i}.wav": by_wave(RAMP, rate=rate) for i, rate in enumerate((16000, 8000, 16000))}
    found = data.read_recordings(written(tmp_path / "x", files))
    assert found.rate == 16000 and [len(x) for x in found.waveforms] == [256, 512, 256]
    assert data.read_recordings(tmp_path / "x", 8000).rate == 8000
    for rate in (0, 5, 8000.0, True, 10**6, "8000"):
        with pytest.raises(ValueError, match="rate: a whole number"):
            data.read_recordings(tmp_path / "x", rate)


# -- folders -------------------------------------------------------------------------------------------------------------

def written(path, files):
    """A folder, or a zip where the name says so, with these files."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


GOOD = by_wave(RAMP)


@pytest.mark.parametrize("outer", ["", "own/"])
@pytest.mark.parametrize("pack", [False, True])
def test_folders_are_classes(pack, outer, tmp_path):
    names = ["test/cat/2.wav", "train/cat/1.wav", "train/dog/1.wav", "unlabelled/3.wav"]
    files = {outer + name: GOOD for name in [*names, "__MACOSX/cat/._1.wav", "train/cat/.x.wav"]}
    found = data.read_recordings(written(tmp_path / ("x.zip" if pack else "x"), files))
    assert [name.removeprefix(outer) for name in found.names] == names
    assert found.labels == {"class": ["cat", "cat", "dog", ""]} and list(found.layout.test) == ["cat"]
    assert "class, 2 classes: cat 2, dog 1" in found.description()


@pytest.mark.parametrize("names, labels", [
    (["1_ann_0", "1_bob_0", "2_ann_1", "2_bob_1"],
     {"part 1": list("1122"), "part 2": ["ann", "bob"] * 2, "part 3": list("0011")}),
    (["1_a", "1_b", "2_c", "2_d"], {"part 1": list("1122")}), (["a", "b"], {}), (["a_1", "b"], {}), (["a_1", "a_2"], {})])
def test_parts_of_names_are_labels_where_there_are_no_folders(names, labels, tmp_path):
    found = data.read_recordings(written(tmp_path / "x", {f"{name}.wav": GOOD for name in names}))
    assert found.labels == labels and found.layout is None


def test_a_zip_bomb_is_refused(tmp_path):
    path = written(tmp_path / "x.zip", {"a/1.wav": GOOD})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("a/2.wav", "w", force_zip64=True) as member:
        for _ in range(1100):
            member.write(bytes(2**20))
    with pytest.raises(ValueError, match="unpacks to 1.1 GiB"):
        data.read_recordings(path)


# -- the Free Spoken Digit Dataset ----------------------------------------------------------------------------------------

DIGITS = {f"recordings/{digit}_{speaker}_{take}.wav": GOOD
          for digit in range(2) for speaker in ("ann", "bob") for take in range(8)}
PUBLISHED = speech.spoken_digits_in(os.environ.get("MINIGRAD_DATA") or "nowhere")


@pytest.mark.parametrize("place", ["free-spoken-digit-dataset.zip", "speech/free-spoken-digit-dataset.zip", "clone",
                                   "free-spoken-digit-dataset-master.zip", "free-spoken-digit-dataset"])
def test_spoken_digits_are_found_and_divided(place, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    (tmp_path / "speech").mkdir()
    outer = "free-spoken-digit-dataset-master/" if "master" in place else ""
    path = written(tmp_path / ("" if place == "clone" else place),
                   {outer + name: content for name, content in DIGITS.items()} | {"README.md": b"text"})
    for found in (data.load_spoken_digits(), data.load_spoken_digits(tmp_path), data.load_spoken_digits(path)):
        assert len(found) == 32 and found.rate == 8000 and set(found.labels) == {"digit", "speaker", "take"}
        train, test = data.customary_split(found)
        assert len(train) == 12 and {found.labels["take"][i] for i in test} == set("01234") and not set(train) & set(test)
        train, test = found.by("speaker", ["bob"])
        assert len(train) == 16 and {found.labels["speaker"][i] for i in test} == {"bob"}
    for kind, held, word in (("speaker", ["eve"], "no recording has the speaker eve"), ("pitch", [1], "not of 'pitch'"),
                             ("digit", [0, 1], "nothing is left")):
        with pytest.raises(ValueError, match=word):
            found.by(kind, held)


def test_spoken_digits_that_are_missing_or_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="free-spoken-digit-dataset.zip is not in .*github.com"):
        data.load_spoken_digits()
    for name, content in (("recordings/1_ann_9.wav", b"x"), ("recordings/one.wav", GOOD)):
        path = written(tmp_path / "free-spoken-digit-dataset.zip", DIGITS | {name: content})
        with pytest.raises(ValueError, match=f"damaged.*{name}"):
            data.load_spoken_digits()
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="undamaged zip"):
        data.load_spoken_digits()


@pytest.mark.skipif(not PUBLISHED, reason="MINIGRAD_DATA has no spoken digits")
def test_the_published_digits():
    found = data.load_spoken_digits()
    assert len(found) == 3000 and found.rate == 8000 and len(set(found.labels["speaker"])) == 6
    assert all(found.labels["digit"].count(str(digit)) == 300 for digit in range(10))
    assert [len(part) for part in data.customary_split(found)] == [2700, 300] and abs(found.waveforms[0]).max() > 0.01
