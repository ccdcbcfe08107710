"""Contrastive predictive coding of audio: its equations in plain NumPy, who sees what, runs that resume, the example."""
import json
import tracemalloc
import warnings
import wave

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import minigrad as mg
from methods.self_supervised import cpc_audio, cpc_audio_evaluation
from methods.training import recordings
from methods.training.loop import train
from methods.training.run import RunFolder
from minigrad import optim

pytest.importorskip("tqdm")
NEGATIVES = "utterance", "batch", "mixed"


def small(ahead=3, channels=6, context=5, kernels=(10, 8, 4, 4), strides=(5, 4, 2, 2), seed=0):
    mg.random.seed(seed)
    return cpc_audio.CPC(channels, context, kernels, strides, ahead)


# -- the equations -------------------------------------------------------------------------------------------------------

def plain_info_nce(z, c, W, lengths, negatives):
    """L, and for each k the accuracy and the mean of 1 / N, with loops over all that the equation names."""
    N, T, _ = z.shape
    losses, right, chance = [], [], []
    for k in range(1, len(W) + 1):
        terms = []
        for n in range(N):
            for t in range(T):
                if t + k >= lengths[n]:
                    continue
                Z = {(n, t + k)}
                if negatives != "batch":
                    Z |= {(n, j) for j in range(lengths[n])}
                if negatives != "utterance":
                    Z |= {(m, t + k) for m in range(N) if t + k < lengths[m]}
                f = {at: np.exp(z[at] @ W[k - 1] @ c[n, t]) for at in Z}
                terms.append((-np.log(f[n, t + k] / sum(f.values())), max(f, key=f.get) == (n, t + k), 1 / len(Z)))
        if terms:
            loss, hit, one = np.mean(terms, 0)
            losses.append(loss), right.append(hit), chance.append(one)
    return np.mean(losses), right, chance


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.sampled_from(NEGATIVES), st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(1, 7), st.integers(0, 99))
def test_the_loss_is_its_equation(negatives, lengths, K, seed):
    rng, lengths = np.random.default_rng(seed), np.array(lengths)
    z, c, W = rng.normal(size=(len(lengths), 6, 4)), rng.normal(size=(len(lengths), 6, 3)), rng.normal(size=(K, 4, 3))
    if lengths.max() < 2:
        with pytest.raises(ValueError, match="two latents"):
            cpc_audio.info_nce(mg.Tensor(z), mg.Tensor(c), mg.Tensor(W), lengths, negatives)
        return
    loss, right, chance = plain_info_nce(z, c, W, lengths, negatives)
    found, picked = cpc_audio.info_nce(mg.Tensor(z), mg.Tensor(c), mg.Tensor(W), lengths, negatives)
    np.testing.assert_allclose(float(found), loss, rtol=1e-10, atol=1e-12)
    there = len(right)
    np.testing.assert_allclose(picked.accuracy[:there], right)
    np.testing.assert_allclose(picked.chance[:there], chance)
    assert np.isnan(picked.accuracy[there:]).all() and float(found) > -1e-12  # without the positive it could be below 0


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_the_gradient_of_the_loss(negatives):
    rng, lengths = np.random.default_rng(0), np.array([4, 2, 5])
    arrays = [rng.normal(size=shape) for shape in ((3, 5, 2), (3, 5, 3), (2, 2, 3))]
    mg.check_derivatives(lambda z, c, W: cpc_audio.info_nce(z, c, W, lengths, negatives)[0], *arrays)


