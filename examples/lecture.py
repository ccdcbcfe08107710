"""The lecture on learning with few labels, claim by claim, as one page of figures and numbers made here.

    python -m examples.lecture --quick --workers 2     # about ten minutes on two cores, mostly on small data
    python -m examples.lecture                         # a night: CIFAR-10, Omniglot, speech, texts, where they are at hand
    python -m examples.lecture --only SimCLR BYOL

Each section runs an example (several share one) or finds its finished run by its settings. Killed, the same command goes on.
The page is index.html in `--out`; it opens without network.
"""
import dataclasses
import os
import pathlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from methods.training import page, text_encoders
from methods.training.comparison import chosen, spread
from methods.training.jobs import Job, Outcome, run_all
from methods.training.run import marked, write_whole
from methods.training.settings import check, command, setting

ROOT = pathlib.Path(__file__).parent.parent
DATA = os.environ.get("MINIGRAD_DATA", "")
HERE = [name for name in ("omniglot", "mnist", "cifar10") if DATA and os.path.isdir(f"{DATA}/{name}")]
OMNIGLOT = f"{DATA}/omniglot" if "omniglot" in HERE else "download"
SMALL, COLOURED = (name if name in HERE else "digits" for name in ("mnist", "cifar10"))
TUNING = 30 if text_encoders.find("") else 1000  # steps: MiniLM, if it is installed, knows more and takes longer
SEMI = ("supervised ladder 'ladder --variant none' pi_model temporal_ensembling mean_teacher vat uda mixmatch remixmatch "
        "fixmatch softmatch freematch")
SELF = ("'random weights' pixels supervised exemplar 'exemplar, shifts alone' simclr 'simclr, crop alone' 'simclr, colour alone' "
        "byol 'byol, no predictor' dino 'dino, no centring' 'dino, no sharpening'")

# name -> the words of the example's command line: for the night, and with --quick
JOBS = {
    "transfer": ("compare_transfer --per-class 1 5 10 100 --draws 3 --only prototypes logistic pixels scratch 'HOG, SVM'",
                 f"compare_transfer --data {COLOURED} --per-class 1 5 --draws 3 --pool 300 --test-images 200 --image-size 128 "
                 "--only prototypes logistic pixels"),
    "fine-tuning": ("compare_transfer --per-class 100 --draws 3 --only logistic LP-FT 'LP-FT + WiSE-FT'",
                    f"compare_transfer --data {COLOURED} --per-class 100 --draws 3 --pool 1100 --test-images 500 --image-size 96 "
                    "--steps 100 --only logistic LP-FT 'LP-FT + WiSE-FT'"),
    "vit": ("vit_resolution", "vit_resolution --source digits --data digits --size 12 --pretraining 150 --steps 40 --seeds 1"),
    "semi": (f"compare_semi_supervised --only {SEMI}", f"compare_semi_supervised --seeds 1 --steps 400 --only {SEMI}"),
    "self": ("compare_self_supervised --steps 3000 --ablations",
             "compare_self_supervised --data digits --steps 700 --batch 64 --network small --labels 50 --tuning-steps 40"
             f" --ablations --only {SELF}"),
    "patches": ("compare_self_supervised --steps 3000 --ablations",
                "compare_self_supervised --data digits --steps 300 --batch 64 --network small --labels 50 --tuning-steps 40"
                " --only 'random weights, cpc_images' cpc_images"),
    "denoised": ("compare_self_supervised --data mnist --network mlp --no-tuning-augment --steps 3000 --seeds 3"
                 " --only 'random weights' denoising",
                 f"compare_self_supervised --data {SMALL} --network mlp --steps 400 --batch 64 --labels 50 --tuning-steps 10"
                 " --only 'random weights' denoising"),
    "restored": ("compare_self_supervised --data fashion --steps 3000 --seeds 3 --only 'random weights, mae' mae",
                 "compare_self_supervised --data digits --steps 800 --batch 64 --network small --labels 50 --tuning-steps 150"
                 " --only 'random weights, mae' mae"),
    "bert": ("bert", "bert --steps 200 --labels 100 --draws 1 --tuning-steps 40 --width 64"),
    "speech": ("cpc_audio", "cpc_audio --steps 200 --supervised-steps 40 --evaluate-every 0"),
    "few-shot": (f"compare_few_shot --data {OMNIGLOT} --seeds 3 --images 360000",
                 "compare_few_shot --images 5000 --episodes 60"),
    "clip": ("clip --data clipart --encoder lite0 --steps 2000", "clip --steps 300"),
    "captions": ("compare_captions --data cifar10 --encoder lite0 --image-size 128 --steps 500 --batch 128 --dropout 0.5"
                 " --seeds 3",
                 "compare_captions --steps 150"),
    "peft": ("compare_peft --data sst2 --steps 1300 --encoder-dropout 0.1",
             f"compare_peft --steps {TUNING} --only probe prompt prefix adapters lora full"),
    "home": (f"prototypical_networks --data {OMNIGLOT} --way 60 --steps 2800 --mirror --schedule cosine --lr 2e-3"
             " --shift 1",
             "prototypical_networks --steps 150 --episodes 100"),
}

