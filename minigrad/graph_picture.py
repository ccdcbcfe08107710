"""A picture of the graph below a Tensor: for Graphviz as text, or laid out and drawn here, as SVG.

The layout is the usual one of layers (Sugiyama, Tagawa, Toda 1981, "Methods for visual understanding of hierarchical system
structures"): a box stands one layer below the lowest box that it reads from; an edge over several layers passes through a bend
in each; each layer is ordered, and then placed, by the mean place of the neighbours.
"""
from __future__ import annotations

import html
import io
import os
import pathlib
import shutil
import subprocess
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from .backend import is_array, is_float, to_device, xp
from .backend.files import write_whole
from .primitive import Node, output
from .tensor import asarray, Tensor

if TYPE_CHECKING:
    from .nn import Module

_COLOURS = {  # of a box: inside and line
    "operation": ("#e8f0fe", "#4a6fa5"), "leaf": ("#fff5d1", "#b08a1e"), "constant": ("#f4f4f4", "#8c8c8c"),
    "result": ("#e2f3e2", "#4c8f52")}
_TINY = 4  # elements of a Tensor whose values are written out


def draw_graph(y: Tensor, path: str | os.PathLike | None = None, *, names: dict[str, Tensor] | Module | None = None) -> str:
    """The graph from which the Tensor `y` was computed, in Graphviz's language, and as a picture if `path` is given.

    Boxes with corners are operations, round ones leaves (yellow if they require a gradient), constants, and the result.
    Edges carry the shapes of the Tensors that flow along them. Values of at most 4 elements are written out: those of leaves,
    of `y`, of what `names` names, and of what a gradient rule reads (the graph holds no others). Leaves show their `.grad`,
    large ones its norm.

    Args:
        y: what was computed.
        path: where to write. The ending says what: `.svg`, drawn here; `.png` or `.pdf`, drawn by matplotlib, or by Graphviz's
            `dot` if only that is installed; `.dot` or `.gv`, the text itself. The file is whole or not there.
        names: what Tensors are called in the picture: a dict from names to Tensors, leaves or computed ones, or a Module. Those
            that `y` does not depend on are ignored.

    Returns:
        The text for Graphviz.

    Raises:
        RuntimeError: a backward pass has freed the graph; or neither matplotlib nor `dot` is there for a PNG or PDF.
        ValueError: the path has another ending; FileNotFoundError: its folder is not there; TypeError: `y`, or what a name of
            `names` leads to, is no Tensor.

    >>> draw_graph(y, "graph.svg", names={"a": a, "b": b})
    """
    if not isinstance(y, Tensor):
        raise TypeError(f"draw_graph: y must be a Tensor, not {type(y).__name__}")
    ending = None if path is None else pathlib.Path(path).suffix.lower()
    if ending not in (None, ".svg", ".png", ".pdf", ".dot", ".gv"):
        raise ValueError(f"draw_graph: the path must end in .svg, .png, .pdf, .dot or .gv, and is {os.fspath(path)!r}")
    boxes, edges = _graph(y, _named(names))
    source = _graphviz(boxes, edges)
    if ending in (".dot", ".gv"):
        _write(path, source.encode())
    elif ending == ".svg":
        _write(path, _svg(*_drawing(boxes, edges)).encode())
    elif ending is not None:
        _write(path, _rendered(boxes, edges, source, ending[1:]))
    return source


# -- the graph as boxes and edges ------------------------------------------------------------------------------------


def _sources(node):
    if node.sources is None:
        raise RuntimeError(f"draw_graph: the graph below '{node.name}' was freed by a backward pass; draw it before "
                           "backward(), or pass retain_graph=True there")
    return node.sources


def _drawn(origin):
    """The box that stands for an origin: one for all outputs of an operation with several."""
    return _sources(origin)[0] if type(origin) is Node and origin.op is output else origin


def _inputs(node):
    """For each input of a node what is drawn for it, and the input: a Tensor, or an `Unread`, which stands for itself."""
    return [(x if source is None else _drawn(source), x) for source, x in zip(_sources(node), node.inputs)]


