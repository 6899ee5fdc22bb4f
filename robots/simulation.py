"""Full simulator state, captured and restored bit-exactly, and R environments stepped as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, cast, get_args, runtime_checkable

import mujoco as _untyped_mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv

from .disturbances import hold_frozen
from .errors import InputError
from .inner import Inner
from .signals import Signals
from .tasks import Spaces, Task

# MuJoCo's compiled module comes without types.
mujoco: Any = _untyped_mujoco

Purpose = Literal["policy", "reward", "reset", "selection", "evaluation"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)

# What MuJoCo derives from the state inside a step. Environments read some of it before the next step (Ant's
# forward reward reads xpos, Humanoid's observation reads cinert and cvel), where it lags the state by one
# substep, so recomputing it after a restore would not give the same bits.
_DERIVED = (
    "xpos", "xquat", "xmat", "xipos", "ximat", "xanchor", "xaxis", "geom_xpos", "geom_xmat", "site_xpos",
    "site_xmat", "subtree_com", "subtree_linvel", "cinert", "cvel", "cdof", "actuator_length",
    "actuator_velocity", "actuator_force", "qfrc_actuator", "qfrc_constraint", "qfrc_bias", "qfrc_passive",
    "qacc", "cacc", "cfrc_int", "cfrc_ext", "sensordata",
)  # fmt: skip
# Where a model has its things: a reset may put a door or a target elsewhere (gymnasium-robotics' Adroit hand does).
_PLACES = ("body_pos", "body_quat", "site_pos")
_HAND = 7  # tells a hand's stream of random numbers from the others made from a seed
_INTEGRATION = int(mujoco.mjtState.mjSTATE_INTEGRATION)


@dataclasses.dataclass(frozen=True)
class SimulatorState:
    """Everything that decides how an episode goes on.

    ``physics`` is MuJoCo's integration state, ``derived`` what environments read before the next step,
    ``attributes`` what the environment object keeps itself, ``elapsed`` the steps of the episode so far,
    ``random`` the state of the environment's generator (it decides the coming resets), ``hand`` that of a trembling
    hand and ``signals`` that of disturbed sensors and motors, if it has them, and ``places`` where the model has what
    an episode's reset may move.
    """

    physics: np.ndarray
    derived: Mapping[str, np.ndarray]
    attributes: Mapping[str, Any]
    elapsed: int
    random: Mapping[str, Any]
    hand: Mapping[str, Any] | None = None
    signals: Mapping[str, Any] | None = None
    places: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict[str, np.ndarray])


def physics_state(environment: MujocoEnv) -> np.ndarray:
    """MuJoCo's integration state as one float64 vector: time, positions, velocities, warm start, controls, …"""
    state = np.empty(mujoco.mj_stateSize(environment.model, _INTEGRATION), np.float64)
    mujoco.mj_getState(environment.model, environment.data, state, _INTEGRATION)
    return state


def set_physics_state(environment: MujocoEnv, state: np.ndarray) -> None:
    """Restore an integration state and everything MuJoCo derives from it."""
    model, data = environment.model, environment.data
    expected = mujoco.mj_stateSize(model, _INTEGRATION)
    if state.shape != (expected,):
        raise InputError(f"the simulator state has {state.shape} numbers but this task's has ({expected},)")
    mujoco.mj_setState(model, data, state, _INTEGRATION)
    mujoco.mj_forward(model, data)
    # mj_forward solves the constraints anew and thereby moves the warm start: put the stored one back.
    mujoco.mj_setState(model, data, state, _INTEGRATION)


def capture(environment: MujocoEnv, elapsed: int) -> SimulatorState:
    """The full state of an environment after ``elapsed`` steps of its episode."""
    kept = {
        name: value.copy() if isinstance(value, np.ndarray) else value
        for name, value in vars(environment).items()
        if isinstance(value, (bool, int, float, np.ndarray, np.generic))
    }
    derived = {name: getattr(environment.data, name).copy() for name in _DERIVED}
    random = cast(dict[str, Any], environment.np_random.bit_generator.state)
    places = {name: getattr(environment.model, name).copy() for name in _PLACES}
    return SimulatorState(physics_state(environment), derived, kept, elapsed, random, places=places)


