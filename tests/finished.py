"""Run directories as trainings leave them, without the training: for reports of many cells."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import yaml

from understudy.imitation.adastop import AdaStopConfig
from understudy.imitation.comparison.matrix import Cell, Matrix, Plan, labels
from understudy.imitation.statistics import summary
from understudy.robots import PURPOSES

RANDOM, EXPERT = 20.0, 3500.0


def write_run(
    path: Path, task: str, learner: str, *, level: float, speed: float, seed: int = 0, runs: int = 5, points: int = 10,
    episodes: int = 4, expert: float | None = EXPERT, data: str | None = None,
) -> None:  # fmt: skip
    """A finished training whose runs come near ``level`` at a ``speed`` in evaluations; 0 takes no steps.

    It scores itself by ``expert``, or not at all, and its returns are the same whichever that is.
    """
    path.mkdir(parents=True)
    generator = np.random.default_rng([seed, abs(hash_of(task + learner))])
    at = 10_000 * np.arange(1, points + 1)
    finals = level + 0.05 * generator.normal(size=runs)
    rise = 1 - np.exp(-np.arange(1, points + 1)[:, None] / max(speed, 0.01) * generator.uniform(0.7, 1.3, runs))
    scores = (finals * rise)[:, :, None] + 0.03 * generator.normal(size=(points, runs, episodes))
    rows: list[dict[str, object]] = []
    for (point, run, episode), score in np.ndenumerate(scores):
        taken = int(1.2 * at[point]) if speed else 0
        value = RANDOM + score * (EXPERT - RANDOM)
        own = "" if expert is None else f"{(value - RANDOM) / (expert - RANDOM):.6f}"
        rows.append(
            {"step": int(at[point]), "run": run, "episode": episode, "return": f"{value:.6f}", "length": 900,
             "score": own, "environment_steps": taken, "success": ""}
        )  # fmt: skip
    (path / "evaluations.csv").write_text(table(rows))
    metrics = [
        {"step": step, "run": run, "accuracy_expert": 0.9, "accuracy_learner": 0.95, "discriminator_entropy": 0.3,
         "discriminator_slope": 0.8, "reward": f"{generator.normal():.4f}"}
        for step in range(1000, int(at[-1]) + 1, 1000)
        for run in range(runs)
    ]  # fmt: skip
    (path / "metrics.csv").write_text(table(metrics))
    final = scores[-3:].mean((0, 2))
    returns = RANDOM + final * (EXPERT - RANDOM)
    steps = {purpose: 0 for purpose in PURPOSES} | {"evaluation": points * episodes * 900}
    steps |= {"policy": int(at[-1]), "selection": int(0.2 * at[-1])} if speed else {}
    scored = None if expert is None else summary((returns - RANDOM) / (expert - RANDOM)).to_json()
    result = {"score": scored, "return": summary(returns).to_json(), "steps": steps, "seconds": 900.0}
    (path / "result.json").write_text(json.dumps(result))
    about = {
        "versions": {"python": "3.11.7", "torch": "2.13.0", "mujoco": "3.11.0", "gymnasium": "1.4.0"},
        "hardware": {"processor": "a processor"}, "threads": 1, "commit": "0123456789ab",
        "command": ["understudy", "train", f"task={task}", f"learner={learner}"],
        "references": {"random": RANDOM, "expert": expert},
    }  # fmt: skip
    (path / "run.json").write_text(json.dumps(about))
    kind = "gan" if speed else "none"
    values = {
        "task": task,
        "learner": learner,
        "seed": seed,
        "runs": runs,
        "reward": {"kind": kind},
        "data": {"name": data},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(values))


def hash_of(text: str) -> int:
    """The same in every process."""
    return int.from_bytes(text.encode()[:8].ljust(8), "big") % 2**31


def table(rows: list[dict[str, object]]) -> str:
    """As CSV."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


LEVELS = {"hype": (0.96, 1.5), "sqil": (0.93, 1.8), "mm": (0.95, 5.0), "bc": (0.6, 0.0)}


def finished_matrix(
    directory: Path, tasks: tuple[str, ...], learners: dict[str, tuple[float, float]] = LEVELS, *, runs: int = 5,
    points: int = 10, episodes: int = 4,
) -> Matrix:  # fmt: skip
    """A comparison whose every cell is finished; learners by their final score and how slow they are."""
    pairs = [(task, learner) for task in tasks for learner in learners]
    plan = Plan(
        tasks, labels(list(learners)), {pair: (f"task={pair[0]}", f"learner={pair[1]}") for pair in pairs},
        dict.fromkeys(pairs, 10_000 * points), runs, 0, AdaStopConfig(runs, 1, 0.05),
    )  # fmt: skip
    about = {
        "command": ["understudy", "compare", f"tasks=[{','.join(tasks)}]", f"learners=[{','.join(learners)}]"],
        "data": {"hopper-expert episodes=4": {"task": tasks[0], "sha256": "ab" * 32, "quality": {
            "episodes": 4, "rows": 200, "trajectory_quality": 1.0, "coverage": 0.2, "action_noise": 0.1,
            "multimodality": None}}},
    }  # fmt: skip
    matrix = Matrix(directory, plan, about)
    for task, learner in pairs:
        cell = Cell.of(plan, task, learner, 0, runs)
        matrix.add(cell)
        level, speed = learners[learner]
        write_run(
            matrix.path(cell), task, learner, level=level, speed=speed, runs=runs, points=points, episodes=episodes
        )
    matrix.write()
    return matrix