LONG = "self", "peft", "few-shot", "speech", "semi"

BRIEF = ("These are the brief runs of --quick. They show that all methods run; some trainings are too short, and their "
         "data too small, for the claim to be seen.")


@dataclass(frozen=True)
class Section:
    """A topic of the lecture.

    Args:
        claim: in a sentence.
        job: a name in `JOBS`.
        rows: from what the example returned to pairs of a name and accuracies (or what `unit` says), one a seed.
        holds: whether those, by name, bear the claim out.
        paper: its number.
        equation: a file of methods/ and the function or class with it.
        figure: a file of the run.
    """

    topic: str
    claim: str
    job: str
    rows: Callable[[Any], list[tuple[str, list[float]]]]
    holds: Callable[[dict[str, float]], bool]
    paper: str
    equation: str
    figure: str = "accuracies.png"
    unit: str = "accuracy (%)"


def row(*names: str) -> Callable[[Any], list[tuple[str, list[float]]]]:
    """Those rows of a comparison."""
    return lambda found: [(name, found[name]) for name in names]


def measured(at: int, *names: str) -> Callable[[Any], list[tuple[str, list[float]]]]:
    """Of those rows of `compare_self_supervised`: 0 the probe, 1 neighbours, 2 fine-tuning."""
    return lambda found: [(name, [values[at] for values in found[name]]) for name in names]


def largest(found: Any) -> list[tuple[str, list[float]]]:
    """All rows of `compare_transfer` with the most labels."""
    most = max(int(key.rpartition(", ")[2]) for key in found)
    return [(key.rpartition(", ")[0], values) for key, values in found.items() if int(key.rpartition(", ")[2]) == most]


def resolutions(found: Any) -> list[tuple[str, list[float]]]:
    """Rows of `vit_resolution`, fine-tuned."""
    return [(name, [after for _, after in pairs]) for name, pairs in found.items()]


def speech(found: Any) -> list[tuple[str, list[float]]]:
    """Linear classifiers of `cpc_audio`."""
    return [(key.removesuffix(", linear"), [100 * value]) for key, value in found.items() if key.endswith(", linear")]


def words(found: Any) -> list[tuple[str, list[float]]]:
    """What `bert` measures."""
    names = {"words right": "hidden words", "most frequent right": "always the most frequent word",
             "next sentence right": "next sentence"}
    return [(shown, [100 * found[key]]) for key, shown in names.items() if key in found]


def ways(found: Any) -> list[tuple[str, list[float]]]:
    """What `prototypical_networks` returns by way and shot."""
    return [("{}-way {}-shot".format(*key.split(", ")), [100 * value]) for key, value in found.items()]


def named(*prefixes: str) -> Callable[[Any], list[tuple[str, list[float]]]]:
    """Of what `clip` returns the numbers whose names begin so."""
    return lambda found: [(name, [100 * value]) for prefix in prefixes for name, value in found.items()
                          if name.startswith(prefix)]


def last(found: Any) -> list[tuple[str, list[float]]]:
    """The ends of the curves of `compare_captions`."""
    return [(name, [curve[-1][1] for curve in curves]) for name, curves in found.items()]


def tuned(*names: str) -> Callable[[Any], list[tuple[str, list[float]]]]:
    """Those rows of `compare_peft`, and the share of parameters that each trains."""
    return lambda found: [(f"{name}, {found[name][0][1]:.2f} % trained", [100 * seed[0] for seed in found[name]])
                          for name in names]


