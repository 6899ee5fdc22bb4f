"""The scheduler of `understudy compare` beside cells that are not its own: those that a killed comparison has left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from understudy.imitation.adastop import AdaStopConfig
from understudy.imitation.comparison.locks import lock
from understudy.imitation.comparison.matrix import Matrix, Plan, labels
from understudy.scripts.launchers import Job
from understudy.scripts.scheduling import _Scheduler  # pyright: ignore[reportPrivateUsage]


class Endless:
    """A job that goes on and on."""

    def code(self) -> None:
        return None

    def cancel(self) -> None:
        """It has begun."""


class Noting:
    """A launcher that takes note of what it is asked for."""

    slots = 4

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, command: Sequence[str], log: Path) -> Job:
        self.started.append(log.stem)
        return Endless()

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def left_over(tmp_path: Path) -> Matrix:
    """Two cells of a sequential comparison, of which the first is finished."""
    learners = labels(["bc", "mm"])
    options = {("hopper", learner.label): ("x",) for learner in learners}
    test = AdaStopConfig(group=2, stages=3)
    matrix = Matrix(tmp_path, Plan(("hopper",), learners, options, dict.fromkeys(options, 10), None, 0, test), {})
    matrix.extend()
    for each in matrix.cells.values():
        matrix.path(each).mkdir(parents=True)
    finish(matrix, "bc", [100.0, 200.0])
    return matrix


def finish(matrix: Matrix, learner: str, returns: list[float]) -> None:
    found = {"score": None, "return": {"runs": returns}}
    (matrix.path(matrix.of("hopper", learner)[0]) / "result.json").write_text(json.dumps(found))


def test_results_of_cells_that_a_killed_comparison_left_at_work_ask_for_runs(left_over: Matrix) -> None:
    (orphan,) = left_over.of("hopper", "mm")
    launcher = Noting()
    with lock(left_over.path(orphan, ".lock"), "a test"):
        scheduler = _Scheduler(left_over, launcher)
        assert scheduler.step(None)
        assert launcher.started == []
        finish(left_over, "mm", [150.0, 120.0])
    assert scheduler.step(None)
    assert launcher.started == ["seeds-2-3", "seeds-2-3"]


def test_cells_that_a_killed_comparison_left_at_work_are_asked_to_stop(left_over: Matrix) -> None:
    (orphan,) = left_over.of("hopper", "mm")
    with lock(left_over.path(orphan, ".lock"), "a test"):
        scheduler = _Scheduler(left_over, Noting())
        assert scheduler.step(None)
        assert scheduler.step("SIGINT"), "it is waited for until it has its checkpoint"
        assert left_over.path(orphan, ".stop").exists()
    assert not scheduler.step("SIGINT")
    launcher = Noting()
    assert _Scheduler(left_over, launcher).step(None)
    assert launcher.started == ["seeds-0-1"]
    assert not left_over.path(orphan, ".stop").exists()
