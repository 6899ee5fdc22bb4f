"""What `train` shows: progress on the way, and a table, a curve and a line of JSON at the end."""

from __future__ import annotations

import collections
import io
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from ..imitation.files import write_bytes
from ..imitation.fit import Progress, Run
from ..imitation.statistics import mean_summary, summary
from ..robots import PURPOSES


class Reporter:
    """Shows how a run goes: a bar with rate and time left on a terminal, a line per evaluation elsewhere."""

    def __init__(self, run: Run, values: Mapping[str, Any], notes: Sequence[str], *, quiet: bool) -> None:
        self._run, self._quiet = run, quiet
        self._console = Console(markup=False, highlight=False, soft_wrap=True)
        self._first = run.training.steps
        self._passed = collections.deque([(time.monotonic(), self._first)])  # when, and at which step
        self._shown = len(run.progress.points)
        self._last_line = time.monotonic()
        self._bar: Bar | None = None
        if not quiet:
            runs, data = len(run.training.seeds), values["data"]["name"]
            source = f" from {data}" if data else ""
            self._console.print(f"{values['learner']} on {values['task']}{source}, {runs} runs -> {run.directory}")
            for note in notes:
                self._console.print(f"  {note}")

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"), BarColumn(), TaskProgressColumn(),
                TextColumn("{task.fields[rate]:.0f} steps/s"), TimeElapsedColumn(),
                TextColumn("{task.fields[left]} left"), console=self._console,
            )  # fmt: skip
            total = self._run.training.total
            self._task = self._bar.add_task("", total=total, completed=self._first, rate=0.0, left="?")
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress, metrics: Mapping[str, list[float]]) -> None:
        """After each piece of work."""
        if self._quiet:
            return
        rate = self._rate(progress.step)
        left = _clock((self._run.training.total - progress.step) / max(rate, 1e-9))
        if self._bar is not None:
            self._bar.update(self._task, completed=progress.step, rate=rate, left=left)
        for point in progress.points[self._shown :]:
            scores = self._run.references.score(point.returns.mean(1))
            shown = point.returns.mean(1) if scores is None else scores
            name = "return" if scores is None else "score"
            words = f"step {point.step:,}: {name} {' '.join(f'{value:.2f}' for value in shown)}"
            if point.successes is not None:
                words += f" · success {' '.join(f'{share:.2f}' for share in point.successes)}"
            self._console.print(f"{words} · {rate:.0f} steps/s · {left} left")
        if self._bar is None and len(progress.points) == self._shown and time.monotonic() - self._last_line > 60:
            self._console.print(f"step {progress.step:,} · {rate:.0f} steps/s · {left} left")
            self._last_line = time.monotonic()
        if len(progress.points) > self._shown:
            self._shown, self._last_line = len(progress.points), time.monotonic()
        sys.stdout.flush()

    def _rate(self, step: int) -> float:
        """Steps per second of the last minute: the first ones make no updates, and say nothing of the rest."""
        now = time.monotonic()
        while len(self._passed) > 1 and now - self._passed[0][0] > 60:
            self._passed.popleft()
        since, first = self._passed[0]
        if now - self._passed[-1][0] > 1:
            self._passed.append((now, step))
        return (step - first) / max(now - since, 1e-9)


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
    )


def table(run: Run, directory: Path) -> None:
    """Print the final table: a row per run and the interquartile mean over runs."""
    console = Console(markup=False, highlight=False)
    returns = run.progress.final_returns()
    scores = run.references.score(returns)
    counts = run.step_counts()
    purposes = [purpose for purpose in PURPOSES if counts[purpose].any()]
    made = run.training.made()
    grid = Table(title="final: mean of the last three evaluations; environment steps by purpose")
    for name in ("run", "seed", "score", "return", *purposes, *made):
        grid.add_column(name, justify="right")
    for k, seed in enumerate(run.training.seeds):
        score = "-" if scores is None else f"{scores[k]:.3f}"
        steps = (f"{counts[purpose][k]:,}" for purpose in purposes)
        others = (f"{counted[k]:,}" for counted in made.values())
        grid.add_row(str(k), str(seed), score, f"{returns[k]:.1f}", *steps, *others)
    of_returns = summary(returns)
    of_scores = None if scores is None else summary(scores)
    grid.add_section()
    grid.add_row(
        "IQM", "",
        "-" if of_scores is None else f"{of_scores.iqm:.3f}",
        f"{of_returns.iqm:.1f}",
        *(f"{counts[purpose].mean():,.0f}" for purpose in purposes),
        *(f"{counted.mean():,.0f}" for counted in made.values()),
    )  # fmt: skip
    console.print(grid)
    for name, found, digits in (("score", of_scores, 3), ("return", of_returns, 1)):
        if found is not None:
            interval = f", 95 % interval {found.low:.{digits}f} to {found.high:.{digits}f}"
            # One run says nothing of how far others would be from it.
            console.print(f"{name} IQM {found.iqm:.{digits}f}{interval if len(returns) > 1 else ', of one run'}")
    successes = run.progress.final_successes()
    if successes is not None:
        shares = " ".join(f"{share:.2f}" for share in successes)
        console.print(f"success {shares}, mean {successes.mean():.2f}: {run.training.task.succeeds} at some step")
    best, why = run.best_run()
    lines = (
        f"time {_clock(run.progress.seconds)}",
        f"curve {directory / 'learning_curve.png'}",
        f"policy {directory / 'policy'} (run {best}, {why})",
    )
    for line in lines:
        console.print(line, soft_wrap=True)


def result(run: Run, directory: Path, policy: Path) -> dict[str, Any]:
    """What the last line of `train` says. Steps are per run (their mean over runs, where runs differ)."""
    returns = run.progress.final_returns()
    scores = run.references.score(returns)
    counts = run.step_counts()
    successes = run.progress.final_successes()
    return {
        "score": None if scores is None else summary(scores).to_json(),
        "return": summary(returns).to_json(),
        **({} if successes is None else {"success": {**mean_summary(successes), "runs": successes.tolist()}}),
        "steps": {purpose: round(float(counts[purpose].mean())) for purpose in PURPOSES},
        **{name.replace(" ", "_"): round(float(made.mean())) for name, made in run.training.made().items()},
        "seconds": round(run.progress.seconds, 1),
        "run": str(directory),
        "policy": str(policy),
    }


def learning_curve(run: Run, path: Path, title: str) -> None:
    """Draw score (or return) over total environment steps: each run thin, the interquartile mean thick."""
    import matplotlib  # slow to import, and only needed here

    matplotlib.use("Agg")
    from matplotlib import pyplot

    points = run.progress.points
    environment = np.array([point.environment_steps for point in points])
    offline = not environment.any()
    steps = np.array([[point.step] for point in points]) * np.ones_like(environment) if offline else environment
    values = np.array([point.returns.mean(1) for point in points])
    scored = run.references.score(values)
    shown = values if scored is None else scored
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for k in range(shown.shape[1]):
        axes.plot(steps[:, k], shown[:, k], color="C0", alpha=0.35, linewidth=1)
    axes.plot(steps.mean(1), [summary(row).iqm for row in shown], color="C0", linewidth=2.5, label="IQM")
    if scored is not None:
        axes.axhline(1.0, color="grey", linestyle="--", linewidth=1, label="expert")
    axes.set_xlabel("updates" if offline else "environment steps per run (all but evaluation)")
    axes.set_ylabel("return" if scored is None else "normalised score")
    axes.set_title(title)
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120)
    pyplot.close(figure)
    write_bytes(path, picture.getvalue())