def near(method: str, points: float) -> Callable[[dict[str, float]], bool]:
    """Whether a row that begins so comes to within so many points of full fine-tuning, and lies above the probe."""
    def holds(mean):
        at = {name.partition(",")[0]: value for name, value in mean.items()}
        return at[method] >= max(at["full"] - points, at["probe"])
    return holds


def above(better: str, worse: str) -> Callable[[dict[str, float]], bool]:
    """Whether one row's mean lies above another's."""
    return lambda mean: mean[better] > mean[worse]


SECTIONS = (
    Section("Transfer: frozen features", "A linear classifier on the features of a network trained on other pictures needs few "
            "labels.", "transfer", largest, above("logistic", "pixels"),
            "Caltech-101, 30 a class: 86.9 % (hand-made features 84.3 %)", "transfer/linear.py:logistic"),
    Section("Transfer: fine-tuning", "With a hundred labels of each class training all of the network, or half the way "
            "from its old weights, beats its frozen features.", "fine-tuning", largest,
            lambda mean: max(mean["LP-FT"], mean["LP-FT + WiSE-FT"]) > mean["logistic"], "no single number",
            "transfer/finetune.py:FineTune"),
    Section("Vision Transformer", "Pretrained, it is carried to another resolution by resizing its positions like a picture.",
            "vit", resolutions, above("resized positions", "from scratch"), "CIFAR-10 after JFT-300M: 99.5 %",
            "../minigrad/nn/models/vit.py:resize_positions"),
    Section("Ladder network", "Denoising each layer, unlabelled images help a network of linear layers.", "semi",
            row("ladder --variant none", "ladder"), above("ladder", "ladder --variant none"),
            "MNIST, 100 labels: 98.94 %", "semi_supervised/ladder.py:combinator"),
    Section("Pi-model", "Two noisy passes of an unlabelled image are to agree.", "semi", row("supervised", "pi_model"),
            above("pi_model", "supervised"), "CIFAR-10, 4,000 labels: 87.64 %", "semi_supervised/pi_model.py:loss"),
    Section("Mean Teacher", "The teacher is the moving average of the student's weights.", "semi",
            row("supervised", "pi_model", "mean_teacher"), above("mean_teacher", "supervised"),
            "CIFAR-10, 4,000 labels: 87.69 % (ResNet-26: 93.72 %)", "semi_supervised/mean_teacher.py:loss"),
    Section("The table of eight", "With the same labels, network and steps the later methods are the better ones.", "semi",
            row("supervised", "pi_model", "temporal_ensembling", "mean_teacher", "vat", "uda", "mixmatch", "remixmatch",
                "fixmatch", "softmatch", "freematch"), above("fixmatch", "supervised"),
            "FixMatch, CIFAR-10, 250 labels: 94.93 %", "semi_supervised/fixmatch.py:unsupervised"),
    Section("Denoising", "The features of an encoder that learned to restore pictures tell more than those of random weights.",
            "denoised", measured(0, "random weights", "denoising"), above("denoising", "random weights"), "no single number",
            "self_supervised/denoising.py:Denoising", "probe.png"),
    Section("BERT", "Hidden words and next sentences can be told from context alone.", "bert", words,
            above("hidden words", "always the most frequent word"), "GLUE: 79.6 (base), 82.1 (large)",
            "self_supervised/bert.py:losses", "curves.png"),
    Section("Exemplar-CNN", "Each picture is a class of its own; its transformations are the examples.", "self",
            measured(0, "random weights", "exemplar, shifts alone", "exemplar"), above("exemplar", "random weights"),
            "CIFAR-10: 84.3 %", "self_supervised/exemplar.py:Exemplar", "probe.png"),
    Section("CPC: speech", "What predicts the next latents of a recording tells digits and speakers apart.", "speech", speech,
            lambda mean: all(mean[f"CPC, {kind}"] > mean[f"random, {kind}"] for kind in ("digit", "speaker")),
            "LibriSpeech, linear: phones 64.6 % (random 27.6 %), speakers 97.4 % (1.9 %)",
            "self_supervised/cpc_audio.py:info_nce", "curves.png"),
    Section("CPC: pictures", "So does what predicts patches from those on the other side.", "patches",
            measured(0, "random weights, cpc_images", "cpc_images"), above("cpc_images", "random weights, cpc_images"),
            "ImageNet, linear: 48.7 %", "self_supervised/cpc_images.py:scores", "probe.png"),
    Section("SimCLR", "Two views of a picture are to be alike, and unlike all others; crop and colour together make the task.",
            "self", measured(0, "random weights", "simclr, crop alone", "simclr, colour alone", "simclr"),
            above("simclr", "random weights"), "ImageNet, linear: 69.3 %", "self_supervised/simclr.py:loss", "probe.png"),
    Section("BYOL", "No negatives are needed, if a predictor keeps the outputs from falling into one point.", "self",
            measured(0, "random weights", "byol, no predictor", "byol"), above("byol", "byol, no predictor"),
            "ImageNet, linear: 74.3 %", "self_supervised/byol.py:distance", "probe.png"),
    Section("DINO", "Centring and sharpening, each of which alone collapses, hold each other.", "self",
            measured(0, "random weights", "dino, no centring", "dino, no sharpening", "dino"),
            above("dino", "dino, no centring"), "ImageNet, ViT-S/16: linear 77.0 %, k nearest 74.5 %",
            "self_supervised/dino.py:loss", "probe.png"),
    Section("Masked autoencoder", "From a quarter of the patches the others are restored; fine-tuned, that saves labels.",
            "restored", measured(2, "random weights, mae", "mae"), above("mae", "random weights, mae"),
            "ImageNet, fine-tuned ViT-B: 83.6 %", "self_supervised/mae.py:loss", "tuned.png"),
    Section("Prototypical networks", "A new class is the mean of its examples' embeddings.", "few-shot",
            row("siamese", "matching", "prototypical, cosine", "prototypical"), above("prototypical", "siamese"),
            "Omniglot, 5-way 1-shot: 98.8 %", "few_shot/prototypical.py:logits"),
    Section("MAML", "Parameters from which a gradient step or two learn a new task.", "few-shot",
            row("prototypical", "MAML", "Meta-SGD"), lambda mean: mean["MAML"] > 40, "Omniglot, 5-way 1-shot: 98.7 %",
            "few_shot/maml.py:adapt"),
    Section("First-order MAML", "Leaving out the second derivatives costs little.", "few-shot", row("first-order MAML", "MAML"),
            lambda mean: mean["first-order MAML"] > mean["MAML"] - 5, "miniImageNet, 5-way 1-shot: 48.07 % of 48.70 %",
            "few_shot/maml.py:adapt"),
    Section("CLIP", "Of many pictures each one's own caption is found.", "clip", named("text of picture", "picture of text"),
            lambda mean: mean["text of picture"] > 8, "no single number: 400 million pairs", "vision_language/clip.py:loss",
            "curves.png", "recall among the first 10 (%)"),
    Section("Zero-shot classification", "Names of classes, put into prompts, are a classifier.", "clip",
            named("zero-shot", "unseen"), lambda mean: min(mean.values()) > 20,
            "ImageNet: 76.2 % (ViT-L/14 at 336 pixels); prompts add 3.5 points", "vision_language/zero_shot.py:prompts",
            "curves.png"),
    Section("Three tasks of pre-training", "Matching captions with pictures learns faster than writing them.", "captions", last,
            above("contrastive", "caption"), "contrastive needs a twelfth of the pictures that caption prediction needs",
            "vision_language/clip.py:loss"),
    Section("Adapters", "Small layers between the frozen ones do as well as training all.", "peft",
            tuned("probe", "adapters", "full"), near("adapters", 2),
            "GLUE: 80.0 of 80.4 with 3.6 % of the parameters", "peft/adapters.py:Adapter"),
    Section("Prompt tuning", "Some learned vectors among the inputs adapt a frozen network.", "peft",
            tuned("probe", "prompt", "full"),
            lambda mean: min(value for name, value in mean.items() if name.startswith("prompt")) > 60,
            "SuperGLUE with T5-XXL: as good as full fine-tuning; smaller ones trail", "peft/prompt.py:Prompted"),
    Section("Prefix tuning", "Learned keys and values before those of each layer.", "peft", tuned("probe", "prefix", "full"),
            near("prefix", 4), "E2E, BLEU: 69.7 of 68.2 with 0.1 % of the parameters", "peft/prefix.py:Prefix"),
    Section("LoRA", "Changes of low rank, merged into the weights afterwards.", "peft", tuned("probe", "lora", "full"),
            near("lora", 2), "GLUE, RoBERTa-base: 87.24 of 86.40 with 0.6 % of the parameters", "peft/lora.py:LoRALinear"),
    Section("The home assignment", "Prototypical networks on characters of alphabets never seen.", "home", ways,
            lambda mean: mean["5-way 1-shot"] > 39.7,
            "Omniglot, with 1 / 5 examples: 98.8 / 99.7 % (5-way), 96.0 / 98.9 % (20-way)",
            "few_shot/prototypical.py:prototypes", "episode.png"),
)