def restore(environment: MujocoEnv, state: SimulatorState) -> None:
    """Put an environment into a captured state: what follows is bit-equal to what followed the capture."""
    for name, value in state.places.items():
        getattr(environment.model, name)[...] = value
    set_physics_state(environment, state.physics)
    for name, value in state.derived.items():
        getattr(environment.data, name)[...] = value
    for name, value in state.attributes.items():
        setattr(environment, name, value.copy() if isinstance(value, np.ndarray) else value)
    environment.np_random.bit_generator.state = dict(state.random)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A recorded moment of an episode, as demonstration files have it: enough to start from, not to the bit.

    ``observation`` (O,) is what was seen there. ``physics`` is MuJoCo's integration state, or none where only
    positions and velocities were recorded.
    """

    elapsed: int
    observation: np.ndarray
    physics: np.ndarray | None = None
    qpos: np.ndarray | None = None
    qvel: np.ndarray | None = None


@runtime_checkable
class Recalls(Protocol):
    """An environment whose observations say what positions and velocities do not: a target, a clock."""

    def recall(self, observation: np.ndarray) -> None:
        """Take it from a recorded observation (O,)."""
        ...


def place(environment: MujocoEnv, state: Snapshot) -> np.ndarray:
    """Put an environment into a recorded state; returns what it observes there (O,) float32.

    Errors: :class:`InputError` when the state is of another model.
    """
    model, data = environment.model, environment.data
    mujoco.mj_resetData(model, data)
    if state.physics is not None:
        set_physics_state(environment, state.physics)
    else:
        if state.qpos is None or state.qvel is None or (len(state.qpos), len(state.qvel)) != (model.nq, model.nv):
            sizes = f"{model.nq} positions and {model.nv} velocities"
            raise InputError(f"a recorded state does not have this task's {sizes}")
        environment.set_state(state.qpos, state.qvel)
    # Where MuJoCo's own state says everything, an observation would only round it.
    if isinstance(environment, Inner) or (state.physics is None and isinstance(environment, Recalls)):
        environment.recall(state.observation)
    return np.asarray(environment._get_obs(), np.float32)  # pyright: ignore


@dataclasses.dataclass(frozen=True)
class Transitions:
    """One step of N environments: true next observations (N, O), task rewards (N,) and the two kinds of end (N,).

    ``succeeded`` (N,) is where the task says that its aim is reached, for tasks that say so. The rewards are the
    task's own. Evaluation and `learner=sac` use them; no imitation learner sees them.
    """

    next_observations: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    succeeded: np.ndarray

    @property
    def ended(self) -> np.ndarray:
        """Where the episode is over, for whichever reason (N,)."""
        return self.terminated | self.truncated


class TaskBatch:
    """N environments of a task stepped as one, and the only place where environment steps are counted.

    Actions are in [−1, 1] and scaled to the environment's own range here and nowhere else. Nothing resets by
    itself: :meth:`step` returns the true last observation, and the caller resets what has ended.
    Environment k is seeded with ``seeds[k]`` alone, so it behaves the same in a batch of any size. Where the task's
    hand trembles, an action may be replaced by a random one, and where its sensors and motors are disturbed, what is
    seen and done is what they make of it (:class:`~.signals.Signals`); except on the way to a start (purpose
    ``reset``).
    """

    def __init__(self, task: Task, seeds: Sequence[int], *, render: bool = False) -> None:
        self.task = task
        self.environments = [task.make(render=render) for _ in seeds]
        self.spaces = Spaces.of(self.environments[0])
        self._seeds: list[int | None] = [int(seed) for seed in seeds]
        self.elapsed = np.zeros(len(seeds), np.int64)
        self.counts: dict[Purpose, np.ndarray] = {name: np.zeros(len(seeds), np.int64) for name in PURPOSES}
        tremble = task.disturbances.tremble
        self._hands = [np.random.default_rng([int(seed), _HAND]) for seed in seeds] if tremble else []
        self.signals = [Signals(task, self.spaces, 1 / self.spaces.control_rate, int(seed)) for seed in seeds]
        self._low, self._high = self.spaces.action_low, self.spaces.action_high
        self._scale, self._offset = self.spaces.action_scale, self.spaces.action_offset

    def __len__(self) -> int:
        return len(self.environments)

    def reset(self, where: np.ndarray | None = None) -> np.ndarray:
        """Start new episodes (everywhere, or where the mask (N,) is true); returns observations (N, O).

        Rows that are not reset are zero. The first reset of an environment seeds it.
        """
        observations = np.zeros((len(self), self.spaces.observation_size), np.float32)
        for index in range(len(self)) if where is None else np.flatnonzero(where):
            observations[index], _ = self.environments[index].reset(seed=self._seeds[index])
            self._seeds[index] = None
            self.elapsed[index] = 0
            self.signals[index].begin(observations[index])
        return observations

    def step(self, actions: np.ndarray, purpose: Purpose, where: np.ndarray | None = None) -> Transitions:
        """Step every environment (or those where the mask (N,) is true) with actions (N, A) in [−1, 1].

        Rows that are not stepped are zero and false.
        """
        # float32 bounds times float32 actions can leave the range by a rounding, which MuJoCo would clip silently.
        scaled = np.clip(actions.astype(np.float64) * self._scale + self._offset, self._low, self._high)
        return self.drive(scaled, purpose, where)

    def drive(self, scaled: np.ndarray, purpose: Purpose, where: np.ndarray | None = None) -> Transitions:
        """Step with actions (N, A) in the environment's units and within its bounds; they may be changed in place."""
        count = len(self)
        observations = np.zeros((count, self.spaces.observation_size), np.float32)
        rewards = np.zeros(count)
        terminated, truncated, succeeded = np.zeros((3, count), bool)
        stepped = range(count) if where is None else np.flatnonzero(where)
        if self._hands and purpose != "reset":
            self._tremble(scaled, stepped)
        for index in stepped:
            environment, signals = self.environments[index], self.signals[index]
            disturbed = signals.active and purpose != "reset"
            command = signals.command(environment, scaled[index]) if disturbed else scaled[index]
            observations[index], rewards[index], terminated[index], _, about = environment.step(command)
            if disturbed:
                observations[index] = signals.seen(observations[index])
            elif signals.active:  # on the way to a start
                signals.begin(observations[index])
            succeeded[index] = bool(about.get("success", False))
            self.elapsed[index] += 1
            self.counts[purpose][index] += 1
            truncated[index] = self.elapsed[index] >= self.task.horizon
        return Transitions(observations, rewards, terminated, truncated & ~terminated, succeeded)

    def _tremble(self, scaled: np.ndarray, stepped: Iterable[int]) -> None:
        for index in stepped:
            hand = self._hands[index]
            if hand.random() < self.task.disturbances.tremble:
                scaled[index] = hand.uniform(self._low, self._high)

    def reseed(self, index: int, seed: int) -> None:
        """From the next reset on it is as a fresh environment with this seed, its hand, sensors and motors as well."""
        self._seeds[index] = seed
        if self._hands:
            self._hands[index] = np.random.default_rng([seed, _HAND])
        of = self.signals[index].disturbances
        self.signals[index] = Signals(self.task, self.spaces, 1 / self.spaces.control_rate, seed)
        self.signals[index].set_disturbances(of)

    def reset_to_seed(self, index: int, seed: int) -> np.ndarray:
        """Start the episode that a fresh environment starts with this seed; returns the observation (O,).

        The environment's own stream of initial states goes on afterwards as if this had not been.
        """
        environment = self._started(index)
        kept = cast(dict[str, Any], environment.np_random.bit_generator.state)
        observation, _ = environment.reset(seed=seed)
        environment.np_random.bit_generator.state = kept
        self.elapsed[index] = 0
        self.signals[index].begin(np.asarray(observation, np.float32))
        return np.asarray(observation, np.float32)

    def place(self, index: int, state: Snapshot) -> np.ndarray:
        """Start an episode in a recorded state, ``state.elapsed`` steps into it; returns the observation (O,)."""
        observation = place(self._started(index), state)
        if hold_frozen(self.environments[index]):
            observation = np.asarray(self.environments[index]._get_obs(), np.float32)  # pyright: ignore
        self.elapsed[index] = state.elapsed
        self.signals[index].begin(observation)
        return observation

    def _started(self, index: int) -> MujocoEnv:
        """The environment; a fresh one has no generator until its first reset."""
        if self._seeds[index] is not None:
            self.environments[index].reset(seed=self._seeds[index])
            self._seeds[index] = None
        return self.environments[index]

    def capture(self) -> list[SimulatorState]:
        """The full state of every environment."""
        captured = [capture(env, int(steps)) for env, steps in zip(self.environments, self.elapsed, strict=True)]
        for index, signals in enumerate(self.signals):
            hand = cast(dict[str, Any], self._hands[index].bit_generator.state) if self._hands else None
            passing = signals.state() if signals.active else None
            captured[index] = dataclasses.replace(captured[index], hand=hand, signals=passing)
        return captured

    def restore(self, states: Sequence[SimulatorState]) -> None:
        """Put every environment into a captured state."""
        for index, (environment, state) in enumerate(zip(self.environments, states, strict=True)):
            self._started(index)
            restore(environment, state)
            self.elapsed[index] = state.elapsed
            if self._hands and state.hand is not None:
                self._hands[index].bit_generator.state = dict(state.hand)
            if state.signals is not None:
                self.signals[index].set_state(state.signals)

    def close(self) -> None:
        """Free the environments."""
        for environment in self.environments:
            environment.close()
