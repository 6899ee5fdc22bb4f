"""The life of a run: advance, log, evaluate, checkpoint, stop and resume. The same for every learner."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..robots import PURPOSES, InputError
from .checkpoint import save_checkpoint
from .evaluation import FIRST_SEED, Evaluation, evaluate
from .files import write_json
from .health import DiscriminatorHealth
from .run_log import RunLog
from .training import State, Training

logger = logging.getLogger(__name__)
FINAL_EVALUATIONS = 3


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """How often things happen, in steps of the training (environment steps per run, or updates offline)."""

    evaluate_every: int = 10_000
    evaluation_episodes: int = 20
    checkpoint_every: int = 25_000
    log_every: int = 1_000
    keep_checkpoints: int = 2


@dataclasses.dataclass(frozen=True)
class References:
    """Returns of a random policy and of the expert, by which scores are normalised; none when unknown."""

    random: float | None
    expert: float | None

    def score(self, returns: np.ndarray) -> np.ndarray | None:
        """(return − random) / (expert − random), or none when a reference is unknown."""
        if self.random is None or self.expert is None:
            return None
        return (returns - self.random) / (self.expert - self.random)


@dataclasses.dataclass(frozen=True)
class Point:
    """One evaluation: training ``step``, total environment steps per run (R,), returns (R, E).

    ``successes`` are the shares of successful episodes (R,), where the task says what success is.
    """

    step: int
    environment_steps: tuple[int, ...]
    returns: np.ndarray
    successes: tuple[float, ...] | None = None


@dataclasses.dataclass
class Progress:
    """How a run stands. ``stopped`` says why it ended early, if it did."""

    step: int = 0
    seconds: float = 0.0
    points: list[Point] = dataclasses.field(default_factory=list[Point])
    evaluation_steps: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    stopped: str | None = None

    def final_returns(self) -> np.ndarray:
        """Per run (R,), the mean return of the last three evaluations: never the best ones."""
        return np.mean([point.returns.mean(1) for point in self.points[-FINAL_EVALUATIONS:]], axis=0)

    def final_successes(self) -> np.ndarray | None:
        """Per run (R,), the mean share of successful episodes of the last three evaluations, if the task has such."""
        shares = [point.successes for point in self.points[-FINAL_EVALUATIONS:] if point.successes is not None]
        return np.mean(shares, axis=0) if shares else None


Report = Callable[[Progress, Mapping[str, list[float]]], None]


class Run:
    """A training in a run directory."""

    def __init__(self, training: Training, directory: Path, config: FitConfig, references: References) -> None:
        self.training, self.directory = training, directory
        self.config, self.references = config, references
        self.progress = Progress(evaluation_steps=np.zeros(len(training.seeds), np.int64))
        self._resumed_at: int | None = None
        self._unlogged: dict[str, Tensor] = {}  # the newest of each metric since the last row of the log

    def resume(self, state: State) -> None:
        """Continue from a checkpoint."""
        try:
            self.training.set_state(State(state.tensors, state.values["training"]))
        except (KeyError, RuntimeError, ValueError, TypeError, IndexError) as error:
            raise InputError(
                f"the checkpoint in {self.directory} is not of what its config.yaml says: {error}"
            ) from error
        kept = state.values["progress"]
        points = [
            Point(
                p["step"],
                tuple(p["environment_steps"]),
                np.asarray(p["returns"]),
                None if p.get("successes") is None else tuple(p["successes"]),
            )
            for p in kept["points"]
        ]
        self.progress = Progress(
            step=self.training.steps,
            seconds=kept["seconds"],
            points=points,
            evaluation_steps=np.asarray(kept["evaluation_steps"], np.int64),
        )
        self._resumed_at = self.training.steps
        self._unlogged = {name: torch.tensor(value) for name, value in kept["unlogged"].items()}
        # What belongs to the end (the last choice, the last evaluation) is made there, so it must not lie behind.
        finished = kept.get("total", points[-1].step if points else None) == self.training.steps
        if self.training.steps > self.training.total or (self.training.steps == self.training.total and not finished):
            raise InputError(f"the run is at step {self.training.steps} already: give a larger steps=")

    def fit(self, report: Report, stop: Callable[[], str | None]) -> Progress:
        """Train to the end, or until ``stop`` gives a reason; a checkpoint is written first either way.

        ``report`` is called after each piece of work with the progress and the metrics logged there, each (R,).
        """
        training, config = self.training, self.config
        log = RunLog(self.directory, resume_at=self._resumed_at)
        health = DiscriminatorHealth(len(training.seeds))
        started = time.monotonic() - self.progress.seconds
        try:
            while training.steps < training.total and self.progress.stopped is None:
                before = training.steps
                self._unlogged.update(training.advance())
                step = self.progress.step = training.steps
                logged: dict[str, list[float]] = {}
                due = _passed(before, step, config.checkpoint_every) or step >= training.total
                self.progress.stopped = stop()
                saving = due or self.progress.stopped is not None
                if _passed(before, step, config.log_every) or saving:
                    values = {name: value.tolist() for name, value in self._unlogged.items()}
                    self._check_finite(values)
                    if _passed(before, step, config.log_every):
                        logged = values
                        self._unlogged.clear()
                        log.metrics(step, logged)
                        for warning in health.check(logged):
                            logger.warning("step %d: %s", step, warning)
                if _passed(before, step, config.evaluate_every) or step >= training.total:
                    self._evaluate(log)
                self.progress.seconds = time.monotonic() - started
                if saving:
                    log.flush()
                    self.save()
                report(self.progress, logged)
        finally:
            log.close()
        return self.progress

    def save(self) -> Path:
        """Write a checkpoint of everything."""
        state = self.training.state()
        progress = {
            "seconds": self.progress.seconds,
            "total": self.training.total,
            "evaluation_steps": self.progress.evaluation_steps.tolist(),
            "unlogged": {name: value.tolist() for name, value in self._unlogged.items()},
            "points": [
                {
                    "step": p.step,
                    "environment_steps": list(p.environment_steps),
                    "returns": p.returns.tolist(),
                    "successes": p.successes,
                }
                for p in self.progress.points
            ],
        }
        values: dict[str, Any] = {"training": state.values, "progress": progress}
        keep = self.config.keep_checkpoints
        return save_checkpoint(self.directory, self.training.steps, State(state.tensors, values), keep=keep)

    def save_policies(self, training: Mapping[str, Any]) -> Path:
        """Write `policies/run-<k>/` for every run, and `policy/`, that of the :meth:`best_run`."""
        final, (chosen, _) = self.progress.final_returns(), self.best_run()
        for run, seed in enumerate(self.training.seeds):
            about = {
                **training, "run": run, "seed": seed, "steps": self.training.steps,
                "random_return": self.references.random, "expert_return": self.references.expert,
                "final_return": float(final[run]),
            }  # fmt: skip
            policy = self.training.policy(run, about)
            policy.save_pretrained(self.directory / "policies" / f"run-{run}")
            if run == chosen:
                policy.save_pretrained(self.directory / "policy")
        return self.directory / "policy"

    def best_run(self) -> tuple[int, str]:
        """The run whose policy is put forward, and by what: the learner's own measure if it has one."""
        ranking = self.training.ranking()
        if ranking is not None:
            return int(np.argmin(ranking)), "the best by the measure that chose it"
        return int(np.argmax(self.progress.final_returns())), "the best final return"

    def step_counts(self) -> dict[str, np.ndarray]:
        """Environment steps by purpose, each (R,)."""
        counts = self.training.step_counts()
        counts["evaluation"] = counts["evaluation"] + self.progress.evaluation_steps
        return counts

    def _evaluate(self, log: RunLog) -> Evaluation:
        training = self.training
        device = getattr(training, "device", torch.device("cpu"))
        runs = len(training.seeds)
        episodes = self.config.evaluation_episodes
        controller = training.controller(range(FIRST_SEED, FIRST_SEED + episodes))
        result = evaluate(controller, training.task, runs, episodes, device=device)
        self.progress.evaluation_steps = self.progress.evaluation_steps + result.steps
        counts = training.step_counts()
        total = sum(counts[name] for name in PURPOSES if name != "evaluation")
        assert isinstance(total, np.ndarray)
        successes = None if result.successes is None else tuple(result.successes.mean(1).tolist())
        self.progress.points.append(Point(training.steps, tuple(total.tolist()), result.returns, successes))
        log.evaluation(training.steps, result, self.references.score(result.returns), total)
        return result

    def _check_finite(self, metrics: Mapping[str, list[float]]) -> None:
        bad = [name for name, values in metrics.items() if not np.isfinite(values).all()]
        if bad:
            path = self.directory / "diverged.json"
            write_json(path, {"step": self.training.steps, "metrics": {k: str(v) for k, v in metrics.items()}})
            raise DivergedError(
                f"the training diverged at step {self.training.steps} ({', '.join(bad)} not finite; see {path}): "
                "start anew with a lower agent.learning_rate or reward.learning_rate, or a smaller reward.scale"
            )


class DivergedError(InputError):
    """A metric is NaN or infinite."""

    code = 1


def _passed(before: int, now: int, every: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, now]."""
    return every > 0 and now // every > before // every
