"""The report: one page of HTML with all that was found out, its pictures and drawings in it, without scripts or network."""
import base64
import html
import io
import pathlib
import shlex
import time

import numpy as np

from methods.training import plots
from methods.training.page import whole
from methods.training.prediction import class_sets
from minigrad.data.folder import counted, printable

from . import oddities, svg, uncertainty
from .answer import COVERAGE, Answer
from .look import Folder

STYLE = pathlib.Path(__file__).with_name("report.css")
THUMB = 120  # pixels
SHOWN = 12  # suspicious labels and near-duplicates
PAIRS, EACH = 5, 4  # confused pairs, and pictures of each
POINTS = 600  # pictures on the map
EXCERPT = 200  # characters of a text


def page(result: Answer, run: str) -> str:
    """The report. Args: run: the run's folder, as the command line is to name it."""
    folder = result.folder
    answer = f'<p class="answer">{html.escape(headline(result))}</p>'
    sections = [answer, _list("What was found in the folder", folder.description() + result.notes), _next(result),
                _tried(result), _sure(result), _confused(result), _suspicious(result), _duplicates(result), _map(result),
                _curves(result), _predict(run, result), _unusable(result)]
    made = f'<p><small>{time.strftime("%Y-%m-%d %H:%M")}, {result.seconds:.0f} seconds after the start.</small></p>'
    return whole(f"{printable(folder.path.resolve().name)}: an answer from few labels", *filter(None, sections), made,
                 style=STYLE.read_text())


def _section(title, *content):
    content = "".join(content)
    return f"<section><h2>{html.escape(title)}</h2>{content}</section>" if content else ""


def _list(title, lines):
    return _section(title, "<ul>", *(f"<li>{html.escape(line)}</li>" for line in lines), "</ul>") if lines else ""


def _percent(value):
    return f"{100 * value:.0f} %" if np.isfinite(value) else "unknown"


def headline(result: Answer) -> str:
    """The answer in a few sentences, as plain text."""
    what = f"{result.folder.what}s"
    if result.chosen is None:
        which = f"the {what} below" if len(result.suggested) else what
        return (f"There are no two classes with usable labels yet, so nothing can be told apart. Label {which}, a few of each "
                "class, and run the same command again.")
    chosen = result.chosen
    tried = len(chosen.tried())
    if not tried:
        text = (f"Use {chosen.name} ({chosen.about}). How good it is cannot be said: with one label a class none can be left "
                "out.")
    else:
        value, low, high = result.accuracy(chosen)
        text = (f"Use {chosen.name}: {chosen.about}. About {_percent(value)} of new {what} will be classified "
                f"right; the 95 % interval is {_percent(low)} to {_percent(high)}. This was estimated on {tried} labelled "
                f"{what} that were left out in turn, each classified by what was learnt from others.")
    if result.test:
        right, n = result.test
        low, high = uncertainty.wilson(right, n)
        text += (f" Of the {n} {what} to test on, which were used for nothing else, {_percent(right / n)} are right (95 % "
                 f"interval {_percent(low)} to {_percent(high)}).")
    return text


def _tried(result):
    if result.chosen is None:
        return ""
    rows = []
    best, _, _ = result.accuracy(result.chosen)
    chance = result.share.max()
    for estimate in result.estimates:
        value, low, high = result.accuracy(estimate)
        seen = f"{_percent(value)} <small>({_percent(low)} to {_percent(high)})</small>" if np.isfinite(value) else "unknown"
        bar = svg.interval(low, value, high, best) if np.isfinite(value) else ""
        rows.append(f'<tr{" class=chosen" if estimate is result.chosen else ""}><td>{html.escape(estimate.name)}<br><small>'
                    f'{html.escape(estimate.about)}{"; " + html.escape(estimate.note) if estimate.note else ""}</small></td>'
                    f'<td>{seen}<br>{bar}<br><small>{estimate.seconds:.1f} s</small></td></tr>')
    rows.append(f"<tr><td>the most frequent class, always</td><td>{_percent(chance)}</td></tr>")
    untried = f"<p>Not tried for want of time (<code>--minutes</code>): {html.escape(', '.join(result.untried))}.</p>"
    return _section("What was tried", f"<p>Accuracy to be expected on new {result.folder.what}s, from labelled ones that were "
                    "left out (95 % interval), and the time it took. "
                    "The dashed line is the one to use. It was chosen by the probability that it gives to the left-out "
                    f"labels; features are those of {html.escape(result.features.reader.name)}.</p>",
                    '<table>', *rows, "</table>", untried * bool(result.untried))


