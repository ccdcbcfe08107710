"""A vision Transformer at another resolution or task: what becomes of its positions, and what pretraining is worth.

    python -m examples.vit_resolution                     # digits: MNIST's, in 28 x 28 pixels and then in 35 x 35
    python -m examples.vit_resolution --source fashion    # pretrained on clothes, fine-tuned on digits

The Transformer has a learned position for each patch. Larger pictures have more patches, so positions are resized like a
picture (Dosovitskiy et al. 2021, section 3.2), or drawn anew, which forgets where patches lie.
"""
import dataclasses

import numpy as np

import minigrad as mg
from methods.self_supervised.evaluation import Tuning, fit
from methods.training import comparison, encoders, plots
from methods.training.evaluation import accuracy
from methods.training.data_sets import data_set, scaled
from methods.training.run import marked
from methods.training.settings import check, command, setting
from minigrad import data, nn
from minigrad.data.folder import counted

ROWS = "resized positions", "positions drawn anew", "from scratch"
TESTED = 2000  # images at most


@dataclasses.dataclass
class Run:
    """Settings of the comparison. A run that was stopped goes on where it was."""

    source: str = "mnist"  # pretrained on: "mnist", "fashion", "digits", or a folder with files of these
    data: str = "mnist"  # fine-tuned on, likewise
    size: int = setting(35, least=7)  # pixels of the pictures to fine-tune on
    labels: int = setting(100, least=1)  # in all, to fine-tune with
    steps: int = setting(100, least=1)  # of fine-tuning
    pretraining: int = setting(1500, least=1)  # steps
    patches: int = setting(4, least=1)  # across a picture, in pretraining
    width: int = setting(64, least=4)  # numbers a patch
    blocks: int = setting(3, least=1)
    seeds: int = setting(3, least=1)  # of the weights and labels; the spread is reported
    out: str = "runs/vit_resolution"  # a folder for the runs, the table and the chart


def load(source):
    """Images (N, 1, H, W) float32 and labels, to train and to test on."""
    try:
        known = data_set(source)
    except (OSError, ImportError, ValueError) as error:
        raise SystemExit(f"{source}: {error}") from None
    if known is None:
        raise SystemExit(f'{source}: choose "mnist", "fashion", "digits", or a folder with files of these')
    x, y, test, test_y = known[:4]
    x, test = (scaled(a[:, None] if a.ndim == 3 else a) for a in (x, test))
    return x, y.astype(np.int64), test, test_y.astype(np.int64), len(known[5])


def larger(images, size):
    """Images resized to size x size."""
    return np.concatenate([mg.interpolate(images[i:i + 500], size=(size, size), mode="bilinear").numpy()
                           for i in range(0, len(images), 500)])


def main(run):
    """Returns a dict from each row to its accuracies before and after fine-tuning, in per cent, a pair for each seed."""
    check(run)
    x, y, _, _, classes = load(run.source)
    few_x, few_y, test, test_y, few_classes = load(run.data)
    side = x.shape[-1]
    if side % run.patches or run.size % (side // run.patches) or x.shape[1] != few_x.shape[1]:
        raise SystemExit(f"--patches {run.patches} --size {run.size}: patches of {side} / {run.patches} pixels do not fit")
    try:
        draws = [data.balanced_subset(few_y, run.labels, seed) for seed in range(run.seeds)]
    except ValueError as error:
        raise SystemExit(f"--labels {run.labels}: {error}") from None
    tested = np.random.default_rng(0).permutation(len(test))[:TESTED]  # they may be sorted by class
    test, test_y = larger(test[tested], run.size), test_y[tested]
    found, out = {name: [] for name in ROWS}, marked(run.out)
    for seed, some in enumerate(draws):
        mg.random.seed(seed)
        shape = dict(patch_size=side // run.patches, in_chans=x.shape[1], embed_dim=run.width, depth=run.blocks,
                     num_heads=max(1, run.width // 16))
        small = nn.VisionTransformer(side, num_classes=classes, **shape)
        fit(small, x, y, Tuning(run.pretraining, batch=64, seed=seed), out / f"pretraining-{seed}")
        train, train_y = larger(few_x[some], run.size), few_y[some]
        for name in ROWS:
            net = nn.VisionTransformer(run.size, num_classes=few_classes, **shape)
            if name != "from scratch":
                state = small.state_dict()
                if name == "resized positions":
                    state["pos_embed"] = nn.resize_positions(state["pos_embed"], net.grid, "linear")
                else:
                    state["pos_embed"] = net.state_dict()["pos_embed"]
                if run.source != run.data:  # a head that begins at 0
                    state |= {part: np.zeros_like(a) for part, a in net.state_dict().items() if part.startswith("head.")}
                net.load_state_dict(state)
            before = accuracy(encoders.encode(net, test), test_y)
            fit(net, train, train_y, Tuning(run.steps, 5e-4, seed=seed), out / f"{name.replace(' ', '_')}-{seed}")
            found[name].append((100 * before, 100 * accuracy(encoders.encode(net, test), test_y)))
            print(f"{name}, seed {seed}: {found[name][-1][0]:.1f} %, fine-tuned {found[name][-1][1]:.1f} %", flush=True)
    comparison.show_table([(f"{run.size} x {run.size} pixels", "at once", f"fine-tuned, {run.labels} labels"), *(
        (name, *(comparison.spread([pair[i] for pair in pairs], 1) for i in range(2))) for name, pairs in found.items())], out)
    plots.bars({name: [after for _, after in pairs] for name, pairs in found.items()}, out / "accuracies.png",
               f"accuracy with {run.labels} labels (%)", 100 / few_classes)
    print(f"mean and spread of {counted(run.seeds, 'seed')}; runs, table and chart are in {run.out}")
    return found


if __name__ == "__main__":
    command(main, Run, __doc__)
