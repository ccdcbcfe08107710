"""Contrastive predictive coding: features of speech from recordings without labels, and what they know of digits and speakers.

    python -m examples.cpc_audio                                 # the Free Spoken Digit Dataset, from MINIGRAD_DATA
    python -m examples.cpc_audio --negatives utterance           # negatives of the same recording
    python -m examples.cpc_audio --data DIR                      # .wav files of your own, classes as folders or in their names
    python -m examples.cpc_audio --data DIR --kernels 10 8 4 4 4 --strides 5 4 2 2 2 --window 8000    # at 16 kHz

The network is trained on the recordings without their labels. Then linear and MLP classifiers read the time-mean of its c from
the recordings to train on, beside that of the same network as it began, log-mel bands, and the same network trained with the
labels from end to end. features.npz has what CPC makes of each file.
"""
import dataclasses
import io
import json
import pathlib
import warnings

import numpy as np

import minigrad as mg
from methods.self_supervised import cpc_audio, cpc_audio_evaluation
from methods.self_supervised.evaluation import draw_map
from methods.training import plots, recordings
from methods.training.checkpoint import fingerprint
from methods.training.comparison import show_table, text_table
from methods.training.evaluation import accuracy
from methods.training.loop import train
from methods.training.run import RunFolder, write_whole
from methods.training.settings import RunSettings, check, command, setting
from methods.transfer import linear
from minigrad import optim

STRENGTHS = tuple(10.0 ** np.arange(-9, 3))  # of regularisation: there are many recordings for few numbers
HEARD = 2**16  # samples of a recording in a step with labels, at most
MONITORED = 600, 300  # recordings to train and to test on, for the probes during training


@dataclasses.dataclass
class Run(RunSettings, cpc_audio.Config):
    """Settings of the run."""

    data: str = setting("spoken-digits", free=True)  # "spoken-digits", a folder with that, or a folder or zip of .wav files
    rate: int = setting(0, least=0)  # samples a second, of recordings of your own; 0: of most of them
    steps: int = setting(800, least=1, free=True)  # of CPC
    supervised_steps: int = setting(700, least=0, free=True)  # with each kind of labels; 0: no row of that
    evaluate_every: int = setting(100, least=0, free=True)  # steps between linear probes in metrics.jsonl; 0: none
    out: str = "runs/cpc_audio"  # the run's folder


def main(run):
    """Trains CPC and prints the table; returns a dict from (row, kind of label, classifier) to accuracies on the test part."""
    check(run)
    folder, hop = RunFolder(run.out, run, run.resume), int(np.prod(run.strides))
    if run.window // hop <= run.ahead:
        raise SystemExit(f"--window {run.window} --ahead {run.ahead}: a window has {run.window // hop} latents, a hop of {hop} "
                         f"samples each; choose {hop * (run.ahead + 1)} samples or more")
    sounds = recordings.load(run.data, run.rate, shortest=2 * hop)
    print(sounds.description)
    print(f"a latent every {1000 * hop / sounds.rate:.3g} ms, a window of {1000 * run.window / sounds.rate:.3g} ms (meant are 10 "
          "and 250, as at 8 kHz: --rate, or --strides, --kernels and --window, change that)", flush=True)
    net = network(run)
    features = {"random": cpc_audio_evaluation.features(net, sounds.waveforms),
                "log-mel bands": np.stack([recordings.log_mel(x, sounds.rate) for x in sounds.waveforms])}
    heard = sounds.waveforms_of(sounds.train)
    train(cpc_audio.ContrastivePredictiveCoding(run, net), cpc_audio.Batches(heard, run.window, hop, run.batch, run.seed),
          {"adam": optim.Adam(net.parameters(), run.lr)}, run.steps, folder, data=fingerprint(heard),
          evaluate=lambda step: monitored(net, sounds), evaluate_every=run.evaluate_every)
    features["CPC"] = cpc_audio_evaluation.features(net, sounds.waveforms)
    content = io.BytesIO()
    np.savez(content, files=np.array(sounds.names), features=features["CPC"])
    write_whole(folder.path / "features.npz", content.getvalue())

    show_picked(run, net, sounds, hop, folder)
    if not sounds.labels:
        print(f"without labels there is nothing more to compare; what the run wrote is in {run.out}")
        return {}
    mapped = sounds.test if len(sounds.test) > 10 else np.arange(len(sounds.waveforms))
    for kind, (names, y) in sounds.labels.items():
        for name in ("random", "CPC"):
            draw_map(features[name][mapped], y[mapped], names, folder.path / f"map_{kind.replace(' ', '_')}_{name}.png")
    found = {}
    for row, x in features.items():
        for kind in sounds.labels:
            for name, right in probes(x, sounds, kind, run.seed).items():
                found[row, kind, name] = right
    if run.supervised_steps:
        for kind in sounds.labels:
            found["supervised", kind, "linear"] = supervised(run, sounds, kind)
    columns = [(kind, name) for kind in sounds.labels for name in ("linear", "MLP")]
    rows = dict.fromkeys(row for row, _, _ in found)
    show_table([("accuracy on the test recordings, %", *(f"{kind}, {name}" for kind, name in columns)), *(
        (row, *(f"{100 * found[(row, *c)]:.1f}" if (row, *c) in found else "" for c in columns)) for row in rows)], folder.path)
    write_whole(folder.path / "accuracies.json", json.dumps([[*key, value] for key, value in found.items()]))
    print(f"what the run wrote, with curves and maps, is in {run.out}")
    return found