def _sure(result):
    if result.chosen is None or not len(tried := result.chosen.tried()):
        return ""
    y = result.y[tried]
    p = result.chosen.probabilities(result.y)
    member = class_sets(p, result.threshold())
    size, held = member.sum(1).mean(), member[np.arange(len(y)), y].mean()
    expected, right = (_percent(share) for share in (result.accuracy(result.chosen)[0], (p.argmax(1) == y).mean()))
    lines = [f"Probabilities are calibrated on the left-out labels. Of these {result.folder.what}s the most probable class has "
             f"{_percent(p.max(1).mean())} on average, and {right} are right.",
             f"When one class is not sure enough, a set of classes is given. Sets are made to hold the right class "
             f"{_percent(COVERAGE)} of the time; those of the left-out {result.folder.what}s did in {_percent(held)} and have "
             f"{size:.1f} of {p.shape[1]} classes on average."]
    if expected != right:
        lines[0] += (f" Of new {result.folder.what}s {expected} are expected, as those are classified by what was learnt from "
                     "all labels, and their classes need not be as frequent as the labels'.")
    if result.threshold() >= 1:
        lines[1] = (f"For sets of classes that hold the right one {_percent(COVERAGE)} of the time there are too few labels: 9 "
                    "that can be left out are needed.")
    counts = [(float((p.argmax(1) == y)[y == k].mean()), name) for k, name in enumerate(result.classes) if (y == k).any()]
    worst = [f"{name} {_percent(share)}" for share, name in sorted(counts)[:5]]
    return _list("How sure it is", [*lines, f"The hardest classes: {', '.join(worst)}."])


def _figure(result, i, caption):
    caption = f"<figcaption>{caption}</figcaption></figure>"
    try:
        if result.folder.what == "picture":
            inside = base64.b64encode(jpeg(result.folder, i, THUMB)).decode()
            return f'<figure><img alt="" src="data:image/jpeg;base64,{inside}">{caption}'
        text = result.folder.text(i)
        text = text[:EXCERPT] + ("..." if len(text) > EXCERPT else "")
    except ValueError as error:  # deleted or moved since its features were read
        text = str(error)
    return f'<figure class="text"><blockquote>{html.escape(text)}</blockquote>{caption}'


def jpeg(folder: Folder, i: int, size: int) -> bytes:
    """The picture at place i as a JPEG whose longer side has so many pixels, larger for small ones. ValueError: unreadable."""
    from PIL import Image
    picture, content = folder.picture(i), io.BytesIO()
    scale = size / max(picture.size)
    resample = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.BICUBIC
    picture.resize([max(1, round(side * scale)) for side in picture.size], resample).save(content, "JPEG", quality=80)
    return content.getvalue()


def _name(result, i):
    return html.escape(result.folder.files[i])


def _next(result):
    if not len(result.suggested):
        return ""
    guesses = [""] * len(result.suggested)
    if result.chosen is not None:
        p = result.probabilities(result.suggested)
        guesses = [f"<br>{html.escape(result.classes[row.argmax()])}? {_percent(row.max())}" for row in p]
    figures = [_figure(result, i, _name(result, i) + guess) for i, guess in zip(result.suggested, guesses)]
    other = "put them into the folders of their classes" if result.folder.path.is_dir() else "write their labels"
    return _section("Label these next", f"<p>Worth a label first, of the unlabelled {result.folder.what}s: "
                    f"{len(figures)}; {html.escape(result.reason)}. Run the same command with <code>--label</code> and click, or "
                    f"{other}.</p>",
                    '<div class="pictures">', *figures, "</div>")