def _graph(y, named):
    """The boxes, pairs of lines of text and kind, and the edges, triples of two boxes' numbers and a shape.

    `named` is a list of pairs of name and Tensor.
    """
    root = _drawn(y.origin)
    names, values = defaultdict(list), {}
    for name, x in named:
        names[_drawn(x.origin)].append(name)
        values[x.origin] = x
    numbers, keys, inputs = {root: 0}, [root], []
    for key in keys:  # grows
        inputs.append(_inputs(key) if type(key) is Node else [])
        for below, x in inputs[-1]:
            if isinstance(x, Tensor):
                values[x.origin] = x
            if below not in numbers:
                numbers[below] = len(keys)
                keys.append(below)
        if type(key) is Node and key.out is not None:
            values.setdefault(key, key.out)
    boxes, edges = [], []
    for key, pairs in zip(keys, inputs):
        name, value = ", ".join(names[key]), _text(values.get(key, key))
        if type(key) is not Node:
            kind = "leaf" if getattr(key, "requires_grad", False) else "constant"
            lines = [_equation(name or kind, value), f"{key.dtype}{list(key.shape)}"]
            if isinstance(key, Tensor) and key.grad is not None:
                lines.append(f"grad {_text(key.grad) or _norm(key.grad)}")
        else:
            kind, lines = "operation", [key.op.name]
            if key is not root and (name or value):
                lines.append(_equation(name, value))
        boxes.append((lines, kind))
        edges += [(numbers[below], numbers[key], str(list(x.shape))) for below, x in pairs]
    if type(root) is Node:
        edges.append((0, len(boxes), str(list(y.shape))))
        boxes.append(([_equation(", ".join(names[root]) or "result", _text(y)), f"{y.dtype}{list(y.shape)}"], "result"))
    return boxes, edges


def _named(names):
    """Pairs of name and Tensor, of the argument of draw_graph."""
    if names is None:
        return []
    pairs = list(names.named_parameters() if hasattr(names, "named_parameters") else dict(names).items())
    for name, x in pairs:
        if not isinstance(x, Tensor):
            raise TypeError(f"draw_graph: names[{name!r}] must be a Tensor, not {type(x).__name__}")
    return pairs


def _equation(name, value):
    return " = ".join(part for part in (_printable(name), value) if part)


def _printable(name):
    return "".join(c if c.isprintable() else "?" for c in str(name))


def _text(x):
    """The values of a tiny Tensor or array as text; nothing of anything else."""
    array = asarray(x)
    if not is_array(array) or not 0 < array.size <= _TINY:
        return ""
    array = to_device(array, "cpu")
    return _short(array.astype(float).tolist() if is_float(array.dtype) else array.tolist())


def _short(value):
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _norm(x):
    array = asarray(x)
    return f"of norm {float(xp(array).linalg.norm(array.astype(float))):.3g}"


# -- Graphviz --------------------------------------------------------------------------------------------------------


def _graphviz(boxes, edges):
    lines = ["digraph {", '  node [fontname=Helvetica fontsize=10 style=filled]; edge [fontname=Helvetica fontsize=9];']
    for i, (text, kind) in enumerate(boxes):
        label = "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in text)
        inside, line = _COLOURS[kind]
        shape = "box" if kind == "operation" else "ellipse"
        lines.append(f'  n{i} [label="{label}" shape={shape} fillcolor="{inside}" color="{line}"];')
    lines += [f'  n{i} -> n{j} [label="{shape}"];' for i, j, shape in edges]
    return "\n".join([*lines, "}"])


# -- the layout ------------------------------------------------------------------------------------------------------

_LINE, _PAD, _MARGIN = 15, 7, 16  # pixels: height of a line of text, space around the text of a box, and around all
_GAP, _BETWEEN = 26, 48  # between boxes side by side, and between layers


def _drawing(boxes, edges):
    """Width and height, and what to draw, in the order in which it covers: ("curve", points of a Bezier curve),
    ("arrow", x, y), ("box", x, y, width, height, kind) and ("text", x, y, string, size, bold), x and y being the middle."""
    shapes = defaultdict(set)  # of what a box gives to others
    for i, _, shape in edges:
        shapes[i].add(shape)
    widths = [max(_width(line, 12) for line in lines) + 2 * _PAD + (0 if kind == "operation" else 10) for lines, kind in boxes]
    spans = [max([width, *(_width(shape, 10) for shape in shapes[i])]) for i, width in enumerate(widths)]
    layer = _layers(len(boxes), edges)
    segments, ends = _segments(layer, spans, edges)
    weights = [1 if kind in ("operation", "result") else 0.001 for _, kind in boxes] + [0.5] * (len(spans) - len(boxes))
    xs = _places(_ordered(layer, segments), spans, weights, segments)
    tops, bottoms = _heights(boxes, layer)

    drawing, texts = [], []
    for i, j in segments:
        if j >= len(boxes):
            drawing.append(("curve", [*_curve(xs[i], bottoms[i], xs[j], tops[j]), *[(xs[j], bottoms[j])] * 3]))
    for j, sources in ends.items():
        for k, ((before, i, shape), count) in enumerate(sorted(sources.items(), key=lambda item: xs[item[0][0]])):
            x = xs[j] + 0.7 * widths[j] * ((k + 0.5) / len(sources) - 0.5)
            drawing.append(("curve", _curve(xs[before], bottoms[before], x, tops[j] - 5)))
            drawing.append(("arrow", x, tops[j]))
            label = [shape] * (len(shapes[i]) > 1) + [f"×{count}"] * (count > 1)
            if label:
                texts.append(("text", x, tops[j] - 14, " ".join(label), 10, False))
    for i, (lines, kind) in enumerate(boxes):
        if len(shapes[i]) == 1:  # one label serves all edges
            texts.append(("text", xs[i], bottoms[i] + 12, *shapes[i], 10, False))
        drawing.append(("box", xs[i], (tops[i] + bottoms[i]) / 2, widths[i], bottoms[i] - tops[i], kind))
        for k, line in enumerate(lines):
            texts.append(("text", xs[i], tops[i] + _PAD / 2 + _LINE * (k + 0.5), line, 11 if k else 12, not k))
    return max(x + span / 2 for x, span in zip(xs, spans)) + _MARGIN, max(bottoms) + _MARGIN, drawing + texts


