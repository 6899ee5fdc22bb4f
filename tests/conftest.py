"""Small demonstrations, and trainings small enough to run in a moment, built from the options that users give."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from policies import make_policy

from understudy.datasets import Demonstrations, write_d4rl
from understudy.imitation.training import State, Training
from understudy.robots import PURPOSES, TaskBatch, find_task
from understudy.scripts import launchers
from understudy.scripts.build import build
from understudy.scripts.compare import main as compare
from understudy.scripts.settings import compose

torch.set_num_threads(1)  # a process of tests for each core

SMALL = (
    "task=hopper", "device=cpu", "threads=1", "precision=float32", "runs=2", "evaluation.every=100",
    "evaluation.episodes=2", "checkpoint.every=100", "log_every=50", "quiet=true",
)  # fmt: skip
INTERACTIVE = (
    "steps=200",
    "agent.hidden=[16,16]",
    "loop.batch_size=16",
    "loop.random_steps=60",
    "loop.update_every=20",
    "loop.select_every=50",
)
HYBRID = (
    *INTERACTIVE,
    "loop.updates_per_step=1",
    "reward.hidden=[16,16]",
    "reward.batch_size=16",
    "reward.update_every=5",
)
SCORE = (*HYBRID, "reward.expert_updates=50", "reward.levels=4")
MODEL = (
    "world.members=2", "world.elites=1", "world.hidden=[8,8]", "world.batch_size=32", "world.epochs=2",
    "world.fit_every=100", "world.model_steps=4", "world.horizon=[[0,1],[200,3]]", "world.buffer_size=400",
    "world.diagnose_every=200",
)  # fmt: skip
SQIL = (*INTERACTIVE, "loop.updates_per_step=1")
ROUNDS = (
    "steps=200", "agent.hidden=[16,16]", "loop.batch_size=16", "loop.update_every=20", "loop.round_steps=100",
    "loop.random_steps=20", "reward.hidden=[16,16]", "reward.batch_size=16",
)  # fmt: skip
DAGGER = ("steps=200", "loop.hidden=[16,16]", "loop.batch_size=16", "loop.round_steps=50", "loop.updates_per_round=20")
ON_POLICY = (
    "steps=200", "agent.hidden=[16,16]", "agent.batch_size=16", "agent.epochs=2", "loop.round_steps=50",
    "loop.select_every=50", "reward.hidden=[16,16]", "reward.batch_size=16", "reward.update_every=3",
)  # fmt: skip
OFFLINE = ("steps=200", "agent.hidden=[16,16]", "loop.batch_size=16")
CHUNKS = (
    "steps=200", "loop.hidden=[16,16]", "loop.batch_size=16", "loop.history=2", "loop.chunk=4", "loop.acts=3",
)  # fmt: skip
CLONING = ("steps=200", "loop.hidden=[16,16]", "loop.batch_size=16")

# Every learner, with what makes it small. A new preset without an entry here fails `test_every_preset_is_tested`.
LEARNERS: dict[str, tuple[str, ...]] = {
    "bc": CLONING,
    "bc_gaussian": CLONING,
    "bc_chunks": CHUNKS,
    "diffusion_policy": (*CHUNKS, "loop.times=20", "loop.samples=5"),
    "dagger": (*DAGGER, "loop.expert_acts=0.5"),
    "sac": INTERACTIVE,
    "hype": HYBRID,
    "hyper": (*HYBRID, *MODEL),
    "hyper_smiling": (*SCORE, *MODEL),
    "mm": HYBRID,
    "bc_reg": HYBRID,
    "dac": HYBRID,
    "dac_reference": tuple(option for option in HYBRID if "select" not in option),
    "airl": HYBRID,
    "airl_reference": tuple(option for option in ON_POLICY if "select" not in option),
    "smiling": SCORE,
    "smiling_reference": (
        *(option for option in SCORE if "select" not in option),
        "reward.times=600",
        "reward.last_time=600",
    ),
    "diffail": (*HYBRID, "reward.times=4"),
    "diffail_reference": (*(o for o in HYBRID if "select" not in o), "reward.times=4", "loop.update_every=50"),
    "sqil": SQIL,
    "sqil_reference": tuple(option for option in SQIL if "select" not in option),
    "iq_learn": SQIL,
    "iq_learn_reference": tuple(option for option in SQIL if "select" not in option),
    "iq_learn_offline": OFFLINE,
    "gail": ON_POLICY,
    "gail_reference": tuple(option for option in ON_POLICY if "select" not in option),
    "filter": HYBRID,
    "hype_filter": HYBRID,
    "guitar": HYBRID,
    "hype_guitar": HYBRID,
    "hype_reference": ROUNDS,
    "hyper_reference": (*ROUNDS, *MODEL, "reward.members=2", "loop.updates_per_step=1"),
    "mm_reference": ROUNDS,
    "bc_reg_reference": ROUNDS,
    "filter_reference": ROUNDS,
    "hype_filter_reference": ROUNDS,
    # A roll-in takes 500 steps on average, so there are few of them.
    "guitar_reference": (*ROUNDS, "resets.updates=20", "resets.share=0.1"),
    "hype_guitar_reference": (*ROUNDS, "resets.updates=20", "resets.share=0.1"),
}


def last_of_each(*options: str) -> list[str]:
    """The last `key=value` of each key: the command refuses an option given twice."""
    return list({option.partition("=")[0]: option for option in options}.values())


def make_demonstrations(episodes: int = 3, task_name: str = "hopper") -> Demonstrations:
    """Episodes of random actions, which fall soon."""
    task = find_task(task_name)
    tasks = TaskBatch(task, [77])
    generator = np.random.default_rng(5)
    rows: list[tuple[np.ndarray, ...]] = []
    starts, times = [], []
    for _ in range(episodes):
        observation, ended, time = tasks.reset(), False, 0
        starts.append(len(rows))
        while not ended:
            action = generator.uniform(-1, 1, (1, tasks.spaces.action_size)).astype(np.float32)
            data = tasks.environments[0].data
            positions = (data.qpos.copy(), data.qvel.copy())
            result = tasks.step(action, "policy")
            after = (result.next_observations[0], np.float32(result.rewards[0]))
            moved = (result.terminated[0], result.truncated[0])
            rows.append((observation[0], action[0], *after, *moved, *positions))
            times.append(time)
            observation, ended, time = result.next_observations, bool(result.ended[0]), time + 1
    tasks.close()
    columns = (
        "observations", "actions", "next_observations", "rewards", "terminated", "truncated", "qpos", "qvel",
    )  # fmt: skip
    arrays = {name: np.stack(column) for name, column in zip(columns, zip(*rows, strict=True), strict=True)}
    return Demonstrations(
        **arrays,
        times=np.array(times),
        starts=np.array(starts),
        task_name=task.name,
        environment_id=task.environment_id,
        environment_keywords=task.keywords,
        random_return=10.0,
        expert_return=100.0,
        source="made for tests",
    )


@pytest.fixture(scope="session")
def demonstrations() -> Demonstrations:
    """Three short Hopper episodes."""
    return make_demonstrations()


@pytest.fixture(scope="session")
def data_file(demonstrations: Demonstrations, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in a file."""
    path = tmp_path_factory.mktemp("data") / "hopper.hdf5"
    write_d4rl(path, demonstrations)
    return path


