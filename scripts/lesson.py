"""What demonstrations will teach, shown: in the terminal, and as a page with plots."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import Demonstrations, Parts, load, task_named
from ..datasets.findings import Report
from ..datasets.quality import Quality, measure, recommend
from ..robots import Task
from .terminal import progress

_BARS, _WIDE = 8, 40
_POINTS = 5_000  # of the scatter plot
_UPDATES = 3_000
UNMEASURED = "quality is not measured while there are errors"
_SAID = {
    "trajectory_quality": "return between random (0) and expert (1)",
    "coverage": "share of states and actions visited (SACo), against as many rows spread evenly",
    "action_noise": "share of the actions' variance that the state does not explain",
    "transition_diversity": "share of the changes' variance that state and action do not explain",
    "multimodality": "share of states in which the actions fall into two groups",
    "reached_end": "share of episodes that did not end early",
}


@dataclasses.dataclass(frozen=True)
class Lesson:
    """The demonstrations, their quality, a trial of cloning if they have actions, and a recommendation."""

    demonstrations: Demonstrations
    quality: Quality
    trial: dict[str, Any] | None
    learner: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        recommended = {"learner": self.learner, "reason": self.reason}
        return {"quality": self.quality.to_json(), "trial": self.trial, "recommendation": recommended}


def learn(names: Sequence[str], task: Task | None, parts: Parts, *, quiet: bool) -> Lesson:
    """Measure, and try cloning. Errors: :class:`~understudy.robots.InputError` as :func:`load`'s."""
    demonstrations = load(names, task, parts=parts)
    task = task or task_named(demonstrations)
    random = demonstrations.random_return if demonstrations.random_return is not None else task.random_return
    expert = task.expert_return if task.expert_return is not None else demonstrations.expert_return
    quality = measure(demonstrations, random, expert)
    trial, cloned = None, None
    if demonstrations.acted:
        from ..imitation.trial import try_cloning  # loads torch, which takes seconds

        with progress("trying a small cloning", _UPDATES, quiet=quiet) as advance:
            found = try_cloning(task, demonstrations, random, expert, updates=_UPDATES, advance=advance)
        trial, cloned = found.to_json(), found.score
    states = demonstrations.snapshot(0) is not None or demonstrations.episode_seeds is not None
    learner, reason = recommend(
        quality, acted=demonstrations.acted, states=states, goal=task.goal is not None, cloned=cloned
    )
    return Lesson(demonstrations, quality, trial, learner, reason)


def show(lesson: Lesson) -> None:
    """Print it."""
    print("\nreturns of episodes")
    for line in histogram(lesson.demonstrations.episode_returns):
        print(f"  {line}")
    print("lengths of episodes")
    for line in histogram(lesson.demonstrations.episode_lengths):
        print(f"  {line}")
    print()
    for name, said in _SAID.items():
        value = getattr(lesson.quality, name)
        print(f"  {name:21} {'unknown' if value is None else format(value, '.3f'):>8}  {said}")
    if lesson.trial is not None:
        for line in _tried(lesson.trial):
            print(f"  {line}")
    print(f"\ntry learner={lesson.learner}: {lesson.reason}")


def _tried(trial: dict[str, Any]) -> list[str]:
    lines = [
        f"{'cloned':21} {np.mean(trial['returns']):8.1f}  mean return of a small cloning, {trial['updates']} updates"
    ]
    if trial["action_divergence"] is not None:
        said = "its squared error on episodes held out, of the actions' variance"
        lines.append(f"{'action_divergence':21} {trial['action_divergence']:8.3f}  {said}")
    return lines


def histogram(values: np.ndarray) -> list[str]:
    """Bars of how many values lie where, a line each."""
    values = np.asarray(values, np.float64)
    if np.isnan(values).any():
        return ["not known, for there are no rewards"]
    if values.min() == values.max():
        return [f"{values[0]:10.1f}  {'#' * _WIDE} {len(values)}"]
    counts, edges = np.histogram(values, bins=min(_BARS, max(2, len(values))))
    bars = np.ceil(_WIDE * counts / counts.max()).astype(int)
    return [f"{low:10.1f} to {high:10.1f}  {'#' * bar:{_WIDE}} {count}" for low, high, bar, count in
            zip(edges[:-1], edges[1:], bars, counts, strict=True)]  # fmt: skip


