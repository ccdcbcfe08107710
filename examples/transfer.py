"""Transfer: a network that was trained on many pictures reads yours, and a few labels are enough.

    python -m examples.transfer --data IMAGES                                # a folder of your own: sub-folders are classes
    python -m examples.transfer --data cifar10 --per-class 10                # ten labels of each class
    python -m examples.transfer --data cifar10 --per-class 100 --finetune    # LP-FT, then WiSE-FT
    python -m examples.transfer --data IMAGES --encoder resnet50.pth         # another encoder: a file, a folder, or a run

Features of the frozen encoder are computed once; then prototypes, ridge regression, logistic regression and linear support vector
machines (of at most 2,000 labels) read them, and the one with most left-out labels right is written to the run's folder. Beside
them stand what pixels and histograms of gradients (HOG) with a support vector machine reach from the same labels.
"""
import dataclasses

import numpy as np

import minigrad as mg
from methods.training import checkpoint, encoders, plots
from methods.training.classifier import load_classifier
from methods.training.evaluation import accuracy, in_batches
from methods.training.loop import train
from methods.training.prediction import most_probable, write_csv, write_test
from methods.training.run import RunFolder
from methods.training.settings import RunSettings, check, command, note_idle, setting
from methods.transfer import baselines, features, finetune, linear, pictures

PER_CLASS = 10  # labels of each class, if nothing is said and there are so many
MOST_FOR_SVM = 2000  # labels with which its strength is found in seconds


@dataclasses.dataclass
class Run(RunSettings, finetune.Config):
    """Settings of the run."""

    data: str = setting("cifar10", free=True)  # "digits", "cifar10", "mnist", "fashion", a folder with files of these or images
    classes: tuple[str, ...] = ()  # use pictures of these classes alone; all if left out
    encoder: str = "lite0"  # "lite0", a file or folder of published weights, or the folder of a run
    image_size: int = setting(0, least=0)  # pixels of the encoder's input; 0: those of its preprocessing
    whole: bool = True  # the encoder sees the whole picture, not its middle 7/8
    per_class: int = setting(-1, least=-1)  # labels of each class; 0: all; -1: 10, or as many as the smallest class has
    test_images: int = setting(1000, least=0)  # of a data set, to test on; 0: all
    quarters: bool = False  # a support vector machine on the maxima over quarters of the encoder's maps, too (Exemplar-CNN)
    baselines: bool = True  # pixels and HOG from the same labels too
    finetune: bool = False  # go on to train the encoder, from the logistic regression as its head
    steps: int = setting(200, least=1, free=True)  # of fine-tuning
    out: str = "runs/transfer"  # the run's folder


def load_encoder(run):
    """The encoder that the run names, and its preprocessing."""
    return encoders.load_encoder(run.encoder, run.image_size, whole=run.whole, device=run.device)


def main(run):
    """Reads features, fits and tests all classifiers. Returns a dict from their names to accuracies on the test pictures."""
    check(run)
    if not run.finetune:
        note_idle(run, "without --finetune", finetune.Config, "steps")
    images = pictures.load(run.data, run.test_images, classes=run.classes)
    if run.per_class < 0:
        most = int(np.bincount(images.labels[images.train], minlength=len(images.classes)).min())
        run = dataclasses.replace(run, per_class=min(PER_CLASS, most))
    folder = RunFolder(run.out, run, run.resume)
    print(images.description)
    encoder, preprocessing = load_encoder(run)
    mg.random.seed(run.seed)
    wide = quartered(run, encoder, preprocessing) if run.quarters else None
    x, images, chosen = read(run, encoder, preprocessing, images)
    y, test_y = images.labels[chosen], images.labels[images.test]

    probes = {name: fit(x[chosen], y, len(images.classes)) for name, fit in linear.PROBES.items()
              if name != "svm" or len(chosen) <= MOST_FOR_SVM}
    found = {name: accuracy(probe.scores(x[images.test]), test_y) for name, probe in probes.items()}
    for name, probe in probes.items():
        print(described(name, found[name], probe))
    if run.quarters:
        found |= quarters(wide, preprocessing, images, chosen)
    if run.baselines:
        found |= baselines_of(images, chosen, y, test_y)
    if run.finetune:
        found |= (both := tuned(run, images, x, chosen))
        for name, value in both.items():
            print(f"{name:24}{100 * value:6.1f} %")
        how, net = f"fine-tuned, WiSE-FT with alpha {run.alpha:g}", load_classifier(folder.checkpoint, run.device).net

        def outputs(part):
            return scores(net, preprocessing, images, part)
    else:
        how = max(probes, key=lambda name: np.nan_to_num(probes[name].left_out))
        finetune.set_head(encoder, probes[how])
        folder.path.mkdir(parents=True, exist_ok=True)
        with folder.locked():
            folder.write_settings()
            checkpoint.save(folder.checkpoint, 0, {"net": encoder},
                            encoders.classifier(encoder, preprocessing, images.classes).facts())

        def outputs(part):
            return probes[how].scores(x[part])

    write_answers(folder.path, images, outputs)
    print(f"the classifier ({how}), its mistakes and confusion table are in {run.out}")
    return found


def quartered(run, encoder, preprocessing):
    """The encoder as one that makes the maxima over quarters of its maps. SystemExit: it makes no maps."""
    try:
        return features.Quarters(encoder, preprocessing.size, len(preprocessing.mean))
    except ValueError as error:
        raise SystemExit(f"--encoder {run.encoder} --quarters: {error}") from None


