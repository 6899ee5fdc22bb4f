"""What the cells of a comparison came to, read one at a time and kept small: numbers for each run, not for each row.

A cell's tables are read as a stream, so that a comparison of a hundred cells needs no more memory than one of ten, but
for the few hundred numbers that the report shows of each run.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy import stats

from ...robots import PURPOSES, InputError
from ..files import read_json
from ..health import DiscriminatorHealth
from ..reaching import Reached
from .matrix import Matrix
from .scale import Scale, common_scale

THRESHOLD = 0.9  # of the expert's score, that steps are counted to
_spearman: Any = stats.spearmanr  # whose result SciPy types as nothing
_HEALTH = ("accuracy_expert", "accuracy_learner", "discriminator_entropy", "discriminator_slope", "gradient_penalty")
REPORTED = ("step", "run", "reward", *_HEALTH)
"""The columns of `metrics.csv` that reports are made of."""


@dataclasses.dataclass(frozen=True)
class CellResult:
    """One finished cell of R runs with P evaluations, or one that was ``stopped`` after so many of its steps.

    ``final`` (R,) are the scores of the last three evaluations (returns where there is no ``scored``), ``returns``
    (R,) the same of returns. ``steps`` and ``scores`` (P, R) are the curve over all environment steps but those of
    evaluation, ``mean_returns`` (P, R) what its scores are of; ``updates`` (P,) are the training's own steps.
    ``purposes`` are steps a run by purpose. ``health`` are means of the last tenth of the training; ``warnings`` what
    the discriminator's health had to say. ``reward_rank`` (R,) is Spearman's rank correlation of the mean learned
    reward with the return over the evaluations, if the reward was learned. ``references`` are the returns that it is
    scored by, ``scale`` those that it knew of itself.
    """

    name: str
    seeds: tuple[int, ...]
    scored: bool
    final: NDArray[np.float64]
    returns: NDArray[np.float64]
    successes: NDArray[np.float64] | None
    steps: NDArray[np.float64]
    updates: NDArray[np.float64]
    scores: NDArray[np.float64]
    mean_returns: NDArray[np.float64]
    purposes: dict[str, float]
    seconds: float
    health: dict[str, float]
    warnings: tuple[str, ...]
    reward_rank: NDArray[np.float64] | None
    references: tuple[float | None, float | None]
    stopped: tuple[int, int] | None
    about: dict[str, Any]
    values: dict[str, Any]
    path: Path

    @property
    def scale(self) -> Scale:
        """What the training scored itself by."""
        return Scale.of(self.name, self.values, self.about)

    def scored_by(self, scale: Scale) -> CellResult:
        """The same with scores of another scale, made of its returns."""
        if self.scored and scale.same(self.scale):
            return self  # to the digit as it said itself
        return dataclasses.replace(
            self,
            scored=True,
            final=scale.score(self.returns),
            scores=scale.score(self.mean_returns),
            references=(scale.random, scale.expert),
        )


@dataclasses.dataclass(frozen=True)
class LearnerResult:
    """All finished runs of a learner on a task, in the order of their seeds."""

    task: str
    learner: str
    cells: tuple[CellResult, ...]

    @property
    def final(self) -> NDArray[np.float64]:
        """Final scores (R,)."""
        return np.concatenate([cell.final for cell in self.cells])

    @property
    def returns(self) -> NDArray[np.float64]:
        """Final returns (R,)."""
        return np.concatenate([cell.returns for cell in self.cells])

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the runs."""
        return tuple(seed for cell in self.cells for seed in cell.seeds)

    @property
    def acts(self) -> bool:
        """Whether it takes environment steps: a learner that only clones has no curve over them."""
        return any(cell.steps.any() for cell in self.cells)

    @property
    def length(self) -> int:
        """The training's own steps of a run: of the policy in training, or updates of one that only clones."""
        return max(int(cell.updates[-1]) for cell in self.cells)

    @property
    def stopped(self) -> tuple[int, int] | None:
        """After how many steps of how many the first of its trainings was stopped, if any was."""
        return min((cell.stopped for cell in self.cells if cell.stopped is not None), default=None)

    @property
    def reached(self) -> Reached:
        """The steps until each run first had 0.9 of the expert's score."""
        parts = [Reached.of(cell.steps, cell.scores, THRESHOLD) for cell in self.cells]
        return Reached(np.concatenate([p.steps for p in parts]), np.concatenate([p.yes for p in parts]))

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Steps (P,), the mean over runs, and scores (P, R), of the evaluations that all cells have."""
        points = min(len(cell.scores) for cell in self.cells)
        steps = np.concatenate([cell.steps[:points] for cell in self.cells], axis=1).mean(1)
        return steps, np.concatenate([cell.scores[:points] for cell in self.cells], axis=1)

    def purposes(self) -> dict[str, float]:
        """Environment steps a run by purpose, the mean over runs."""
        runs = np.array([len(cell.final) for cell in self.cells])
        return {p: float(np.average([cell.purposes[p] for cell in self.cells], weights=runs)) for p in PURPOSES}

    def run(self, index: int) -> tuple[CellResult, int]:
        """The cell of a run, and its number there."""
        for cell in self.cells:
            if index < len(cell.final):
                return cell, index
            index -= len(cell.final)
        raise IndexError(index)


def read_results(matrix: Matrix) -> list[LearnerResult]:
    """Every learner with a finished cell, task after task, in the plan's order, all of a task on the same scale.

    Errors: :class:`InputError` for a damaged run directory, by its path, and as :func:`common_scale`.
    """
    found: list[LearnerResult] = []
    for task in matrix.plan.tasks:
        cells = {
            learner.label: [
                read_cell(cell.name, matrix.path(cell))
                for cell in matrix.of(task, learner.label)
                if matrix.state(cell) == "finished"
            ]
            for learner in matrix.plan.learners
        }
        scale = common_scale(task, [cell.scale for each in cells.values() for cell in each])
        for learner, each in cells.items():
            if each:
                read = tuple(cell if scale is None else cell.scored_by(scale) for cell in each)
                found.append(LearnerResult(task, learner, read))
    return found


def read_cell(name: str, path: Path) -> CellResult:
    """A finished run directory. Errors: :class:`InputError` when it is damaged."""
    result, about = read_json(path / "result.json"), read_json(path / "run.json")
    try:
        values: dict[str, Any] = yaml.safe_load((path / "config.yaml").read_text())
        updates, steps, scores, mean_returns, scored = _curve(path / "evaluations.csv")
        runs = steps.shape[1]
        final = (result["score"] or result["return"])["runs"]
        health, warnings, rewards = _health(path / "metrics.csv", runs)
        success = result.get("success")
        references = about.get("references", {})
        return CellResult(
            name=name,
            seeds=tuple(int(values["seed"]) + k for k in range(runs)),
            scored=scored,
            final=np.asarray(final, np.float64),
            returns=np.asarray(result["return"]["runs"], np.float64),
            successes=None if success is None else np.asarray(success["runs"], np.float64),
            steps=steps,
            updates=updates,
            scores=scores,
            mean_returns=mean_returns,
            purposes={purpose: float(result["steps"][purpose]) for purpose in PURPOSES},
            seconds=float(result["seconds"]),
            health=health,
            warnings=warnings,
            reward_rank=_rank(updates, scores, rewards) if values["reward"].get("kind") not in _NOT_LEARNED else None,
            references=(references.get("random"), references.get("expert")),
            stopped=(int(result["stopped"]["step"]), int(result["stopped"]["of"])) if "stopped" in result else None,
            about=about,
            values=values,
            path=path,
        )
    except (OSError, KeyError, TypeError, ValueError, IndexError, yaml.YAMLError) as error:
        raise InputError(f"the run in {path} is damaged ({type(error).__name__}: {error}): restore it") from error


def data_of(values: Mapping[str, Any]) -> str:
    """What a configuration learns from, in a few words: the name of the data, and what is taken of them."""
    data = values.get("data") or {}
    if data.get("name") is None:
        return ""
    chosen = [f"{key}={value}" for key, value in data.items() if key != "name" and value not in (None, [])]
    return f"{Path(str(data['name'])).name} {' '.join(chosen)}".strip()


_NOT_LEARNED = (None, "none", "task", "constant", "implicit")


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="") as file:
        yield from csv.DictReader(file)


def _curve(
    path: Path,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], bool]:
    """Steps of the training (P,), environment steps, mean scores and returns (P, R), and whether there are scores."""
    sums: dict[tuple[int, int], list[float]] = {}
    scored = True
    for row in _rows(path):
        scored = scored and bool(row["score"])
        point = sums.setdefault((int(row["step"]), int(row["run"])), [0.0, 0.0, 0.0, float(row["environment_steps"])])
        point[0] += 1
        point[1] += float(row["return"])
        point[2] += float(row["score"] or 0)
    at = sorted({step for step, _ in sums})
    runs = 1 + max(run for _, run in sums)
    table = np.array([[sums[step, run] for run in range(runs)] for step in at])
    returns, scores = (table[..., column] / table[..., 0] for column in (1, 2))
    return np.array(at, np.float64), table[..., 3], scores if scored else returns, returns, scored


def _health(path: Path, runs: int) -> tuple[dict[str, float], tuple[str, ...], list[tuple[int, int, float]]]:
    """Health metrics of the last tenth, warnings of the whole, and (step, run, reward) of every row that has one."""
    watch, warnings, rewards = DiscriminatorHealth(runs), list[str](), list[tuple[int, int, float]]()
    rows = list[dict[str, float]]()
    kept: list[dict[str, float]] = []
    for row in _rows(path):
        step, run = int(row["step"]), int(row["run"])
        if row.get("reward"):
            rewards.append((step, run, float(row["reward"])))
        found = {name: float(row[name]) for name in _HEALTH if row.get(name)}
        if not found:
            continue
        rows.append(found)
        if run == runs - 1:
            if len(rows) == runs:
                names = set.intersection(*(set(each) for each in rows))
                together = {name: [each[name] for each in rows] for name in names}
                warnings += [f"step {step:,}: {warning}" for warning in watch.check(together)]
                kept.append({name: float(np.mean(values)) for name, values in together.items()})
            rows.clear()
    tail = kept[-max(1, len(kept) // 10) :]
    means = {name: float(np.mean([row[name] for row in tail])) for name in _HEALTH if tail and name in tail[0]}
    return means, tuple(warnings), rewards


def _rank(
    updates: NDArray[np.float64], scores: NDArray[np.float64], rewards: list[tuple[int, int, float]]
) -> NDArray[np.float64] | None:
    """Spearman's correlation (R,) of the mean reward since the evaluation before with the score; nan if too few."""
    if not rewards or len(updates) < 4:
        return None
    table = np.array(rewards)
    found = np.full(scores.shape[1], np.nan)
    for run in range(scores.shape[1]):
        own = table[table[:, 1] == run]
        places = np.searchsorted(updates, own[:, 0])
        means = np.array([own[places == k, 2].mean() if (places == k).any() else np.nan for k in range(len(updates))])
        known = np.isfinite(means)
        if known.sum() >= 4 and np.ptp(means[known]) > 0 and np.ptp(scores[known, run]) > 0:
            found[run] = float(_spearman(means[known], scores[known, run]).statistic)
    return found