def _confused(result):
    if result.chosen is None or not len(tried := result.chosen.tried()):
        return ""
    y, places = result.y[tried], result.known[tried]
    predicted, names = result.chosen.scores[tried].argmax(1), result.classes
    parts = []
    for a, b, count in oddities.confusions(y, predicted, len(names))[:PAIRS]:
        wrong = places[(y == a) & (predicted == b)][:EACH]
        parts.append(f"<h3>{html.escape(names[a])} taken for {html.escape(names[b])}: {count} of {(y == a).sum()}</h3>"
                     f'<div class="pictures">{"".join(_figure(result, i, _name(result, i)) for i in wrong)}</div>')
    return _section("Most confused", *parts)


def _suspicious(result):
    if result.chosen is None or not len(tried := result.chosen.tried()):
        return ""
    found = oddities.suspicious(result.known[tried], result.y[tried], result.chosen.probabilities(result.y))[:SHOWN]
    names = result.classes
    figures = [_figure(result, s.place, f"{_name(result, s.place)}<br>labelled {html.escape(names[s.label])}, "
                       f"looks like {html.escape(names[s.kind])} ({_percent(s.p)})") for s in found]
    return _section("Labels to look at again", "<p>The other labels contradict these. They may be right all the same.</p>"
                    '<div class="pictures">', *figures, "</div>") if found else ""


def _duplicates(result):
    places = np.concatenate([result.known, result.features.known(result.folder.unlabelled)])
    if len(places) < 2:
        return ""
    places = places[:oddities.COMPARED]
    pairs = oddities.near_duplicates(result.features.x(places), places)
    if not pairs:
        return ""
    figures = [_figure(result, i, _name(result, i)) for pair in pairs[:SHOWN // 2] for i in pair[:2]]
    return _section(f"Nearly the same {result.folder.what}", f"<p>{counted(len(pairs), 'pair')} among {len(places)}; "
                    'the first are shown, pair by pair.</p><div class="pictures">', *figures, "</div>")


def _map(result):
    known, rest = result.known, result.features.known(result.folder.unlabelled)
    rest = np.random.default_rng(0).permutation(rest)[:max(0, POINTS - len(known))]
    places = np.concatenate([known[:POINTS], rest])
    if len(places) < 5:
        return ""
    xy = plots.plane(result.features.x(places))
    labels = np.concatenate([result.y[:POINTS], np.full(len(rest), -1)])
    titles = [result.folder.files[i] for i in places]
    return _section(f"Map of the {result.folder.what}s", "<p>What the encoder finds alike is near each other (t-SNE). What is "
                    "coloured has a label.</p>", svg.points(xy, labels, result.classes, titles))


def _curves(result):
    drawn = [svg.curve([(m["step"], m["loss"]) for m in e.curve if "loss" in m], f"{e.name}, loss")
             for e in result.estimates if e.curve]
    return _section("Training", '<div class="pictures curves">', *drawn, "</div>") if any(drawn) else ""


def _predict(run, result):
    if result.chosen is None:
        return ""
    many, run = f"{result.folder.what.upper()}S", shlex.quote(run)
    lines = [f"python -m examples.predict {run} {many} --csv found.csv"]
    lines += [f"python -m examples.predict {run} {many} --sort SORTED"] if result.folder.what == "picture" else []
    return _section(f"Classify new {result.folder.what}s", "<p>", *(f"<code>{html.escape(line)}</code><br>" for line in lines),
                    "The second copies them into a folder for each class.</p>" if len(lines) > 1 else "</p>")


def _unusable(result):
    found = result.folder.unusable
    lines = [f"{name}: {why}" for name, why in sorted(found.items())]
    more = [f"and {len(lines) - 200} more"] if len(lines) > 200 else []
    what = "Files" if result.folder.what == "picture" else "Texts"
    return _list(f"{what} that cannot be used ({len(lines)})", lines[:200] + more)
