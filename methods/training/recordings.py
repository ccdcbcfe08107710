"""Recordings to learn from: where they come from, which are to train and which to test on, and what their labels are."""
import pathlib
from dataclasses import dataclass

import numpy as np

from minigrad import data
from minigrad.data.folder import some


@dataclass
class Sounds:
    """Recordings, all brought to one loudness, with numbers for labels.

    Args:
        waveforms: (samples,) float32 each; rate: samples a second; names: of the files.
        train, test: their places.
        labels: by what they say ("speaker"), the classes' names and the class of each recording, -1 for none.
    """

    waveforms: list[np.ndarray]
    rate: int
    names: list[str]
    train: np.ndarray
    test: np.ndarray
    labels: dict[str, tuple[list[str], np.ndarray]]
    description: str

    def labelled(self, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """The places of recordings with a label of that kind to train on, and to test on."""
        y = self.labels[kind][1]
        return self.train[y[self.train] >= 0], self.test[y[self.test] >= 0]

    def waveforms_of(self, places: np.ndarray) -> list[np.ndarray]:
        """The waveforms at these places."""
        return [self.waveforms[i] for i in places]


def load(source: str, rate: int = 0, shortest: int = 1) -> Sounds:
    """The recordings of a source.

    Those of one's own are tested on where `test/` says, else on a fifth, drawn at random but always the same; copies of these
    are not trained on. Labels of a kind are left out where fewer than two classes can be trained on, or a class to test on is
    not among them.

    Args:
        source: "spoken-digits", the Free Spoken Digit Dataset from where MINIGRAD_DATA says; a folder with that; or a folder of
            .wav files, or a zip of one, see `minigrad.data.speech`.
        rate: samples a second, of recordings of one's own; 0: those of most of the files.
        shortest: recordings of fewer samples are left out.

    Raises:
        SystemExit: nothing usable is at `source`; one line that says why.
    """
    try:
        return _load(source, rate, shortest)
    except (OSError, ValueError) as error:
        raise SystemExit(f"--data {source}{f' --rate {rate}' if rate else ''}: {error}") from None


def _load(source, rate, shortest):
    if source == "spoken-digits" or data.spoken_digits_in(source):
        found = data.load_spoken_digits(None if source == "spoken-digits" else source)
        train, test = data.customary_split(found)
        found.labels = labels = {kind: found.labels[kind] for kind in ("digit", "speaker")}
        notes = ["takes 0 to 4 are to test on"]
    else:
        if not pathlib.Path(source).exists():
            raise FileNotFoundError('there is no such folder or zip; "spoken-digits" is the data set')
        found, notes = data.read_recordings(source, rate or None), []
        labels, tested_on = found.labels, found.layout.test.values() if found.layout else []
        held = {name for members in tested_on for name in members}
        if not held:
            held = set(np.random.default_rng(0).permutation(found.names)[:max(1, len(found) // 5)].tolist())
            notes.append("a fifth is to test on")
        tested = np.array([name in held for name in found.names])
        heard = {found.waveforms[i].tobytes() for i in np.flatnonzero(tested)}
        copy = np.array([x.tobytes() in heard for x in found.waveforms]) & ~tested
        if copy.any():
            notes.append(f"not used: copies of recordings to test on ({some(found.names[i] for i in np.flatnonzero(copy))})")
        train, test = np.flatnonzero(~tested & ~copy), np.flatnonzero(tested)
    short = np.array([len(x) < shortest for x in found.waveforms])
    if short.any():
        notes.append(f"left out, as shorter than {shortest} samples: {some([found.names[i] for i in np.flatnonzero(short)])}")
    train, test = train[~short[train]], test[~short[test]]
    if len(train) < 2 or not len(test):
        raise ValueError(f"two recordings or more to train on and one to test on are needed, there are {len(train)} and "
                         f"{len(test)}{''.join('; ' + note for note in notes)}")
    numbered = {}
    for kind, given in labels.items():
        classes = sorted({given[i] for i in train} - {""})
        new = sorted({given[i] for i in test} - {"", *classes})
        if len(classes) < 2 or new or not any(given[i] for i in test):
            why = f"to train on there is no {some(new)}" if new else "two classes or more are needed, to train and to test on"
            notes.append(f"{kind} is not evaluated: {why}")
            continue
        numbered[kind] = classes, np.array([classes.index(label) if label else -1 for label in given])
    waveforms = [at_one_loudness(x) for x in found.waveforms]
    return Sounds(waveforms, found.rate, found.names, train, test, numbered, "\n".join(
        [f"{source}: {len(train)} recordings to train on, {len(test)} to test on", found.description(), *notes]))


def at_one_loudness(x: np.ndarray) -> np.ndarray:
    """A waveform divided by its root mean square; what is fainter than 1e-4 is not made louder than that."""
    return x / max(np.sqrt(np.mean(x**2, dtype=np.float32)), np.float32(1e-4))


def log_mel(x: np.ndarray, rate: int, bands: int = 40) -> np.ndarray:
    """Mean and deviation over time of the logarithms of a waveform's power in mel bands, (2 bands,).

    Frames of 25 ms, one each 10 ms, in a Hann window; triangles equally wide on the mel scale, 2595 log10(1 + f / 700).
    """
    width, hop = rate // 40, rate // 100
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(x, (0, max(width - len(x), 0))), width)[::hop]
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), bands + 2) / 2595) - 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    f = np.fft.rfftfreq(width, 1 / rate)
    filters = np.maximum(np.minimum((f - low) / (middle - low), (high - f) / (high - middle)), 0)
    logs = np.concatenate([np.log(np.abs(np.fft.rfft(frames[k:k + 1000] * np.hanning(width))) ** 2 @ filters.T + 1e-3)
                           for k in range(0, len(frames), 1000)])  # spectra of an hour fill the memory
    return np.concatenate([logs.mean(0), logs.std(0)])