def _heights(boxes, layer):
    """Where each item begins and ends from above: boxes in the middle of their layer, bends of edges as tall as it."""
    heights = [_LINE * len(lines) + _PAD for lines, _ in boxes]
    tallest = [0] * (max(layer) + 1)
    for level, height in zip(layer, heights):
        tallest[level] = max(tallest[level], height)
    heights += [tallest[level] for level in layer[len(boxes):]]
    starts = [_MARGIN + sum(tallest[:level]) + level * _BETWEEN for level in range(len(tallest))]
    tops = [starts[level] + (tallest[level] - height) / 2 for level, height in zip(layer, heights)]
    return tops, [top + height for top, height in zip(tops, heights)]


def _curve(x0, y0, x1, y1):
    """The points of a Bezier curve of third degree that begins and ends downwards."""
    return [(x0, y0), (x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2), (x1, y1)]


def _width(text, size):
    """About the width of a text in pixels."""
    return 0.6 * size * len(text)


def _layers(count, edges):
    """The layer of each box: below all that it reads from, and leaves no higher than they must be."""
    readers, waiting = defaultdict(list), Counter()
    for i, j, _ in edges:
        readers[i].append(j)
        waiting[j] += 1
    leaves = [i for i in range(count) if not waiting[i]]
    layer, stack = [0] * count, list(leaves)
    while stack:
        i = stack.pop()
        for j in readers[i]:
            layer[j] = max(layer[j], layer[i] + 1)
            waiting[j] -= 1
            if not waiting[j]:
                stack.append(j)
    for i in leaves:
        layer[i] = min([layer[j] for j in readers[i]], default=1) - 1
    return layer


def _segments(layer, spans, edges):
    """The pieces of edges from one layer to the next, pairs of numbers. Edges that pass a layer bend there, at an item that is
    appended to `layer` and `spans`; all edges from one box share their bends.

    Also where edges end: {box: Counter of (the item before, the box that the edge comes from, shape)}.
    """
    bends = {}  # (box, layer) -> item
    segments, ends = {}, defaultdict(Counter)  # the segments as the keys, each once
    for i, j, shape in edges:
        before = i
        for level in range(layer[i] + 1, layer[j]):
            if (i, level) not in bends:
                bends[i, level] = len(layer)
                layer.append(level)
                spans.append(4)
            segments[before, bends[i, level]] = None
            before = bends[i, level]
        segments[before, j] = None
        ends[j][before, i, shape] += 1
    return list(segments), ends


def _neighbours(segments):
    above, below = defaultdict(list), defaultdict(list)
    for i, j in segments:
        above[j].append(i)
        below[i].append(j)
    return above, below


def _ordered(layer, segments):
    """The items of each layer from left to right, so that few segments cross: sorted by their neighbours' mean rank."""
    rows = [[] for _ in range(max(layer) + 1)]
    for i, level in enumerate(layer):
        rows[level].append(i)
    rank = {i: k for row in rows for k, i in enumerate(row)}
    above, below = _neighbours(segments)
    for sweep in range(12):
        near = below if sweep % 2 else above
        for row in rows[::-1] if sweep % 2 else rows:
            row.sort(key=lambda i: sum(rank[n] for n in near[i]) / len(near[i]) if near[i] else rank[i])
            rank.update({i: k for k, i in enumerate(row)})
    return rows


def _places(rows, spans, weights, segments):
    """The x of each item: near the mean of its neighbours', in the row's order and with distances. Light items make room."""
    x = [0.0] * len(spans)
    above, below = _neighbours(segments)

    def wish(i, near):
        return sum(weights[n] * x[n] for n in near) / sum(weights[n] for n in near) if near else x[i]

    for sweep in range(24):
        for row in rows[::-1] if sweep % 2 else rows:
            near = below if sweep % 2 else above
            if sweep >= 16:  # at last between both sides
                near = {i: above[i] + below[i] for i in row}
            offsets = [0.0]  # of each item from the row's first, at least
            for a, b in zip(row, row[1:]):
                offsets.append(offsets[-1] + (spans[a] + spans[b]) / 2 + _GAP)
            nearest = _rising([wish(i, near[i]) - offset for i, offset in zip(row, offsets)], [weights[i] for i in row])
            for i, offset, place in zip(row, offsets, nearest):
                x[i] = offset + place
    left = min(place - span / 2 for place, span in zip(x, spans)) - _MARGIN
    return [place - left for place in x]


