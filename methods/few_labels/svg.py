"""Small drawings for a page: strings of SVG, as wide as their place, whose text is the page's."""
import colorsys
import html

import numpy as np


def colours(count: int) -> list[str]:
    """So many colours, as far from each other as hues allow."""
    return ["#" + "".join(f"{round(255 * v):02x}" for v in colorsys.hls_to_rgb(k / max(count, 1), (0.45, 0.6)[k % 2], 0.65))
            for k in range(count)]


def interval(low: float, value: float, high: float, mark: float | None = None) -> str:
    """An accuracy with its interval on a line from 0 to 1, and a mark where another stands."""
    line = "" if mark is None else f'<path d="M{200 * mark:.1f} 1V19" stroke="#999" stroke-dasharray="3 2"/>'
    return (f'<svg viewBox="0 0 200 20" class="bar" role="img" aria-label="{100 * low:.0f} to {100 * high:.0f} %">'
            f'<path d="M0 10H200" stroke="#ddd"/>{line}<rect x="{200 * low:.1f}" y="6" width="{200 * (high - low):.1f}" '
            f'height="8" rx="3" fill="#9db8e8"/><circle cx="{200 * value:.1f}" cy="10" r="4.5" fill="#234f9e"/></svg>')


def points(xy: np.ndarray, labels: np.ndarray, names: tuple[str, ...], titles: list[str]) -> str:
    """Points (N, 2) in the colours of their labels, grey for -1, with a title each that shows under the pointer."""
    low, high = xy.min(0), xy.max(0)
    at = 10 + 380 * (xy - low) / np.where(high > low, high - low, 1)
    palette = colours(len(names))
    order = np.argsort(labels >= 0, kind="stable")  # labelled ones on top
    circles = "".join(
        f'<circle cx="{at[i, 0]:.1f}" cy="{at[i, 1]:.1f}" r="{5 if labels[i] >= 0 else 2.5}" '
        f'fill="{palette[labels[i]] if labels[i] >= 0 else "#bbb"}"><title>{html.escape(titles[i])}</title></circle>'
        for i in order)
    legend = "".join(f'<span><i style="background:{colour}"></i>{html.escape(name)}</span>'
                     for name, colour in zip(names, palette))
    return f'<svg viewBox="0 0 400 400" class="map" role="img" aria-label="map">{circles}</svg><p class="legend">{legend}</p>'


def curve(values: list[tuple[float, float]], label: str) -> str:
    """A line through (x, y), with the first and last numbers."""
    if len(values) < 2:
        return ""
    x, y = np.array(values, float).T
    low, high = y.min(), y.max()
    at = np.stack([200 * (x - x[0]) / max(x[-1] - x[0], 1e-9), 58 - 50 * (y - low) / max(high - low, 1e-9)], 1)
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in at)
    return (f'<figure><svg viewBox="0 0 200 64" class="curve" role="img" aria-label="{html.escape(label)}">'
            f'<path d="M{path}" fill="none" stroke="#234f9e" stroke-width="1.5"/></svg>'
            f'<figcaption>{html.escape(label)}: {y[0]:.3g} to {y[-1]:.3g} in {x[-1]:g} steps</figcaption></figure>')