def test_the_positive_is_in_the_denominator():
    """One candidate, so N = 1: the share of the positive is 1 whatever the scores are."""
    z, c, W = (mg.Tensor(np.random.default_rng(0).normal(size=shape)) for shape in ((1, 5, 4), (1, 5, 3), (2, 4, 3)))
    loss, picked = cpc_audio.info_nce(z, c, W, np.array([5]), "batch")
    assert abs(float(loss)) < 1e-12 and (picked.chance == 1).all()


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_at_initialisation_the_loss_is_log_N(negatives):
    net, x = small(12, 64, 64), np.random.default_rng(0).normal(size=(8, 2400)).astype(np.float32)
    loss, picked = cpc_audio.info_nce(*net(mg.Tensor(x)), net.W, np.full(8, 30), negatives)
    N = {"utterance": 30, "batch": 8, "mixed": 37}[negatives]
    assert abs(float(loss) - np.log(N)) < 0.02 and np.allclose(picked.chance, 1 / N) and (abs(picked.information) < 0.02).all()


def test_g_enc_and_g_ar_are_their_equations():
    net, x = small(), np.random.default_rng(1).normal(size=(2, 400)).astype(np.float32)
    h = np.pad(x.astype(np.float64), [(0, 0), (net.before, 0)])[:, None]
    for layer, k, s in zip(net.g_enc, (10, 8, 4, 4), (5, 4, 2, 2)):
        w, b = layer.weight.numpy(), layer.bias.numpy()
        h = np.stack([np.maximum(np.einsum("ncj,ocj->no", h[:, :, at:at + k], w) + b, 0)
                      for at in range(0, h.shape[2] - k + 1, s)], 2)
    z, c = (a.numpy() for a in net(mg.Tensor(x)))
    np.testing.assert_allclose(z, h.transpose(0, 2, 1), atol=1e-5)
    state = {name.removesuffix("_l0"): value.astype(np.float64) for name, value in net.g_ar.state_dict().items()}
    sigmoid, previous = (lambda a: 1 / (1 + np.exp(-a))), np.zeros((2, 5))
    for t in range(5):
        i = np.split(h[:, :, t] @ state["weight_ih"].T + state["bias_ih"], 3, 1)
        j = np.split(previous @ state["weight_hh"].T + state["bias_hh"], 3, 1)
        reset, update = sigmoid(i[0] + j[0]), sigmoid(i[1] + j[1])
        previous = (1 - update) * np.tanh(i[2] + reset * j[2]) + update * previous
        np.testing.assert_allclose(c[:, t], previous, atol=1e-5)


# -- who sees what -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kernels, strides", [((10, 8, 4, 4), (5, 4, 2, 2)), ((10, 8, 4, 4, 4), (5, 4, 2, 2, 2)), ((3,), (3,)),
                                              ((1, 7), (1, 2))])
def test_c_sees_no_later_sample(kernels, strides):
    """z_t and c_t depend on the last sample of hop t, and on none behind it."""
    net, hop = small(kernels=kernels, strides=strides), int(np.prod(strides))
    x = np.random.default_rng(0).normal(size=(2, 6 * hop + hop // 2)).astype(np.float32)
    for which in (0, 1):
        assert net(mg.Tensor(x))[which].shape[:2] == (2, 6)
        for t in range(6):
            g = mg.grad(lambda a: net(a)[which][:, t].sum())(mg.Tensor(x)).numpy()
            assert (g[:, (t + 1) * hop:] == 0).all() and (g[:, (t + 1) * hop - 1] != 0).any()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=7), st.integers(1, 4), st.sampled_from([1, 80, 240, 1000]))
