"""What happens to what passes between a robot and its controller: noisy and late sensors, slow motors, and pushes.

The same in training, where a step is a control period, and in the simulated robot, where it is one of the simulator's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import numpy as np
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv

from .disturbances import Disturbances
from .tasks import Spaces, Task
from .views import view_mask

Item = TypeVar("Item")
_STREAM = 8  # tells this stream of random numbers from the others made from a seed


class Line(Generic[Item]):
    """A line that things go along step by step: late, some never, and some after the next one."""

    def __init__(self, delay: int, random: np.random.Generator, dropped: float = 0.0, reordered: float = 0.0) -> None:
        self.delay, self.dropped, self.reordered = delay, dropped, reordered
        self._random = random
        self._now = 0
        self._way: list[tuple[int, int, Item]] = []  # due, whether it lets others pass, and what it is

    def clear(self) -> None:
        """Nothing is on its way any more."""
        self._way = []

    def send(self, item: Item) -> list[Item]:
        """A step passes, and something sets out; what arrives with it, in the order of arrival."""
        self._now += 1
        if not (self.dropped and self._random.random() < self.dropped):
            late = int(self.reordered > 0 and self._random.random() < self.reordered)
            self._way.append((self._now + self.delay + late, late, item))
        return self.arrived()

    def arrived(self) -> list[Item]:
        """What has arrived by now."""
        here = sorted((entry for entry in self._way if entry[0] <= self._now), key=lambda entry: entry[:2])
        self._way = [entry for entry in self._way if entry[0] > self._now]
        return [item for _, _, item in here]

    def state(self) -> dict[str, Any]:
        """As JSON can hold it, if the things on the way are."""
        return {"now": self._now, "way": [list(entry) for entry in self._way]}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self._now = int(state["now"])
        self._way = [(int(due), int(late), item) for due, late, item in state["way"]]


class Signals:
    """The disturbed sensors and motors of one robot, by its own seed; ``period`` is a step in seconds.

    What is seen is the newest that has arrived: one that comes after its successor is as good as lost. An episode's
    first observation is seen as it is, and motors rest until the first command arrives.
    """

    def __init__(self, task: Task, spaces: Spaces, period: float, seed: int) -> None:
        self.period = period
        self._random = np.random.default_rng([seed, _STREAM])
        self._low, self._high = spaces.action_low, spaces.action_high
        self._task, self._size = task, spaces.observation_size
        self.sensed: Line[Any] = Line(0, self._random)
        self.commanded: Line[Any] = Line(0, self._random)
        self._bias = np.zeros(spaces.observation_size)
        self.set_disturbances(task.disturbances)
        self._due: np.ndarray | None = None
        self.begin(np.zeros(spaces.observation_size, np.float32))

    def set_disturbances(self, disturbances: Disturbances) -> None:
        """Suffer from these from now on, as far as they are in the signals."""
        self.disturbances, self.active = disturbances, disturbances.in_signals
        self._noise: Any = disturbances.noise
        if isinstance(disturbances.noise, Mapping):
            self._noise = np.zeros(self._size)
            for part, deviation in disturbances.noise.items():
                mask = view_mask(self._task, [part], "disturbances.noise")
                self._noise += 0 if mask is None else mask * deviation
        sensed, commanded = self.sensed, self.commanded
        sensed.delay = round(disturbances.observation_delay / self.period)
        sensed.dropped, sensed.reordered = disturbances.dropped, disturbances.reordered
        commanded.delay = round(disturbances.action_delay / self.period)

    def begin(self, observation: np.ndarray) -> None:
        """An episode begins with this observation (O,)."""
        self.sensed.clear()
        self.commanded.clear()
        if self.disturbances.bias:
            self._bias = self._random.normal(0, self.disturbances.bias, self._size)
        self._number, self._newest = 0, 0
        self.last = np.asarray(observation, np.float32).copy()
        self._arrived = self._done = np.clip(np.zeros_like(self._low), self._low, self._high)
        self._pushed, self._due = False, None

    def push_next(self, velocity: np.ndarray) -> None:
        """Push the robot in the next step, so that it would be faster by ``velocity`` (2,) m/s."""
        self._due, self.active = np.asarray(velocity, np.float64), True

    def measured(self, observation: np.ndarray) -> np.ndarray:
        """What the sensors make of an observation (O,): noise, bias and steps."""
        of, seen = self.disturbances, np.asarray(observation, np.float64)
        if of.bias:
            seen = seen + self._bias
        if of.noise:
            seen = seen + self._noise * self._random.standard_normal(self._size)
        if of.quantisation:
            seen = np.round(seen / of.quantisation) * of.quantisation
        return seen

    def seen(self, observation: np.ndarray) -> np.ndarray:
        """What the controller sees (O,) float32 when this is so (O,)."""
        self._number += 1
        for number, values in self.sensed.send((self._number, self.measured(observation).tolist())):
            if number > self._newest:
                self._newest, self.last = number, np.array(values, np.float32)
        return self.last

    def command(self, environment: MujocoEnv, command: np.ndarray) -> np.ndarray:
        """What the motors do (A,) in the coming step when this is sent (A,); and the robot is pushed if it is time."""
        of = self.disturbances
        for values in self.commanded.send(command.tolist()):
            self._arrived = np.array(values)
        step = of.rate_limit * (self._high - self._low) * self.period if of.rate_limit else np.inf
        self._done = np.clip(self._arrived, self._done - step, self._done + step)
        if self._pushed:
            release(environment)
            self._pushed = False
        if self._due is not None:
            push(environment, self._due, self.period)
            self._pushed, self._due = True, None
        if of.push and self._random.random() < self.period / of.push_every:
            angle = self._random.uniform(0, 2 * np.pi)
            push(environment, of.push * np.array([np.cos(angle), np.sin(angle)]), self.period)
            self._pushed = True
        return self._done

    def state(self) -> dict[str, Any]:
        """Everything that decides how it goes on, as JSON can hold it."""
        return {
            "random": self._random.bit_generator.state,
            "sensed": self.sensed.state(),
            "commanded": self.commanded.state(),
            "bias": self._bias.tolist(),
            "numbers": [self._number, self._newest],
            "last": self.last.tolist(),
            "arrived": self._arrived.tolist(),
            "done": self._done.tolist(),
            "pushed": self._pushed,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state`, bit for bit."""
        self._random.bit_generator.state = state["random"]
        self.sensed.set_state(state["sensed"])
        self.commanded.set_state(state["commanded"])
        self._bias, self.last = np.array(state["bias"]), np.array(state["last"], np.float32)
        self._number, self._newest = state["numbers"]
        self._arrived, self._done = np.array(state["arrived"]), np.array(state["done"])
        self._pushed = bool(state["pushed"])


def push(environment: MujocoEnv, velocity: np.ndarray, seconds: float) -> None:
    """Push a robot for the next ``seconds`` so that it would be faster by ``velocity`` (2,) m/s along the floor.

    The force is the whole robot's mass times that change; a robot on a pedestal, or in a plane, yields as it can.
    """
    model, data = environment.model, environment.data
    body = root(environment)
    data.xfrc_applied[body, :2] = model.body_subtreemass[body] * np.asarray(velocity) / seconds


def release(environment: MujocoEnv) -> None:
    """Stop pushing."""
    environment.data.xfrc_applied[root(environment)] = 0


def root(environment: MujocoEnv) -> int:
    """The body that all of the robot hangs on: the heaviest, with its parts, of those that nothing moving holds."""
    model: Any = environment.model
    moves = np.asarray(model.body_dofnum) > 0
    held = np.zeros(model.nbody, bool)
    for body in range(1, model.nbody):
        parent = model.body_parentid[body]
        held[body] = held[parent] or moves[parent]
    free = np.flatnonzero(moves & ~held)
    return int(free[np.argmax(np.asarray(model.body_subtreemass)[free])])