@pytest.fixture(scope="session")
def an_expert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy directory with someone to ask."""
    path = tmp_path_factory.mktemp("expert") / "policy"
    make_policy(seed=3).save_pretrained(path)
    return path


Make = Callable[..., Training]


@pytest.fixture(scope="session")
def make(demonstrations: Demonstrations, an_expert: Path) -> Make:
    """`make("hype", "runs=3", …)`: a small training of that learner."""

    def training(learner: str, *options: str) -> Training:
        asked = [f"expert={an_expert}"] if learner == "dagger" else []
        small = LEARNERS[learner]
        if "loop.select_by=none" in options:
            small = tuple(option for option in small if not option.startswith("loop.select_every"))
        config, _ = compose([f"learner={learner}", *last_of_each(*SMALL, *small, *asked, *options)])
        values = OmegaConf.to_container(config, resolve=True)
        given = None if learner == "sac" else demonstrations
        return build(values, given, offline=given).training  # pyright: ignore

    return training


@dataclasses.dataclass(frozen=True)
class Finished:
    """A small training after 200 steps, with what was seen on the way: shared by tests, which only look at it."""

    training: Training
    calls: Mapping[str, int]  # of `TaskBatch.step`, by purpose
    metrics: tuple[Mapping[str, torch.Tensor], ...]


@pytest.fixture(scope="session")
def finished(make: Make) -> Callable[[str], Finished]:
    """`finished("hype")`: that learner's small training, made once."""
    known: dict[str, Finished] = {}

    def find(learner: str) -> Finished:
        if learner not in known:
            known[learner] = _finish(make(learner))
        return known[learner]

    return find


def _finish(training: Training) -> Finished:
    calls = dict.fromkeys(PURPOSES, 0)
    original = TaskBatch.step

    def counted(self: TaskBatch, actions: np.ndarray, purpose: str, where: np.ndarray | None = None) -> object:
        calls[purpose] += len(self) if where is None else int(where.sum())
        return original(self, actions, purpose, where)  # pyright: ignore[reportArgumentType]

    metrics: list[Mapping[str, torch.Tensor]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaskBatch, "step", counted)
        while training.steps < 200:
            metrics.append(training.advance())
    return Finished(training, calls, tuple(metrics))


def run_to(training: Training, steps: int) -> Training:
    """Advance to ``steps``."""
    while training.steps < steps:
        training.advance()
    return training


def same_state(one: State, two: State) -> bool:
    """Whether two states are equal to the bit."""
    if one.values != two.values or one.tensors.keys() != two.tensors.keys():
        return False
    return all(np.array_equal(v.numpy(), two.tensors[k].numpy(), equal_nan=True) for k, v in one.tensors.items())


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of comparisons are trained in this process."""
    from comparisons import HereLauncher  # which takes from here what is above

    monkeypatch.setattr(launchers, "make_launcher", lambda *_, **__: HereLauncher())


@pytest.fixture(scope="session")
def whole(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small comparison that nothing disturbed, in processes as users have it."""
    from comparisons import arguments

    directory = tmp_path_factory.mktemp("comparison") / "whole"
    assert compare(arguments(directory, data_file)) == 0
    return directory
