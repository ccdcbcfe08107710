"""CLIP: pictures and their captions, and then classes known by their names.

    python -m examples.clip                                        # digits in colours; a fifth of the pairs is never seen
    python -m examples.clip --data FOLDER                          # your pictures, with a captions.csv: image, caption
    python -m examples.clip --data FOLDER --encoder lite0          # ... read by a network that was trained on others
    python -m examples.clip --data clipart --encoder lite0 --image-size 128 --dropout 0.5
    python -m examples.clip --data cifar10 --unseen cat truck --steps 3000
    python -m examples.clip --task caption                         # another task: write the caption; or bag_of_words

What it has learned is of use at once:

    python -m examples.zero_shot runs/clip PICTURES --classes cat dog horse
    python -m examples.retrieve runs/clip PICTURES --texts "a red fish"
    python -m examples.clip_few_labels runs/clip --data IMAGES --per-class 5
"""
import dataclasses
from typing import Literal

import numpy as np

import minigrad as mg
from methods.training import encoders, networks, optimizers, plots
from methods.training.checkpoint import fingerprint
from methods.training.data_sets import unscaled
from methods.training.loop import train
from methods.training.run import RunFolder
from methods.training.settings import RunSettings, check, command, note_idle, setting
from methods.vision_language import TASKS, clip, pictures, retrieval
from methods.vision_language.base import Batches, Prompts
from methods.vision_language.zero_shot import ZeroShot, accuracy, image_features, same_said
from minigrad import nn
from minigrad.data import BytePairs
from minigrad.data.folder import skipped_line

BRIEF = 300  # pictures to test on while training


@dataclasses.dataclass
class Run(RunSettings, clip.Config):
    """Settings of the run."""

    data: str = "digits"  # "digits", "clipart", "emoji", "cifar10", "mnist", "fashion", or a folder with captions.csv
    task: Literal["contrastive", "caption", "bag_of_words"] = "contrastive"  # what is learned
    tower: Literal["residual", "small", "wide", "resnet18", "vit", "lite0"] = "residual"  # the image tower, from scratch
    width: int = setting(16, least=1)  # its first channels; of "vit" an eighth of the numbers a patch
    depth: int = setting(10, least=1)  # layers of "wide", blocks of "vit"
    encoder: str = ""  # a trained image tower instead: "lite0", a file or folder of published weights, or the folder of a run
    frozen: bool = True  # it stays as it is, so its features are computed once; or --no-frozen: it learns on
    image_size: int = setting(0, least=0)  # pixels of its input; 0: those of its preprocessing
    size: int = setting(32, least=8)  # pixels to which picture files are scaled for a tower from scratch
    crop: float = setting(0.7, above=0, most=1)  # the least area of the random square crops
    batch: int = setting(128, least=2)  # pictures in a step
    lr: float = setting(1e-3, above=0)  # rises first, then falls along a cosine
    decay: float = setting(0.2, least=0)  # of the kernels, times the learning rate
    steps: int = setting(600, least=1, free=True)  # of the training
    held_out: int = setting(500, least=2)  # pictures to test on
    pictures: int = setting(0, least=0)  # train on at most so many of the others; 0: on all
    tokenizer: str = ""  # a folder with a published vocabulary of byte pairs; empty: learned from the captions
    languages: tuple[str, ...] = ("en",)  # of the names of emoji
    keywords: bool = True  # captions of emoji name their class, too, as those of Openclipart do
    classes: int = setting(12, least=2)  # of a folder's the largest, for the zero-shot classifier
    unseen: tuple[str, ...] = ()  # classes of a data set of which no picture is trained on; of digits a fifth if left out
    k: int = setting(10, least=1, free=True)  # recall among so many
    test_every: int = setting(0, least=0, free=True)  # steps between tests; 0: a tenth of all
    out: str = "runs/clip"  # the run's folder


def tower(run, task):
    """The image tower, its preprocessing, and the pictures to train and to test on: x and captions each."""
    if run.encoder:
        encoder, preprocessing = encoders.load_encoder(run.encoder, run.image_size, whole=True, device=run.device)
        if run.frozen:
            print(f"reading {len(task.train) + len(task.test)} pictures with {run.encoder}, {preprocessing.size} x "
                  f"{preprocessing.size}", flush=True)

        def read(part):
            if run.frozen:
                return pictures.frozen_features(encoder, preprocessing, part)
            return inputs(part, preprocessing.size, len(preprocessing.mean))

        return encoders.architecture(encoder), encoder.state_dict(), preprocessing, [read(task.train), read(task.test)]
    given = task.train.pictures
    size, channels = (given.shape[2], given.shape[1]) if isinstance(given, np.ndarray) else (run.size, 3)
    parts = [inputs(part, size, channels) for part in (task.train, task.test)]
    if run.tower == "lite0":
        architecture = encoders.architecture(nn.EfficientNetLite(in_channels=channels))
    else:
        architecture = networks.architecture(run.tower, channels, size, 0, 0.0, run.width, run.depth, "--tower")
    return architecture, None, encoders.plain_input(size, channels), parts


