"""Charts as SVG text: the same bytes for the same figures, readable on light and dark pages."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator
from numpy.typing import NDArray

MARKERS = "os^"
INK = "#010203"  # replaced by the page's own text colour
COLOURS = ("#3f83f8", "#e8710a", "#12a37f", "#c2489f", "#8a6fdf", "#a3891b", "#d33a3a", "#4aa3b5")
STYLE: dict[Any, Any] = {  # Any: matplotlib types its keys as one long literal
    "svg.hashsalt": "crossbit",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "axes.prop_cycle": cycler(linestyle=["-", "--", ":"]) * cycler(color=COLOURS),
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
Line = tuple[Sequence[float], Sequence[float]]  # x, y


def lines(
    curves: Mapping[str, Line],
    *,
    x: str,
    y: str,
    log_x: bool = False,
    from_zero: bool = True,
    levels: Mapping[str, float] | None = None,
) -> str:
    """One line for each name; ``levels`` are horizontal, dashed."""
    with _chart(x, y) as (axes, svg):
        for name, (across, up) in curves.items():
            axes.plot(across, up, label=name, marker="." if len(across) < 20 else None)
        for name, level in (levels or {}).items():
            axes.axhline(level, color=INK, alpha=0.5, linestyle="--", linewidth=1, label=name)
        if log_x:
            axes.set_xscale("log")
        if from_zero:
            axes.set_ylim(bottom=0)
        axes.legend(fontsize=9)
    return svg()


def steps(groups: Mapping[str, Sequence[float]], *, x: str, y: str, edges: Sequence[float], log: bool = False) -> str:
    """Histograms over shared bin edges, drawn as outlines."""
    with _chart(x, y) as (axes, svg):
        for name, heights in groups.items():
            axes.stairs(list(heights), list(edges), label=name, linewidth=1.8)
        if log:
            axes.set_yscale("log")
            axes.set_xscale("log")
        axes.legend(fontsize=9)
    return svg()


def points(groups: Mapping[str, Sequence[float]], *, x: str, y: str, limits: tuple[float, float], middle: float) -> str:
    """A dot for each position, and a dashed line where it would be best."""
    with _chart(x, y) as (axes, svg):
        for name, values in groups.items():
            axes.plot(range(len(values)), values, linestyle="none", marker=".", label=name)
        axes.axhline(middle, color=INK, alpha=0.5, linestyle="--", linewidth=1)
        axes.set_ylim(*limits)
        axes.legend(fontsize=9)
    return svg()


def brackets(ranges: Mapping[str, tuple[float, float, float]], *, x: str, level: float | None = None) -> str:
    """A bar from the lowest to the highest value, with a dot at the middle one, for each name; ``level`` is dashed."""
    with _chart(x, "") as (axes, svg):
        if level is not None:
            axes.axvline(level, color=INK, alpha=0.5, linestyle="--", linewidth=1)
        for place, (low, middle, high) in enumerate(ranges.values()):
            colour = COLOURS[place % len(COLOURS)]
            axes.plot([low, high], [place, place], color=colour, linewidth=6, alpha=0.35, solid_capstyle="butt")
            axes.plot([middle], [place], color=colour, marker="o", markersize=5)
        axes.set_yticks(range(len(ranges)), list(ranges))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
    return svg()


def heat(matrix: NDArray[np.float64], *, x: str, y: str) -> str:
    """A square matrix of values between -1 and 1."""
    with _chart(x, y) as (axes, svg):
        image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        axes.grid(visible=False)
        figure = axes.get_figure()
        if isinstance(figure, Figure):
            figure.colorbar(image, ax=axes, shrink=0.85)
    return svg()


def spreads(panels: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float], Sequence[float]]]]) -> str:
    """Panels side by side, each with mean and deviation by code length for each name."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 4.6), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, (title, curves) in zip(axes, panels.items(), strict=True):
            for place, (name, (bits, means, deviations)) in enumerate(curves.items()):
                panel.errorbar(bits, means, yerr=deviations, label=name, marker=_marker(place), markersize=4, capsize=3)
            lengths = sorted({length for bits, _, _ in curves.values() for length in bits})
            panel.set_xscale("log", base=2)
            panel.set_xticks(lengths, [str(length) for length in lengths])
            panel.minorticks_off()
            panel.set(title=title, xlabel="bits")
        axes[0].set_ylabel("lone mAP@all")
        axes[-1].legend(fontsize=9, handlelength=3.5, loc="center left", bbox_to_anchor=(1, 0.5))
        return _svg(figure)


def places(panels: Mapping[str, Mapping[str, tuple[float, float, float]]], *, x: str, y: str) -> str:
    """Panels side by side, each with a marker at (x, y), and the deviation of y, for each name; x is logarithmic."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 3.8), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, (title, dots) in zip(axes, panels.items(), strict=True):
            for place, (name, (across, up, deviation)) in enumerate(dots.items()):
                marker = _marker(place)
                panel.errorbar([across], [up], yerr=[deviation], label=name, marker=marker, linestyle="none", capsize=3)
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            panel.minorticks_off()
            panel.set(title=title, xlabel=x)
        axes[0].set_ylabel(y)
        names = axes[0].get_legend_handles_labels()  # of the first panel: another may have nothing to show
        axes[-1].legend(*names, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
        return _svg(figure)


def rows_of_dots(panels: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], *, x: str) -> str:
    """Panels side by side; in each a line for every row, with the dots of each group's values on it.

    Several groups are shown on the whole scale from 0 to 1, a single one as closely as its rows differ.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 3.4), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for panel, (title, groups) in zip(axes, panels.items(), strict=True):
            for name, rows in groups.items():
                dots = [(value, place) for place, values in enumerate(rows.values()) for value in values]
                panel.plot(*zip(*dots, strict=True), linestyle="none", marker="o", markersize=5, alpha=0.7, label=name)
                panel.set_yticks(range(len(rows)), list(rows))
            panel.set(title=title, xlabel=x, xlim=(0, 1) if len(groups) > 1 else None)
        axes[0].invert_yaxis()
        axes[-1].legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
        return _svg(figure)


def _marker(place: int) -> str:
    """Of the curve or dot at a place: another one where colours begin anew, so that no two look alike."""
    return MARKERS[place // len(COLOURS) % len(MARKERS)]


def coloured(svg: str, colour: str) -> str:
    """The chart with another text colour than that of the page around it, for a file of its own."""
    return svg.replace("currentColor", colour)


@contextmanager
def _chart(x: str, y: str) -> Iterator[tuple[Axes, "SvgOf"]]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 3.3), layout="constrained")
        axes = figure.subplots()
        axes.set(xlabel=x, ylabel=y)
        yield axes, SvgOf(figure)


class SvgOf:
    """The finished chart of a figure, when called."""

    def __init__(self, figure: Figure) -> None:
        self._figure = figure

    def __call__(self) -> str:
        """SVG text."""
        with mpl.rc_context(STYLE):
            return _svg(self._figure)


def _svg(figure: Figure) -> str:
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")