def show_picked(run, net, sounds, hop, folder):
    """Prints and draws how well the right latent is picked out in recordings that were not trained on; draws the curves."""
    held = cpc_audio.Batches(sounds.waveforms_of(sounds.test), run.window, hop, run.batch, 0)
    picked = cpc_audio_evaluation.picked(net, held, 10, run.negatives)
    print(text_table([("hops ahead", *map(str, range(1, run.ahead + 1))),
                      ("right latent picked, %", *(f"{100 * p:.1f}" for p in picked.accuracy)),
                      ("chance, %", *(f"{100 * p:.1f}" for p in picked.chance)),
                      ("information, nats", *(f"{i:.2f}" for i in picked.information))]))
    draw_steps(picked, folder.path / "steps.png")
    kinds = {kind: f"linear probe, {kind}" for kind in sounds.labels} if run.evaluate_every else {}
    plots.curves(folder.history(), folder.path / "curves.png", "step",
                 {"loss": "InfoNCE (nats)", "accuracy": "right latent picked", **kinds})


def network(run):
    """The network as it begins. SystemExit: kernels and strides do not fit."""
    mg.random.seed(run.seed)
    try:
        return cpc_audio.CPC(run.channels, run.context, run.kernels, run.strides, run.ahead).to(run.device)
    except ValueError as error:
        raise SystemExit(f"--kernels --strides: {error}") from None


def monitored(net, sounds):
    """Accuracies of a linear probe of some recordings, by the kind of label; no gradient reaches the network."""
    found = {}
    for kind in sounds.labels:
        parts = [places[np.linspace(0, len(places) - 1, min(most, len(places))).astype(int)]
                 for places, most in zip(sounds.labelled(kind), MONITORED)]
        y, classes = sounds.labels[kind][1], len(sounds.labels[kind][0])
        x, x_test = (cpc_audio_evaluation.features(net, sounds.waveforms_of(part)) for part in parts)
        found[kind] = accuracy(linear.ridge(x, y[parts[0]], classes, STRENGTHS).scores(x_test), y[parts[1]])
    return found


def probes(x, sounds, kind, seed):
    """The accuracies of a linear classifier and of an MLP on features x, (N, width) of all recordings.

    Ridge or logistic regression, whichever gets more left-out labels right.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    (names, y), (at, test) = sounds.labels[kind], sounds.labelled(kind)
    several = np.bincount(y[at]).min() >= 10  # a tenth is left out to stop early
    layers = MLPClassifier((256,), early_stopping=several, n_iter_no_change=20, random_state=seed)
    bent = make_pipeline(StandardScaler(), layers)
    with linear.few_of_each(), np.errstate(divide="ignore"):  # a left-out label may have the probability 0
        warnings.simplefilter("ignore", ConvergenceWarning)
        straight = max((fit(x[at], y[at], len(names), STRENGTHS) for fit in (linear.ridge, linear.logistic)),
                       key=lambda probe: np.nan_to_num(probe.left_out))
        bent.fit(x[at], y[at])
    return {"linear": accuracy(straight.scores(x[test]), y[test]), "MLP": float((bent.predict(x[test]) == y[test]).mean())}


def supervised(run, sounds, kind):
    """The accuracy of the same network trained with labels from end to end."""
    (names, y), (at, test) = sounds.labels[kind], sounds.labelled(kind)
    folder = pathlib.Path(run.out) / f"supervised_{kind.replace(' ', '_')}"
    net = cpc_audio_evaluation.Recognizer(network(run), len(names)).to(run.device)
    waveforms = sounds.waveforms_of(at)
    window = min(int(np.quantile([len(x) for x in waveforms], 0.95)), HEARD)  # nearly all are heard whole, or so much of each
    batches = cpc_audio.Batches(waveforms, window, net.trunk.hop, -(-run.batch // 2), run.seed)
    train(cpc_audio_evaluation.Supervised(run, net, y[at]), batches,
          {"adam": optim.Adam(net.parameters(), run.lr)}, run.supervised_steps,
          RunFolder(folder, run, (folder / "checkpoint.safetensors").exists()), data=fingerprint(waveforms, y[at]))
    x = cpc_audio_evaluation.features(net.trunk, sounds.waveforms_of(test))
    return accuracy(x @ net.head.weight.numpy().T + net.head.bias.numpy(), y[test])


def draw_steps(picked, path):
    """How often the right latent is picked out, by the number of hops ahead, beside chance."""
    with plots.figure(path) as axes:
        axis, ahead = axes[0, 0], np.arange(1, len(picked.accuracy) + 1)
        axis.plot(ahead, 100 * picked.accuracy, marker="o", label="CPC")
        axis.plot(ahead, 100 * picked.chance, color="grey", linestyle=":", label="chance")
        axis.set(xlabel="hops ahead", ylabel="right latent picked (%)", ylim=(0, 100))
        axis.grid(alpha=0.3)
        axis.legend()


if __name__ == "__main__":
    command(main, Run, __doc__)
