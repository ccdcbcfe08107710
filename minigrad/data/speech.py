"""Recordings: the Free Spoken Digit Dataset, and folders of .wav files of one's own.

| found                                                          | what happens                                            |
|----------------------------------------------------------------|---------------------------------------------------------|
| integers of 8, 16, 24 or 32 bits, floats of 32 or 64           | in [-1, 1]; floats beyond are cut off there             |
| several channels                                               | their mean                                              |
| another rate                                                   | resampled by a windowed sinc                            |
| compressed, damaged, cut off, no samples, numbers not finite   | skipped, with the reason in `files.skipped`             |
| all else about folders and zips                                | as of pictures, see `minigrad.data.folder`              |
"""
import collections
import dataclasses
import math
import os
import pathlib
import re
import struct
from collections.abc import Sequence

import numpy as np

from .files import data_dir
from .folder import FoundFiles, Layout, arrange, find_files, some

RATES = 1000, 192_000  # samples a second, the least and the most
LONGEST = 3600  # seconds
TEST_TAKES = range(5)
_INTEGER, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_UNKNOWN = 0xFFFFFFFF  # the length of what was written into a pipe
_DIGITS = "free-spoken-digit-dataset"
_ADDRESS = "https://github.com/Jakobovski/free-spoken-digit-dataset"


