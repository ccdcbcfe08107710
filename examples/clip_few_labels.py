"""What a few labels add to classes that are known by their names: linear probe, Tip-Adapter, fine-tuning with WiSE-FT.

    python -m examples.clip_few_labels runs/clip --data IMAGES --per-class 5     # a folder of your own: sub-folders are classes
    python -m examples.clip_few_labels CLIP --data cifar10 --per-class 16 --finetune
    python -m examples.clip_few_labels runs/clip --data digits --names zero one two three four five six seven eight nine

The first argument is a run of examples.clip, contrastive, or the folder of a published CLIP as the Hugging Face Hub has it.
Names of folders are those of the classes. With --finetune the classifier is in the run's folder, for examples.predict.
"""
import dataclasses
from typing import Literal

import numpy as np

import minigrad as mg
from examples.arguments import RunPath
from examples.transfer import scores
from methods.training import checkpoint, encoders
from methods.training.classifier import Architecture, Classifier
from methods.training.evaluation import accuracy
from methods.training.loop import train
from methods.training.pictures import EncoderInput
from methods.training.run import RunFolder
from methods.training.settings import RunSettings, check, command, note_idle, setting
from methods.transfer import features, finetune, linear, pictures
from methods.vision_language import few_labels, retrieval, trained
from methods.vision_language.zero_shot import prompts, same, same_said


@dataclasses.dataclass
class Run(RunSettings, finetune.Config):
    """Settings of the run."""

    run: RunPath = "runs/clip"  # the folder of a run, or of a published CLIP
    data: str = setting("cifar10", free=True)  # "digits", "cifar10", "mnist", "fashion", a folder with files of these or images
    classes: tuple[str, ...] = ()  # use pictures of these classes alone; all if left out
    names: tuple[str, ...] = ()  # what captions call the classes, in their order; their own names if left out
    templates: tuple[str, ...] = ()  # with {} for the name; the run's, or general ones, if left out
    per_class: int = setting(5, least=0)  # labels of each class; 0: all
    test_images: int = setting(1000, least=0)  # of a data set, to test on; 0: all
    finetune: bool = False  # train all of the image tower, and WiSE-FT
    lr: float = setting(1e-4, above=0)  # of AdamW, of the last layers
    mirror: Literal["auto", "yes", "no"] = "no"  # pictures at random; "auto": coloured ones alone
    steps: int = setting(100, least=1, free=True)  # of fine-tuning
    out: str = "runs/clip_few_labels"  # the folder of the fine-tuned classifier


def main(run):
    """Prints and returns a dict from methods to accuracies on the test pictures."""
    check(run)
    if not run.finetune:
        note_idle(run, "without --finetune", finetune.Config, "steps")
    folder, found = RunFolder(run.out, run, run.resume), trained.load_contrastive(run.run, run.device)
    images = pictures.load(run.data, run.test_images, classes=run.classes)
    print(images.description)
    mg.random.seed(run.seed)
    net, preprocessing = found.net, found.preprocessing
    names = run.names or tuple(name.replace("_", " ") for name in images.classes)
    if len(names) != len(images.classes):
        raise SystemExit(f"--names: {len(names)} names for {len(images.classes)} classes: {', '.join(images.classes)}")
    try:
        ids = prompts(found.prompts.vocabulary, names, run.templates or found.prompts.templates, net.length)
        if pairs := same(ids, names):
            raise SystemExit(f"--names: {same_said(pairs[0], net.length)}; choose shorter or different ones")
        weights = net.class_weights(ids)
        chosen = images.chosen(run.per_class, run.seed)
        x, images = features.encoded(net.image, preprocessing, images, np.union1d(chosen, images.test))
    except ValueError as error:
        raise SystemExit(f"--data {run.data}: {error}") from None
    chosen = np.intersect1d(chosen, images.train)
    y, test_y = images.labels[chosen], images.labels[images.test]
    known, tested = (retrieval.image_embeddings(net, x[part]) for part in (chosen, images.test))
    probe = linear.logistic(x[chosen], y, len(names)).scores(x[images.test])
    cache = few_labels.tip_adapter(weights, known, y, float(np.exp(float(net.s))))
    outputs = {"zero-shot": tested @ weights.T, "linear probe": probe,
               f"Tip-Adapter, alpha {cache.alpha:g}, beta {cache.beta:g}": cache.scores(tested)}
    accuracies = {name: accuracy(logits, test_y) for name, logits in outputs.items()}
    if run.finetune:
        accuracies |= tuned(run, folder, net, preprocessing, images, chosen, weights)
    for name, value in accuracies.items():
        print(f"{name:36}{100 * value:6.1f} %")
    return accuracies


def tuned(run, folder, net, preprocessing, images, chosen, weights):
    """Trains the image tower from the zero-shot classifier. The accuracies of the last weights and of WiSE-FT."""
    named = few_labels.named(net, weights)
    inputs = np.concatenate([preprocessing(images.pictures[i]) for i in chosen])
    y, method = images.labels[chosen], finetune.FineTune(run, named)
    about = Architecture("methods.vision_language.few_labels.Named", image=encoders.architecture(net.image),
                         dim=weights.shape[1], num_classes=len(weights))
    train(method, finetune.Batches(inputs, y, run, run.seed), finetune.make_optimizers(named, run), run.steps, folder,
          classifier=Classifier(about, images.classes, EncoderInput(**dataclasses.asdict(preprocessing)), weights="wise"),
          data=checkpoint.fingerprint(inputs, y))
    test_y, found = images.labels[images.test], {}
    for name in ("fine-tuned", f"fine-tuned, WiSE-FT with alpha {run.alpha:g}"):
        found[name] = accuracy(scores(named, preprocessing, images, images.test), test_y)
        named.load_state_dict(finetune.Between(method).state_dict())
    print(f"the classifier of WiSE-FT is in {run.out}")
    return found


if __name__ == "__main__":
    command(main, Run, __doc__)