@dataclasses.dataclass
class Run:
    """Settings of the page."""

    quick: bool = False  # some minutes, mostly on small data that needs no download
    only: tuple[str, ...] = ()  # topics, such as 'The table of eight'; all if left out; another word lists them
    workers: int = setting(1, least=1)  # examples that run at a time, with a thread each; one alone takes all cores
    out: str = "runs/lecture"  # a folder for the runs and the page


def job_of(name: str, quick: bool) -> Job:
    """The job of that name, for the night or for `quick`."""
    import shlex
    example, *arguments = shlex.split(JOBS[name][quick])
    return Job(example, tuple(arguments))


def main(run: Run) -> dict[str, bool | None]:
    """Runs what is missing and writes the page. Returns whether each claim holds here, None where there are no numbers."""
    check(run)
    topics = chosen(run.only, [section.topic for section in SECTIONS])
    sections = [section for section in SECTIONS if section.topic in topics]
    jobs = {section.job: job_of(section.job, run.quick) for section in sections}
    out = pathlib.Path(run.out)
    print(f"{len(set(jobs.values()))} examples for {len(sections)} sections", flush=True)

    def report(job, outcome):
        print(f"{outcome.error or f'{outcome.seconds:.0f} s'}: {job.command}", flush=True)

    longest_first = sorted(jobs, key=lambda name: name not in LONG)  # so that the workers end together
    outcomes = run_all([jobs[name] for name in longest_first], out, run.workers, report)
    parts, found = [], {}
    for section in sections:
        job = jobs[section.job]
        part, found[section.topic] = written(section, job, outcomes[job], job.folder(out) / "run", out)
        parts.append(part)
    state = {True: "holds here", False: "does not hold here", None: "no numbers"}
    contents = page.table([("topic", "the claim", ""), *(
        (page.link(section.topic), section.claim, state[found[section.topic]]) for section in sections)])
    brief = [page.paragraph(BRIEF)] if run.quick else []
    write_whole(marked(out) / "index.html", page.whole("Learning with few labels", *brief, contents, *parts))
    for topic, holds in found.items():
        print(f"{topic:32}{state[holds]}")
    print(f"the page is {out / 'index.html'}")
    return found