def inputs(part, size, channels):
    """Pictures as bytes (N, channels, size, size), and their captions."""
    plain = nn.Preprocessing(size, "bilinear", (0.0,) * channels, (1.0,) * channels, 1.0)
    return pictures.arrays(part, lambda picture: unscaled(plain(picture)[0]))


def main(run):
    """Trains and tests. Returns a dict of accuracies and recalls by their names."""
    check(run)
    if run.encoder:
        note_idle(run, "with --encoder", "tower", "width", "depth", "size")
        if run.frozen:
            note_idle(run, "with --encoder, unless --no-frozen", "crop")
    else:
        note_idle(run, "without --encoder", "frozen", "image_size")
        networks.note_idle_size(run, run.tower, "--tower")
    if run.tokenizer:
        note_idle(run, "with --tokenizer", "vocabulary")
    if run.data != "emoji":
        note_idle(run, "without --data emoji", "languages", "keywords")
    if run.task != "contrastive":
        note_idle(run, "without --task contrastive", "k", "dim", "temperature")
    if run.task == "bag_of_words":
        note_idle(run, "with --task bag_of_words, which reads no texts", "text_width", "text_layers", "text_heads")
    elif run.text_width % run.text_heads:
        raise SystemExit(f"--text-heads {run.text_heads}: choose a number that divides --text-width {run.text_width}")
    folder = RunFolder(run.out, run, run.resume)
    task = pictures.load(run.data, run.held_out, languages=run.languages, keywords=run.keywords, classes=run.classes,
                         unseen=run.unseen)
    print(task.description, flush=True)
    if 0 < run.pictures < len(task.train):
        task.train = task.train.chosen(np.sort(np.random.default_rng(0).permutation(len(task.train))[:run.pictures]))
        print(f"of those to train on {run.pictures} serve")
    module, (architecture, weights, preprocessing, parts) = TASKS[run.task], tower(run, task)
    (x, captions), (test_x, test) = parts
    if skipped := skipped_line(task.train.skipped | task.test.skipped):
        print(skipped)
    if min(len(x), len(test_x)) < 2:
        raise SystemExit(f"--data {run.data}: two pictures to train on and two to test on, of different captions, are the least; "
                         f"there are {len(x)} and {len(test_x)}")
    net, vocabulary, about = build(run, module, architecture, weights, captions, preprocessing)
    if cut := longer(captions, vocabulary, run.length):
        print(f"of {cut} of the {len(captions)} captions to train on what is behind {run.length} pieces is not read (--length)")
    tests = Tests(run, task, net, vocabulary, preprocessing, test_x, test)
    method = module.Objective(run, net, preprocessing, Prompts(vocabulary, task.classes, task.templates))
    learned = [p for p in net.parameters() if p.requires_grad]
    train(method, Batches(x, captions, vocabulary, run.batch, run.length, run.seed, run.crop),
          optimizers.make(learned, "adam", run.lr, run.decay), run.steps, folder,
          classifier=encoders.description(about, preprocessing), evaluate=tests.brief,
          evaluate_every=run.test_every or max(1, run.steps // 10), data=fingerprint(x, captions.texts, captions.keywords))
    found = tests.all()
    history = folder.history()
    labels = {"loss": "loss", "scale": "factor of the cosines", "zero-shot": "accuracy, zero-shot",
              "recall": f"recall among {run.k}, text of picture"}
    plots.curves(history, folder.path / "curves.png", "step", {k: v for k, v in labels.items() if any(k in m for m in history)})
    print(f"the network, curves and log are in {run.out}")
    return found


def build(run, module, architecture, weights, captions, preprocessing):
    """The network, its vocabulary, and its description; the image tower has these weights, if there are any."""
    try:
        if run.tokenizer:
            vocabulary = BytePairs.load(run.tokenizer)
        else:
            every = (", ".join((*texts, *words)) for texts, words in zip(captions.texts, captions.keywords))
            vocabulary = BytePairs.train(every, run.vocabulary)
    except (OSError, ValueError, ImportError) as error:
        raise SystemExit(f"--tokenizer {run.tokenizer}: {error}" if run.tokenizer else str(error)) from None
    mg.random.seed(run.seed)
    about = module.network(run, architecture, vocabulary)
    net = about.build()
    module.start(net)
    if weights is not None:
        net.image.load_state_dict(weights, strict=False)
        if run.frozen:
            head = {id(parameter) for parameter in net.image.head.parameters()}
            for parameter in net.image.parameters():
                parameter.requires_grad = id(parameter) in head
    return net.to(run.device), vocabulary, about


def longer(captions, vocabulary, length):
    """How many pictures have captions, keywords with them, of more than `length` pieces."""
    ids = vocabulary.encode([captions.caption(i) for i in range(len(captions))], length + 1)
    return int((ids[:, length - 1] != vocabulary.end).sum()) if ids.shape[1] > length else 0


class Tests:
    """What is measured on the pictures held out."""

    def __init__(self, run, task, net, vocabulary, preprocessing, x, captions):
        self.run, self.task, self.net, self.vocabulary, self.preprocessing = run, task, net, vocabulary, preprocessing
        self.x, self.labels, self.keys = x, captions.labels, captions.keys()
        self.texts = [captions.caption(i) for i in range(len(captions))]

    def scores(self, templates, which=slice(None), title=""):
        """Zero-shot scores of the pictures `which`; with a title it is said if classes cannot be told apart by their names."""
        classifier = ZeroShot(self.net, self.vocabulary, self.task.classes, templates)
        if title and classifier.same:
            print(f"zero-shot, {title}: {same_said(classifier.same[0], self.net.length)}")
        return classifier.scores(image_features(self.net.image, self.x[which], self.preprocessing))

    @property
    def labelled(self):
        """The places of pictures of a class."""
        return np.flatnonzero(self.labels >= 0) if self.task.classes else np.zeros(0, int)

    def recalls(self):
        """Recall among k of captions by pictures and of pictures by captions."""
        images = retrieval.image_embeddings(self.net, image_features(self.net.image, self.x, self.preprocessing))
        texts = retrieval.text_embeddings(self.net, self.vocabulary, self.texts)
        return [retrieval.recall(*pair, self.run.k, self.keys) for pair in ((images, texts), (texts, images))]

    def brief(self, step):
        """Numbers for the log."""
        found, which = {}, np.random.default_rng(0).permutation(self.labelled)[:BRIEF]  # they may be sorted by class
        if len(which):
            found["zero-shot"] = accuracy(self.scores(self.task.templates[:1], which), self.labels[which]).first
        if self.run.task == "contrastive":
            found["recall"] = self.recalls()[0]
        return found

    def all(self):
        """Prints and returns everything."""
        found, which = {}, self.labelled
        if len(which):
            classes, labels = len(self.task.classes), self.labels[which]
            for name, templates in {"bare names": ("{}",), f"{len(self.task.templates)} prompts": self.task.templates}.items():
                scores = self.scores(templates, which, name)
                of_all = accuracy(scores, labels)
                print(f"zero-shot, {name}: {100 * of_all.first:.1f} % of {len(which)} pictures right, among the first "
                      f"{of_all.k} {100 * of_all.among:.1f} %; mean over classes {100 * of_all.class_mean:.1f} %, "
                      f"{100 * of_all.class_mean_among:.1f} %; chance {100 / classes:.1f} %, {100 * of_all.k / classes:.1f} %")
                found[f"zero-shot, {name}"], found[f"among the first, {name}"] = of_all.first, of_all.among
                found[f"class mean, {name}"] = of_all.class_mean
            found |= self.unseen(scores, labels)
        if self.run.task == "contrastive":
            found["text of picture"], found["picture of text"] = self.recalls()
            n, k = len(self.x), self.run.k
            print(f"retrieval among {n}, recall at {k}: text of picture {100 * found['text of picture']:.1f} %, "
                  f"picture of text {100 * found['picture of text']:.1f} %; chance {100 * min(1, k / n):.1f} %")
        return found

    def unseen(self, scores, labels):
        """Accuracies on pictures of classes without a picture to train on: among all classes, and among those alone."""
        hidden = np.array(self.task.unseen, int)
        at = np.isin(labels, hidden)
        if not at.any() or at.all():
            return {}
        alone = np.searchsorted(np.sort(hidden), labels[at])
        found = {"seen classes": accuracy(scores[~at], labels[~at]).first,
                 "unseen classes": accuracy(scores[at], labels[at]).first,
                 "unseen classes, among those": accuracy(scores[at][:, np.sort(hidden)], alone).first}
        print(f"classes with pictures to train on: {100 * found['seen classes']:.1f} %; without: "
              f"{100 * found['unseen classes']:.1f} % (chance {100 / scores.shape[1]:.1f} %), among those alone "
              f"{100 * found['unseen classes, among those']:.1f} % (chance {100 / len(hidden):.1f} %)")
        return found


if __name__ == "__main__":
    command(main, Run, __doc__)