def test_features_do_not_depend_on_the_batch(lengths, batch, part):
    """Neither on the parts heard at once, on what is behind a recording, nor on the order; one without a whole hop has zeros."""
    net, rng = small(), np.random.default_rng(0)
    waveforms = [rng.normal(size=n).astype(np.float32) for n in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpc_audio_evaluation, "PART", part)
        found = cpc_audio_evaluation.features(net, waveforms, batch)
    for x, row in zip(waveforms, found):
        c = net(mg.Tensor(x[None, :len(x) // 80 * 80]))[1].numpy()[0] if len(x) >= 80 else np.zeros((1, 5))
        np.testing.assert_allclose(row, c.mean(0), atol=1e-6)


def test_of_few_long_recordings_a_batch_has_several_windows():
    waveforms = [np.full(n, i, np.float32) for i, n in enumerate((5000, 2500, 300))]
    batches = cpc_audio.Batches(waveforms, 500, 10, 8, 0)
    found = [batches.sample() for _ in range(4)]
    rows = np.concatenate([batch.rows for batch in found])
    assert all(len(batch.rows) == 8 and batch.x.shape == (8, 500) for batch in found)
    np.testing.assert_allclose(np.bincount(rows[:16]) / 16, np.array([10, 5, 1]) / 16)
    assert all((batch.x.max(1) == batch.rows).all() for batch in found)
    assert len(cpc_audio.Batches(waveforms[2:], 500, 10, 8, 0).sample().rows) == 1


def test_batches_hear_each_recording_once_a_round_and_all_of_it_in_time():
    waveforms = [np.arange(1, n + 1, dtype=np.float32) for n in (50, 170, 1000, 330)]
    batches, rows = cpc_audio.Batches(waveforms, 320, 80, 2, 0), []
    starts = set()
    for _ in range(100):
        batch = batches.sample()
        rows.extend(batch.rows.tolist())
        for x, length, row in zip(batch.x, batch.lengths, batch.rows):
            whole = waveforms[row]
            n, first = min(len(whole), 320), int(x[0])
            assert length == n // 80 and (x[:n] == np.arange(first, first + n)).all() and (x[n:] == 0).all()
            starts.update([first] if row == 2 else [])
    assert all(sorted(rows[i:i + 4]) == [0, 1, 2, 3] for i in range(0, len(rows), 4))
    assert min(starts) >= 1 and max(starts) <= 681 and len(starts) > 30


@pytest.mark.parametrize("kernels, strides", [((), ()), ((10, 8), (5,)), ((4, 4), (5, 2))])
def test_kernels_and_strides_that_do_not_fit(kernels, strides):
    with pytest.raises(ValueError, match="as many strides as kernels"):
        small(kernels=kernels, strides=strides)


# -- training ------------------------------------------------------------------------------------------------------------

def tones(count, samples=800):
    """Recordings of tones at 8 kHz, each of another pitch, with noise."""
    rng = np.random.default_rng(0)
    return [(np.sin(np.arange(samples) * (0.05 + 0.9 * i / count)) + 0.1 * rng.normal(size=samples)).astype(np.float32)
            for i in range(count)]


def trained(out, steps, resume=False, stop=None, negatives="batch", lr=4e-3):
    """The network after so many of `steps` steps on tones."""
    config = cpc_audio.Config(negatives=negatives)
    net = small(3, 16, 16)
    batches = cpc_audio.Batches(tones(12), 640, net.hop, 8, 0)
    if stop is not None:
        sample, left = batches.sample, iter(range(stop))
        batches.sample = lambda: sample() if next(left, None) is not None else (_ for _ in ()).throw(KeyboardInterrupt)
    train(cpc_audio.ContrastivePredictiveCoding(config, net), batches, {"adam": optim.Adam(net.parameters(), lr)}, steps,
          RunFolder(out, config, resume), save_every=2)
    return net


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_it_learns_to_tell_tones(negatives, tmp_path):
    net = trained(tmp_path, 100, negatives=negatives)
    picked = cpc_audio_evaluation.picked(net, cpc_audio.Batches(tones(12), 640, net.hop, 12, 1), 2, negatives)
    assert (picked.information > 0.15).all()
    if negatives == "batch":
        assert (picked.accuracy > 3 * picked.chance).all()


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("hops", (2, 3, 6))
def test_what_lies_behind_the_end_of_all_recordings_is_nan_without_a_warning(negatives, hops):
    net = cpc_audio.CPC(4, 4, (4,), (4,), 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = cpc_audio_evaluation.picked(net, cpc_audio.Batches([np.ones(40, np.float32)] * 4, 4 * hops, net.hop, 4, 0), 2, negatives)
    for values in found:
        assert (np.isnan(values) == (np.arange(1, 5) >= hops)).all()


def test_a_run_that_was_killed_resumes_to_the_same_bits(tmp_path):
    whole = trained(tmp_path / "whole", 7)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", 7, stop=5)
    again = trained(tmp_path / "killed", 7, resume=True)
    for (name, a), b in zip(whole.state_dict().items(), again.state_dict().values()):
        assert (a == b).all(), name


# -- recordings, and the example -----------------------------------------------------------------------------------------

def write(path, x, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(np.rint(np.clip(x, -1, 1) * 32767).astype("<i2").tobytes())


@pytest.fixture
def two_voices(tmp_path):
    """A low and a high voice, each with twelve recordings in its folder, and a broken file."""
    for i, x in enumerate(tones(24, 1200)):
        write(tmp_path / "voices" / ("low" if i < 12 else "high") / f"{i}.wav", 0.5 * x)
    (tmp_path / "voices" / "low" / "bad.wav").write_bytes(b"RIFF")
    return tmp_path / "voices"


def test_own_recordings_are_divided_and_described(two_voices):
    sounds = recordings.load(str(two_voices))
    assert len(sounds.train) == 20 and len(sounds.test) == 4 and not set(sounds.train) & set(sounds.test)
    assert sounds.labels["class"][0] == ["high", "low"] and "low/bad.wav (it is no RIFF WAVE file)" in sounds.description
    assert all(abs(np.sqrt(np.mean(x**2)) - 1) < 1e-4 for x in sounds.waveforms)
    short = recordings.load(str(two_voices), shortest=1200)
    assert len(short.train) == 20 and "left out" not in short.description
    with pytest.raises(SystemExit, match="two recordings or more to train on.*left out, as shorter than 1201 samples"):
        recordings.load(str(two_voices), shortest=1201)


@pytest.mark.parametrize("names, word", [([], "no readable .wav"), (["a.wav"], "two recordings"),
                                         (["train/1.wav", "test/1.wav"], "class")])
def test_recordings_that_cannot_serve_are_refused_in_one_line(names, word, tmp_path):
    (tmp_path / "x").mkdir()
    for name in names:
        write(tmp_path / "x" / name, tones(1)[0])
    with pytest.raises(SystemExit, match=word) as error:
        recordings.load(str(tmp_path / "x"))
    assert "\n" not in str(error.value)
    with pytest.raises(SystemExit, match="--data nowhere: there is no such"):
        recordings.load("nowhere")


def test_labels_that_cannot_be_tested_are_left_out_and_said(tmp_path):
    names = "train/a/1", "train/b/1", "train/b/2", "test/a/1", "test/new/1", "unlabelled/1"
    for name, x in zip(names, tones(len(names))):
        write(tmp_path / f"{name}.wav", x)
    sounds = recordings.load(str(tmp_path))
    assert not sounds.labels and "class is not evaluated: to train on there is no new" in sounds.description
    assert len(sounds.train) == 4 and len(sounds.test) == 2  # what has no label is trained on


@pytest.mark.parametrize("part", ("", "test/"))
def test_copies_of_recordings_to_test_on_are_not_trained_on(tmp_path, part):
    for i, x in enumerate(tones(10)):
        write(tmp_path / (part and "train") / f"{'ab'[i % 2]}" / f"{i}.wav", x)
        if i < 6:
            write(tmp_path / part / f"{'ab'[i % 2]}" / f"{i} again.wav", x)
    sounds = recordings.load(str(tmp_path))
    heard = {x.tobytes() for x in sounds.waveforms_of(sounds.test)}
    assert heard and not heard & {x.tobytes() for x in sounds.waveforms_of(sounds.train)}
    assert "not used: copies of recordings to test on (" in sounds.description


def test_silence_stays_silent():
    assert (recordings.at_one_loudness(np.zeros(9, np.float32)) == 0).all()
    assert recordings.at_one_loudness(np.full(9, 1e-6, np.float32)).max() <= 0.011


def test_log_mel_bands_tell_pitches():
    low, high = (recordings.log_mel(np.sin(np.arange(4000) * 2 * np.pi * f / 8000), 8000) for f in (300, 2500))
    assert low.shape == (80,) and low[:40].argmax() < 10 < 28 < high[:40].argmax()
    assert np.isfinite(recordings.log_mel(np.zeros(3), 8000)).all()


@pytest.mark.parametrize("features", [
    lambda x: cpc_audio_evaluation.features(small(channels=24, kernels=(10, 400), strides=(5, 400)), [x]),
    lambda x: recordings.log_mel(x, 8000)], ids=["CPC", "log-mel bands"])
def test_long_recordings_need_little_more_memory_than_they_have(features):
    x = np.random.default_rng(0).normal(size=2**19).astype(np.float32)
    tracemalloc.start()
    try:
        features(x)
        assert tracemalloc.get_traced_memory()[1] < 7 * x.nbytes
    finally:
        tracemalloc.stop()


TINY = dict(steps=4, supervised_steps=3, evaluate_every=2, channels=8, context=8, window=800, batch=4, ahead=2)


def test_the_example_on_recordings_of_ones_own(two_voices, tmp_path, capsys, quick_maps):
    pytest.importorskip("matplotlib"), pytest.importorskip("sklearn"), pytest.importorskip("tyro")
    from examples import cpc_audio as example
    run = example.Run(data=str(two_voices), out=str(tmp_path / "run"), **TINY)
    found = example.main(run)
    assert {key[0] for key in found} == {"random", "log-mel bands", "CPC", "supervised"}
    assert all(0 <= value <= 1 for value in found.values()) and "right latent picked" in capsys.readouterr().out
    with np.load(tmp_path / "run" / "features.npz") as kept:
        assert kept["features"].shape == (24, 8) and sorted(kept["files"])[0] == "high/12.wav"
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"table.txt", "steps.png", "map_class_CPC.png", "map_class_random.png", "curves.png", "checkpoint.safetensors", "supervised_class"} <= names
    probed = [json.loads(line).get("class") for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(probed) == 2 and None not in probed
    run.resume = True
    assert example.main(run) == found  # finished: the same network gives the same numbers


def test_a_step_with_labels_hears_a_part_of_long_recordings(two_voices, tmp_path, monkeypatch, quick_maps):
    pytest.importorskip("matplotlib"), pytest.importorskip("sklearn"), pytest.importorskip("tyro")
    from examples import cpc_audio as example
    heard, padded = set(), cpc_audio.padded
    monkeypatch.setattr(example, "HEARD", 801, raising=False)
    monkeypatch.setattr(cpc_audio, "padded", lambda *args: heard.add(args[3:]) or padded(*args))
    example.main(example.Run(data=str(two_voices), out=str(tmp_path / "run"), **{**TINY, "steps": 1}))
    assert heard == {(), (800,), (801,)}  # of features, of CPC, of the network with labels


@pytest.mark.parametrize("change, words", [(dict(window=159), "--window 159 --ahead 2: a window has 1 latents"),
                                           (dict(kernels=(4, 4)), "--kernels --strides"), (dict(batch=1), "--batch 1"),
                                           (dict(strides=(0, 4, 2, 2)), "--strides 0"), (dict(negatives="x"), "--negatives x"),
                                           (dict(data="nowhere"), "--data nowhere"), (dict(rate=5), "rate")])
def test_bad_settings_are_one_line_before_anything_is_written(change, words, two_voices, tmp_path):
    pytest.importorskip("matplotlib"), pytest.importorskip("tyro")
    from examples import cpc_audio as example
    run = example.Run(**{**dict(data=str(two_voices), out=str(tmp_path / "run")), **TINY, **change})
    with pytest.raises(SystemExit) as error:
        example.main(run)
    assert words in str(error.value) and "\n" not in str(error.value) and not (tmp_path / "run").exists()