def written(section: Section, job: Job, outcome: Outcome, folder: pathlib.Path, out: pathlib.Path) -> tuple[str, bool | None]:
    """A section as HTML, and whether its claim holds."""
    parts, holds = [page.heading(section.topic), page.paragraph(section.claim)], None
    try:
        if outcome.error:
            raise LookupError(outcome.error)
        rows = section.rows(outcome.value)
        holds = bool(section.holds({name: float(np.mean(values)) for name, values in rows}))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        why = f"the run has no row {error.args[0]}" if isinstance(error, KeyError) else error
        parts.append(page.paragraph(f"There are no numbers: {why}"))
    else:
        parts.append(page.table([("", section.unit), *((name, spread(values, 1)) for name, values in rows)]))
        verdict = "holds" if holds else "does not hold"
        parts.append(page.paragraph(f"The claim {verdict} here; the numbers took {outcome.seconds:.0f} seconds."))
    if (folder / section.figure).is_file():
        parts.append(page.picture(folder / section.figure, section.claim))
    path, line = place(section.equation)
    link = page.link(f"{path.relative_to(ROOT)}, line {line}", os.path.relpath(path, out))
    parts.append(f'<p class="aside">The paper: {page.text(section.paper)}.<br>The equation: {link}.<br>'
                 f"<code>{page.text(job.command)}</code></p>")
    return "\n".join(parts), holds


def place(equation: str) -> tuple[pathlib.Path, int]:
    """The file with a function or class, and the line on which it begins.

    Raises:
        LookupError: it is not there.
    """
    file, _, name = equation.partition(":")
    path = (ROOT / "methods" / file).resolve()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if re.match(rf"\s*(def|class) {name}\b", line):
            return path, number
    raise LookupError(f"{path} has no {name}")


if __name__ == "__main__":
    command(main, Run, __doc__)