def read(run, encoder, preprocessing, images):
    """The features of all pictures that serve, the pictures that can be read, and the places of those to learn from.

    SystemExit: there are not so many of each class.
    """
    try:
        chosen = images.chosen(run.per_class, run.seed)
        which = np.unique(np.concatenate([chosen, images.test, images.unlabelled]))
        print(f"reading {len(which)} pictures with {run.encoder}, {preprocessing.size} x {preprocessing.size}", flush=True)
        x, images = features.encoded(encoder, preprocessing, images, which)
        chosen = np.intersect1d(chosen, images.train)
    except ValueError as error:
        raise SystemExit(f"--data {run.data} --per-class {run.per_class}: {error}") from None
    y = images.labels[chosen]
    if lost := [name for k, name in enumerate(images.classes) if k not in y]:
        raise SystemExit(f"--data {run.data}: no labelled picture of {', '.join(lost)} can be read")
    if run.per_class:
        counts = np.bincount(y, minlength=len(images.classes))
        each = f"{run.per_class}" if counts.min() == run.per_class else f"{counts.min()} to {counts.max()}"
        print(f"learning from {len(chosen)} labels, {each} of each class (--per-class 0: from all)")
    return x, images, chosen


def write_answers(folder, images, outputs):
    """Writes which test pictures the classifier gets wrong, and the classes of the unlabelled ones; says so.

    Args:
        outputs: from places to the scores of the pictures there.
    """
    def probabilities(part):
        return mg.softmax(mg.Tensor(outputs(part)), 1).numpy()

    names = images.names
    print(write_test(folder, probabilities(images.test), images.labels[images.test], images.classes,
                     [names[i] for i in images.test]))
    if len(images.unlabelled):
        files = [names[i] for i in images.unlabelled]
        write_csv(folder / "predictions.csv", most_probable(files, probabilities(images.unlabelled), images.classes))
        print(f"the classes of {len(files)} unlabelled pictures are in {folder / 'predictions.csv'}")


def described(name, found, probe):
    """A line on a probe and its accuracy."""
    left_out = "none could be left out" if np.isnan(probe.left_out) else f"of left-out labels {100 * probe.left_out:.1f} %"
    return f"{name:24}{100 * found:6.1f} %   {left_out}, {probe.chosen}"


def quarters(wide, preprocessing, images, chosen):
    """The accuracy of a support vector machine on what `wide`, a `features.Quarters`, makes of the pictures."""
    if len(chosen) > MOST_FOR_SVM:
        print(f"svm, quarters: not measured, as {len(chosen)} labels are more than {MOST_FOR_SVM}")
        return {}
    x, images = features.encoded(wide, preprocessing, images, np.union1d(chosen, images.test))
    probe = linear.svm(x[chosen], images.labels[chosen], len(images.classes))
    found = accuracy(probe.scores(x[images.test]), images.labels[images.test])
    print(f"{described('svm, quarters', found, probe)}; {wide.width} numbers a picture")
    return {"svm, quarters": found}


def baselines_of(images, chosen, y, test_y):
    """Accuracies from the same labels without the encoder."""
    small, small_test = (baselines.pixels(images.pictures, part) for part in (chosen, images.test))
    found = {"pixels, logistic": accuracy(linear.logistic(small, y, len(images.classes)).scores(small_test), test_y)}
    try:
        shapes, shapes_test = (baselines.gradient_histograms(part) for part in (small, small_test))
        found["HOG, SVM"] = float((baselines.support_vectors(shapes, y, shapes_test) == test_y).mean())
    except ImportError:
        print("HOG, SVM: not measured, as scikit-image is not installed")
    for name, value in found.items():
        print(f"{name:24}{100 * value:6.1f} %")
    return found


def scores(net, preprocessing, images, part, batch=50):
    """The network's outputs for the pictures at the places `part`."""
    return np.concatenate([in_batches(net, np.concatenate([preprocessing(images.pictures[i]) for i in part[at:at + batch]]))
                           for at in range(0, len(part), batch)])


def tuned(run, images, x, chosen):
    """Trains the encoder by LP-FT from the features x, in the folder `run.out`. The accuracies of LP-FT and of WiSE-FT."""
    encoder, preprocessing = load_encoder(run)
    y, test_y = images.labels[chosen], images.labels[images.test]
    finetune.set_head(encoder, linear.logistic(x[chosen], y, len(images.classes)))
    inputs = np.concatenate([preprocessing(images.pictures[i]) for i in chosen])
    method, folder = finetune.FineTune(run, encoder), RunFolder(run.out, run, run.resume)
    train(method, finetune.Batches(inputs, y, run, run.seed), finetune.make_optimizers(encoder, run), run.steps, folder,
          classifier=encoders.classifier(encoder, preprocessing, images.classes, "wise"),
          data=checkpoint.fingerprint(inputs, y))
    found = {"LP-FT": accuracy(scores(encoder, preprocessing, images, images.test), test_y)}
    encoder.load_state_dict(finetune.Between(method).state_dict())
    found["LP-FT + WiSE-FT"] = accuracy(scores(encoder, preprocessing, images, images.test), test_y)
    plots.curves(folder.history(), folder.path / "curves.png", "step", {"loss": "training loss", "accuracy": "accuracy"})
    return found


if __name__ == "__main__":
    command(main, Run, __doc__)