def write_page(path: Path, reports: Sequence[Report], lesson: Lesson | None) -> None:
    """An HTML page that stands by itself, and with a lesson its plots as a PNG file of the same name.

    What was found stands at the top, errors first; without a lesson the page is of that alone.

    Errors: :class:`~understudy.robots.InputError` when the disk refuses.
    """
    from ..imitation.files import write_bytes

    taught = ""
    if lesson is not None:
        picture = _plots(lesson)
        write_bytes(path.with_suffix(".png"), picture)
        taught = _taught(lesson, picture)
    write_bytes(path, _page(reports, taught).encode())


def _rows(pairs: Mapping[str, Any]) -> str:
    return "".join(
        f"<tr><td>{html.escape(str(name))}</td><td>{html.escape(str(value))}</td></tr>" for name, value in pairs.items()
    )


def _page(reports: Sequence[Report], taught: str) -> str:
    title = html.escape(" and ".join(report.source for report in reports))
    found, arrays = "", ""
    for report in reports:
        named = f" in {html.escape(report.source)}" if len(reports) > 1 else ""
        findings = "".join(
            f"<li class={f.severity}><b>{f.severity} {f.check}</b> {html.escape(f.message)}; "
            f"{html.escape(f.training)}</li>"
            for f in report.findings
        )
        found += f"<h2>Findings{named}</h2><ul>{findings or '<li>nothing was found</li>'}</ul>\n"
        arrays += f"<h2>Arrays{named}</h2><table>{_rows(report.schema)}</table>\n"
    return f"""<!doctype html><meta charset=utf-8><title>{title}</title>
<style>body{{font:16px sans-serif;max-width:60em;margin:2em auto}}td{{padding:.1em 1em .1em 0}}img{{max-width:100%}}
.error b{{color:#b00}}.warning b{{color:#b60}}</style>
<h1>{title}</h1>
{found}{taught or f"<p>{UNMEASURED}.</p>"}
{arrays}"""


def _taught(lesson: Lesson, picture: bytes) -> str:
    measures = {f"{name} ({said})": getattr(lesson.quality, name) for name, said in _SAID.items()}
    shown = {k: "unknown" if v is None else f"{v:.3f}" for k, v in measures.items()}
    trial = {} if lesson.trial is None else {"a small cloning returns": f"{np.mean(lesson.trial['returns']):.1f}"}
    embedded = base64.b64encode(picture).decode()
    return f"""<p>Try <code>learner={html.escape(lesson.learner)}</code>: {html.escape(lesson.reason)}.</p>
<h2>What they will teach</h2><table>{_rows(shown | trial)}</table>
<p><img alt="returns, lengths, states visited and actions" src="data:image/png;base64,{embedded}"></p>"""


def _plots(lesson: Lesson) -> bytes:
    from matplotlib.figure import Figure

    demonstrations = lesson.demonstrations
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes: Any = figure.subplots(2, 2)
    axes[0, 0].hist(demonstrations.episode_returns[np.isfinite(demonstrations.episode_returns)], bins=20)
    axes[0, 0].set(xlabel="return", ylabel="episodes")
    axes[0, 1].hist(demonstrations.episode_lengths, bins=20)
    axes[0, 1].set(xlabel="steps", ylabel="episodes")
    rows = np.linspace(0, len(demonstrations) - 1, min(_POINTS, len(demonstrations))).astype(int)
    states = demonstrations.observations[rows].astype(np.float64)
    states = (states - states.mean(0)) / (states.std(0) + 1e-8)
    plane = states @ np.linalg.svd(states, full_matrices=False)[2][:2].T
    if plane.shape[1] == 2:
        axes[1, 0].scatter(*plane.T, c=demonstrations.times[rows], s=2)
    axes[1, 0].set(xlabel="states: direction of most variance", ylabel="of the next most")
    if demonstrations.acted:
        axes[1, 1].hist(list(demonstrations.actions.T), bins=20, stacked=True)
    axes[1, 1].set(xlabel="actions (a colour each)", ylabel="rows")
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=110)
    return target.getvalue()