@dataclasses.dataclass
class Recordings:
    """Waveforms and what is known of them.

    Args:
        waveforms: (samples,) float32 in [-1, 1] each; rate: samples a second.
        names: of the files below the folder, one each.
        labels: by what they say ("digit"), the label of each recording; "" where it has none.
        files: the files, and which were skipped.
        layout: which folders serve for what; None if there are none.
    """

    waveforms: list[np.ndarray]
    rate: int
    names: list[str]
    labels: dict[str, list[str]]
    files: FoundFiles
    layout: Layout | None = None

    def __len__(self) -> int:
        return len(self.waveforms)

    def by(self, kind: str, held: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
        """The places of the recordings to train on, and of those to test on, whose label of that kind is among `held`.

        Raises:
            ValueError: there is no such label, or nothing is left to train on.
        """
        if kind not in self.labels:
            raise ValueError(f"recordings have labels of {', '.join(self.labels) or 'no kind'}, not of {kind!r}")
        wanted = {str(label) for label in held}
        if unknown := wanted - set(self.labels[kind]):
            raise ValueError(f"no recording has the {kind} {some(sorted(unknown))}")
        test = np.array([label in wanted for label in self.labels[kind]])
        if test.all():
            raise ValueError(f"each recording's {kind} is among those to test on: nothing is left to train on")
        return np.flatnonzero(~test), np.flatnonzero(test)

    def description(self) -> str:
        """What was found, line by line."""
        seconds = [len(x) / self.rate for x in self.waveforms]
        lines = [f"{len(self)} recordings of {min(seconds):.2f} to {max(seconds):.2f} s, {sum(seconds) / 60:.1f} minutes at "
                 f"{self.rate} Hz"]
        for kind, labels in self.labels.items():
            counts = collections.Counter(filter(None, labels))
            lines.append(f"{kind}, {len(counts)} classes: "
                         f"{some([f'{name} {count}' for name, count in sorted(counts.items())], 20)}")
        return "\n".join([*lines, *(self.layout.notes if self.layout else []), *self.files.left_out()])


def spoken_digits_in(path: str | os.PathLike) -> pathlib.Path | None:
    """The zip or the folder `recordings` of the Free Spoken Digit Dataset, at a path or in its `speech/`; or None."""
    path = pathlib.Path(path)
    zips = f"{_DIGITS}.zip", f"{_DIGITS}-master.zip"
    for place in (path, path / "speech"):
        for file in (place, *(place / name for name in zips)):
            if file.name in zips and file.is_file():
                return file
        for clone in (place, place / _DIGITS):
            if any((clone / "recordings").glob("[0-9]_*_*.wav")):
                return clone / "recordings"
    return None


def load_spoken_digits(data: str | os.PathLike | None = None) -> Recordings:
    """The Free Spoken Digit Dataset: recordings at 8 kHz with labels "digit", "speaker" and "take".

    Read from `free-spoken-digit-dataset.zip` (or `-master.zip`, as the publisher's page gives it) or from a clone of the
    repository, in the folder `data`, else in the one that MINIGRAD_DATA names, or in its `speech/`. Nothing is fetched, as the
    publisher's archive has no fixed contents. `customary_split` and `Recordings.by("speaker", [...])` divide it.

    Raises:
        FileNotFoundError: it is not there; ValueError: it is damaged.
    """
    folder = data_dir(data)
    found = spoken_digits_in(folder)
    if found is None:
        raise FileNotFoundError(f"{_DIGITS}.zip is not in {folder}; get it from {_ADDRESS} (Code, Download ZIP) and put it "
                                "there, or set MINIGRAD_DATA to its folder")
    recordings = read_recordings(found, 8000)
    matches = [re.fullmatch(r"(?:.*/)?(\d)_([^_/]+)_(\d+)\.wav", name) for name in recordings.names]
    if recordings.files.skipped or not all(matches):
        odd = [name for name, match in zip(recordings.names, matches) if not match]
        raise ValueError(f"{found} is damaged or no Free Spoken Digit Dataset, recordings/DIGIT_SPEAKER_TAKE.wav: "
                         f"{some([*(f'{name} ({why})' for name, why in recordings.files.skipped.items()), *odd])}")
    labels = {kind: [match[i] for match in matches] for i, kind in enumerate(("digit", "speaker", "take"), 1)}
    return dataclasses.replace(recordings, labels=labels, layout=None)


def customary_split(recordings: Recordings) -> tuple[np.ndarray, np.ndarray]:
    """The places of the recordings to train on, and of those to test on: takes 0 to 4, as the authors of the digits say."""
    return recordings.by("take", TEST_TAKES)


def read_recordings(path: str | os.PathLike, rate: int | None = None) -> Recordings:
    """All .wav files below a folder or in a zip of one, see the table above.

    Labels "class" are the names of their folders. If all lie in one, parts of their names are labels: of `7_theo_3.wav`
    "part 1" is 7, "part 2" theo, where all names have as many parts, and that part is of two kinds or more with two
    recordings or more each.

    Args:
        rate: samples a second; by default that of most of the files.

    Raises:
        FileNotFoundError: nothing is at `path`; ValueError: no file can be read, or the rate is none.
    """
    if rate is not None and not (isinstance(rate, (int, np.integer)) and RATES[0] <= rate <= RATES[1]):
        raise ValueError(f"rate: a whole number of {RATES[0]} to {RATES[1]} samples a second wanted, got {rate!r}")
    files = find_files(path, {".wav", ".wave"}, "recording")
    found = list(files.read(read_wav))
    if not found:
        raise ValueError("; ".join([f"{path} holds no readable .wav files", *files.left_out()]))
    rate = int(rate or collections.Counter(r for _, (_, r) in found).most_common(1)[0][0])
    names = [name for name, _ in found]
    waveforms = [resample(x, own, rate) for _, (x, own) in found]
    if len({name.rpartition("/")[0] for name in names}) == 1:
        return Recordings(waveforms, rate, names, _parts_of_names(names), files)
    try:
        layout = arrange(names, "recording")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    classes = {name: label for part in (layout.train, layout.test) for label, members in part.items() for name in members}
    return Recordings(waveforms, rate, names, {"class": [classes.get(name, "") for name in names]}, files, layout)


def _parts_of_names(names):
    parts = [os.path.splitext(name.rpartition("/")[2])[0].split("_") for name in names]
    if len({len(p) for p in parts}) > 1 or len(parts[0]) < 2:
        return {}
    columns = {f"part {i}": list(column) for i, column in enumerate(zip(*parts), 1)}
    counts = {kind: collections.Counter(column) for kind, column in columns.items()}
    return {kind: columns[kind] for kind, count in counts.items() if len(count) > 1 and min(count.values()) > 1}


def read_wav(content: bytes) -> tuple[np.ndarray, int]:
    """The mean of the channels, (samples,) float32 in [-1, 1], and the rate of a .wav file (RIFF, not compressed).

    Raises:
        ValueError: it is no such file.
    """
    if len(content) < 12 or content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise ValueError("it is no RIFF WAVE file")
    chunks, at = {}, 12
    while at + 8 <= len(content) and b"data" not in chunks:
        name, size = struct.unpack_from("<4sI", content, at)
        size = len(content) - at - 8 if size == _UNKNOWN and name == b"data" else size
        if at + 8 + size > len(content):
            raise ValueError(f"it is cut off: {size} bytes should follow, there are {len(content) - at - 8}")
        chunks.setdefault(name, content[at + 8:at + 8 + size])
        at += 8 + size + size % 2
    head = chunks.get(b"fmt ", b"")
    if len(head) < 16 or b"data" not in chunks:
        raise ValueError("it has no header of its format" if len(head) < 16 else "it has no samples")
    kind, channels, rate, _, frame, bits = struct.unpack_from("<HHIIHH", head)
    if kind == _EXTENSIBLE and len(head) >= 26:
        kind, = struct.unpack_from("<H", head, 24)
    if kind not in (_INTEGER, _FLOAT) or (kind, bits) not in _READERS:
        raise ValueError(f"it is compressed, or of another kind (format {kind}, {bits} bits); integers of 8 to 32 bits and "
                         "floats are read")
    if not RATES[0] <= rate <= RATES[1] or not channels or frame != channels * bits // 8:
        raise ValueError(f"its header makes no sense: {rate} samples a second, {channels} channels, {frame} bytes for a sample "
                         f"of {bits} bits in each")
    samples = len(chunks[b"data"]) // frame
    if not samples:
        raise ValueError("it has no samples")
    if samples > LONGEST * rate:
        raise ValueError(f"it is longer than {LONGEST // 60} minutes")
    x = _READERS[kind, bits](chunks[b"data"][:samples * frame]).reshape(samples, channels)
    x = x[:, 0] if channels == 1 else x.mean(1, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError("it has samples that are no finite numbers")
    return np.clip(x, -1, 1).astype(np.float32), rate


def _24_bits(content):
    padded = np.zeros((len(content) // 3, 4), np.uint8)
    padded[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
    return padded.view("<i4")[:, 0] / np.float64(2**31)


_READERS = {(_INTEGER, 8): lambda content: (np.frombuffer(content, np.uint8) - np.float32(128)) / np.float32(128),
            (_INTEGER, 16): lambda content: np.frombuffer(content, "<i2") / np.float32(2**15),
            (_INTEGER, 24): _24_bits,
            (_INTEGER, 32): lambda content: np.frombuffer(content, "<i4") / np.float64(2**31),
            (_FLOAT, 32): lambda content: np.frombuffer(content, "<f4"),
            (_FLOAT, 64): lambda content: np.frombuffer(content, "<f8")}


def resample(x: np.ndarray, old: int, new: int) -> np.ndarray:
    """A waveform (samples,) of `old` samples a second as one of `new`, of the same dtype.

    What lies below half of the smaller rate is kept, by a sinc in a Hann window over 32 of its zeros. Beyond the ends is
    silence.
    """
    if old == new:
        return x
    up, down = new // math.gcd(old, new), old // math.gcd(old, new)
    band = min(1.0, up / down)
    half = math.ceil(16 / band)
    count = -(-len(x) * up // down)
    padded = np.pad(x, (half, half + down + 1))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half)
    out = np.empty(count, x.dtype)
    for phase in range(min(up, count)):  # the outputs phase, phase + up, ... lie equally between the inputs
        before, part = divmod(phase * down, up)
        away = np.arange(2 * half) - half - part / up
        kernel = np.sinc(band * away) * np.where(np.abs(away) < half, np.cos(np.pi * away / (2 * half)) ** 2, 0)
        places = out[phase::up]
        places[:] = windows[before::down][:len(places)] @ (kernel / kernel.sum()).astype(x.dtype)
    return out