def _rising(values, weights):
    """The numbers that never fall and are nearest to `values`, by weighted squares: means of neighbours that would fall."""
    pools = []  # mean, weight, length
    for value, weight in zip(values, weights):
        length = 1
        while pools and pools[-1][0] > value:
            mean, more, longer = pools.pop()
            value = (value * weight + mean * more) / (weight + more)
            weight, length = weight + more, length + longer
        pools.append((value, weight, length))
    return [value for value, _, length in pools for _ in range(length)]


# -- files -----------------------------------------------------------------------------------------------------------


def _svg(width, height, drawing):
    """The drawing as SVG."""
    width, height = round(width), round(height)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
             'font-family="Helvetica, Arial, sans-serif" text-anchor="middle">',
             '<rect width="100%" height="100%" rx="6" fill="white"/>']
    for what, x, *rest in drawing:
        if what == "curve":
            start, *others = [f"{a:.1f} {b:.1f}" for a, b in x]
            lines.append(f'<path d="M{start}C{" ".join(others)}" fill="none" stroke="#666"/>')
        elif what == "arrow":
            lines.append(f'<path d="M{x - 3.5:.1f} {rest[0] - 8:.1f}h7l-3.5 8z" fill="#666"/>')
        elif what == "box":
            y, w, h, kind = rest
            inside, line = _COLOURS[kind]
            lines.append(f'<rect x="{x - w / 2:.1f}" y="{y - h / 2:.1f}" width="{w:.1f}" height="{h:.1f}" '
                         f'rx="{_corner(kind)}" fill="{inside}" stroke="{line}"/>')
        else:
            y, text, size, bold = rest
            if size == 10:  # on an edge
                w = _width(text, size)
                lines.append(f'<rect x="{x - w / 2:.1f}" y="{y - 6:.1f}" width="{w:.1f}" height="12" fill="white"/>')
            weight = ' font-weight="bold"' if bold else ""
            lines.append(f'<text x="{x:.1f}" y="{y + 0.35 * size:.1f}" font-size="{size}"{weight}>{html.escape(text)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _corner(kind):
    """The radius of a box's corners."""
    return 4 if kind == "operation" else 14


def _rendered(boxes, edges, source, ending):
    """The bytes of a PNG or PDF file."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        if shutil.which("dot") is None:
            raise RuntimeError(f"draw_graph: a .{ending} file needs matplotlib or Graphviz's program `dot`, and neither is "
                               "installed; an .svg file needs nothing") from None
        return subprocess.run(["dot", f"-T{ending}"], input=source.encode(), check=True, capture_output=True).stdout
    from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
    from matplotlib.path import Path
    width, height, drawing = _drawing(boxes, edges)
    figure = Figure((width / 96, height / 96), dpi=min(192, 96 * 60_000 / max(width, height)))  # a PNG has at most 2^16 rows
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    for order, (what, x, *rest) in enumerate(drawing):
        if what == "curve":
            path = Path(x, [Path.MOVETO] + [Path.CURVE4] * (len(x) - 1))
            axes.add_patch(PathPatch(path, fill=False, edgecolor="#666", linewidth=0.75, zorder=order))
        elif what == "arrow":
            y = rest[0]
            axes.add_patch(Polygon([(x - 3.5, y - 8), (x + 3.5, y - 8), (x, y)], color="#666", linewidth=0, zorder=order))
        elif what == "box":
            y, w, h, kind = rest
            inside, line = _COLOURS[kind]
            corners = f"round,pad=0,rounding_size={_corner(kind)}"
            axes.add_patch(FancyBboxPatch((x - w / 2, y - h / 2), w, h, corners, facecolor=inside, edgecolor=line,
                                          linewidth=0.75, zorder=order))
        else:
            y, text, size, bold = rest
            behind = {"bbox": dict(facecolor="white", edgecolor="none", pad=0.5)} if size == 10 else {}
            axes.text(x, y, text, fontsize=0.75 * size, weight="bold" if bold else "normal", ha="center", va="center",
                      zorder=order, parse_math=False, **behind)
    file = io.BytesIO()
    figure.savefig(file, format=ending)
    return file.getvalue()


def _write(path, content):
    """Writes the bytes to `path`, whole or not at all. FileNotFoundError: its folder is not there."""
    folder = pathlib.Path(path).absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"draw_graph: there is no folder {folder}")
    write_whole(path, content)
