"""The report's drawings, as SVG that scales with the page. Small in inches, so that letters stay legible on a phone."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..statistics import Estimate, Scores, Tables, estimate, iqm, profile
from .analysis import TaskAnalysis
from .results import THRESHOLD, LearnerResult

_SIZE = (4.4, 3.0)
_REPETITIONS = 500
_LETTERS = 24
_LINE = 0.17  # inches, of a legend
# Okabe and Ito's colours, which stay apart for the colour-blind, and two more; dashes when there are more learners.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444", "#a0a000", "#882255")
_DASHES = ("-", "--", ":", "-.")


def curves(task: TaskAnalysis, colours: dict[str, int]) -> str:
    """Score over all environment steps: the interquartile mean of the runs with its interval.

    Learners that never act have no steps to draw over: their final score is a line across.
    """
    figure, axes = _axes(legend=[task.name(result.learner) for result in task.results])
    for result in task.results:
        style = _style(colours[result.learner])
        if not result.acts:
            axes.axhline(
                float(iqm([_finals(task, result)])),
                linewidth=1.4,
                label=_short(task.name(result.learner)),
                **style,
                alpha=0.8,
            )
            continue
        steps, scores = result.curve()
        band = _band(scores)
        axes.plot(steps, band.value, linewidth=1.8, label=_short(task.name(result.learner)), **style)
        if scores.shape[1] > 1:
            axes.fill_between(
                steps, band.low, band.high, color=style["color"], alpha=_faint(len(task.results)), linewidth=0
            )
    if task.scored:
        axes.axhline(THRESHOLD, color="#999999", linewidth=0.8, linestyle=":")
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlim(left=0)
    axes.set_xlabel("environment steps per run (all but evaluation)")
    axes.set_ylabel("score" if task.scored else "return")
    axes.xaxis.set_major_formatter(_thousands)
    _legend(figure, axes)
    return _svg(figure, f"curves-{task.task}")


def dots(task: TaskAnalysis, colours: dict[str, int]) -> str:
    """Every run's final score, and each learner's interquartile mean with its interval."""
    figure, axes = _axes(height=max(1.3, 0.75 + 0.33 * len(task.results)))
    for row, (result, summary) in enumerate(zip(task.results, task.summaries, strict=True)):
        colour = _style(colours[result.learner])["color"]
        values = _finals(task, result)
        places = row + np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.array([row])
        axes.plot(values, places, "o", color=colour, alpha=0.45, markersize=4, markeredgewidth=0)
        found = summary.iqm
        axes.plot([found.low, found.high], [row, row], color=colour, linewidth=2)
        axes.plot([found.value], [row], "|", color=colour, markersize=11, markeredgewidth=2.2)
    axes.set_yticks(range(len(task.results)), [_short(task.name(result.learner)) for result in task.results])
    axes.set_ylim(len(task.results) - 0.4, -0.6)
    axes.set_xlabel("final score of each run" if task.scored else "final return of each run")
    axes.grid(visible=False, axis="y")
    return _svg(figure, f"dots-{task.task}")


def profiles(tables: dict[str, Tables], colours: dict[str, int], name: str) -> str:
    """The share of runs above each score, with its interval (a performance profile)."""
    figure, axes = _axes(legend=list(tables))
    top = max(1.1, *(float(table.max()) for rows in tables.values() for table in rows))
    thresholds = np.linspace(0.0, min(top, 2.0), 45)

    def shares(rows: Tables) -> Scores:
        return profile(rows, thresholds)

    for learner, rows in tables.items():
        style = _style(colours[learner])
        found = estimate(shares, rows, repetitions=_REPETITIONS)
        axes.plot(thresholds, found.value, linewidth=1.8, label=_short(learner), drawstyle="steps-post", **style)
        shade = _faint(len(tables))
        axes.fill_between(
            thresholds, found.low, found.high, step="post", color=style["color"], alpha=shade, linewidth=0
        )
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0, thresholds[-1])
    axes.set_xlabel("score τ")
    axes.set_ylabel("share of runs above τ")
    _legend(figure, axes)
    return _svg(figure, name)


def _finals(task: TaskAnalysis, result: LearnerResult) -> Scores:
    return result.final if task.scored else result.returns


def _band(scores: Scores) -> Estimate:
    """The interquartile mean of scores (P, R) at each point (P,), with its interval."""

    def over_runs(tables: Tables) -> Scores:
        return iqm([np.swapaxes(tables[0], -1, -2)])

    return estimate(over_runs, [scores.T], repetitions=_REPETITIONS)


def _style(index: int) -> dict[str, Any]:
    return {"color": _COLOURS[index % len(_COLOURS)], "linestyle": _DASHES[index // len(_COLOURS) % len(_DASHES)]}


def _faint(learners: int) -> float:
    """How strong the shade of an interval may be, so that several on top of each other hide no line."""
    return 0.15 if learners <= 4 else 0.08


def _axes(height: float = _SIZE[1], legend: Sequence[str] = ()) -> tuple[Any, Any]:
    """A drawing of a height in inches, and more for further lines of a legend."""
    from matplotlib.figure import Figure  # slow to import; made without pyplot, it needs no display and no closing

    lines = -(-len(legend) // _columns(legend)) if legend else 1
    figure = Figure(figsize=(_SIZE[0], height + _LINE * (lines - 1)), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(visible=True, color="#e3e6ea", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _short(label: str) -> str:
    """A label that leaves room for the drawing."""
    return label if len(label) <= _LETTERS else f"{label[: _LETTERS - 1]}…"


def _thousands(value: float, _: int) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e3 else f"{value:g}"


def _legend(figure: Any, axes: Any) -> None:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=_columns(names), frameon=False, fontsize=8, columnspacing=1.2
    )


def _columns(names: Sequence[str]) -> int:
    """How many names of a legend stand side by side."""
    longest = max(map(len, map(_short, names)), default=0)
    return max(1, min(len(names), 4, 64 // (longest + 8)))


def _svg(figure: Any, name: str) -> str:
    """The drawing as an `<svg>` element, the same for the same numbers; ``name`` keeps its ids apart from others'."""
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9.5}):
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    # The page has one type face, and says itself how wide a drawing is.
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'font-family:[^;"]*|(?<=px )[^;"]*DejaVu[^;"]*', "sans-serif", svg)
    # Ids of axes and paths are the same in every drawing of matplotlib's, and a page may have an id once.
    short = re.sub(r"\W", "", name)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{short}-\1"', svg)
    return re.sub(r'(href="|url\()#', rf"\1#{short}-", svg)


def numbered(learners: Sequence[str]) -> dict[str, int]:
    """Each learner's colour, the same in every drawing."""
    return {learner: index for index, learner in enumerate(learners)}
