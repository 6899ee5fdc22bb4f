"""The body of the simulated robot: MuJoCo, stepped by whole control periods or by the simulator's own small steps."""

from __future__ import annotations

import abc
import time
from typing import Any

import mujoco as _untyped_mujoco
import numpy as np

from .disturbances import Disturbances
from .signals import Signals, push, release
from .simulation import TaskBatch
from .tasks import Spaces, Task
from .wire import Flag

# MuJoCo's compiled module comes without types.
mujoco: Any = _untyped_mujoco

_YIELDS = 0.1  # seconds in which a damped joint's speed falls by a factor of e, were its own inertia all
Sensed = tuple[float, float, float, int, list[float]]
# When it was measured, the episode's time and return at that moment, flags, and the numbers (O,).


class Body(abc.ABC):
    """One robot of a task. What it says of itself arrives late and changed, if it suffers from that."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task = task
        self.tasks = TaskBatch(task, [seed])
        self.environment = self.tasks.environments[0]
        self.spaces: Spaces = self.tasks.spaces
        self.damped = True
        self.returned, self.succeeded, self.terminated, self.truncated = 0.0, False, False, False
        model: Any = self.environment.model
        self._flags, self._damping = int(model.opt.disableflags), model.dof_damping.copy()
        at_joint = model.actuator_trntype == int(mujoco.mjtTrn.mjTRN_JOINT)
        self._driven = model.jnt_dofadr[np.unique(model.actuator_trnid[at_joint, 0])]

    @property
    @abc.abstractmethod
    def elapsed(self) -> float:
        """Seconds of the episode."""

    def damp(self, damped: bool) -> None:
        """Let no motor push, and joints give way slowly, or take hold again."""
        if damped == self.damped:
            return
        model: Any = self.environment.model
        self.damped = damped
        model.opt.disableflags = self._flags | (int(mujoco.mjtDisableBit.mjDSBL_ACTUATION) if damped else 0)
        model.dof_damping[:] = self._damping
        if damped:
            own = model.dof_M0[self._driven] / _YIELDS
            model.dof_damping[self._driven] = np.maximum(self._damping[self._driven], own)

    def reset(self, seed: int) -> Sensed:
        """Start the episode of a seed; returns what is seen there."""
        self.damp(False)
        self.tasks.reseed(0, seed)
        observation = self.tasks.reset()[0]
        self.returned, self.succeeded, self.terminated, self.truncated = 0.0, False, False, False
        self.begun(seed)
        self.damp(True)
        return self.sensed(observation)

    def sensed(self, observation: np.ndarray) -> Sensed:
        """An observation with everything that is told with it."""
        flags = Flag.TERMINATED * self.terminated | Flag.TRUNCATED * self.truncated | Flag.SUCCEEDED * self.succeeded
        return (time.monotonic(), self.elapsed, self.returned, int(flags), np.asarray(observation, np.float64).tolist())

    @abc.abstractmethod
    def begun(self, seed: int) -> None:
        """An episode has begun."""

    @abc.abstractmethod
    def step(self, command: np.ndarray) -> list[Sensed]:
        """Go on with a command (A,); returns what arrives of what is seen, in the order of arrival."""

    @abc.abstractmethod
    def suffer(self, disturbances: Disturbances) -> None:
        """Suffer from these in its signals from now on."""

    @abc.abstractmethod
    def push(self, velocity: np.ndarray) -> None:
        """Push it, so that it would be faster by ``velocity`` (2,) m/s."""

    def close(self) -> None:
        """Free the simulator."""
        self.tasks.close()


class LockstepBody(Body):
    """A step is a control period, exactly as in training and evaluation."""

    @property
    def elapsed(self) -> float:
        """Seconds of the episode."""
        return float(self.tasks.elapsed[0]) / self.spaces.control_rate

    def begun(self, seed: int) -> None:
        """Hand, sensors and motors are those of an evaluation with this seed already."""

    def step(self, command: np.ndarray) -> list[Sensed]:
        """One period; nothing moves once the episode is over."""
        if self.terminated or self.truncated:
            return []
        result = self.tasks.drive(command[None].copy(), "evaluation")
        self.returned += float(result.rewards[0])
        self.succeeded |= bool(result.succeeded[0])
        self.terminated, self.truncated = bool(result.terminated[0]), bool(result.truncated[0])
        return [self.sensed(result.next_observations[0])]

    def suffer(self, disturbances: Disturbances) -> None:
        """From the next step on."""
        self.tasks.signals[0].set_disturbances(disturbances)

    def push(self, velocity: np.ndarray) -> None:
        """During the next period."""
        self.tasks.signals[0].push_next(velocity)


class SmoothBody(Body):
    """A step is one of the simulator's: sensors tell as often, and motors follow at once.

    A step's reward is what the environment says of it, divided by the steps in a control period: rewards are rates in
    these tasks, so that the return is comparable to an evaluation's, though not equal.
    """

    def __init__(self, task: Task, seed: int) -> None:
        super().__init__(task, seed)
        robot: Any = getattr(self.environment, "robot", self.environment)  # which may be in a maze
        self.skip, robot.frame_skip, self.environment.frame_skip = int(robot.frame_skip), 1, 1
        self.period = float(robot.model.opt.timestep)
        self._signals = Signals(task, self.spaces, self.period, seed)
        self._steps, self._pushed = 0, 0

    @property
    def elapsed(self) -> float:
        """Seconds of the episode."""
        return self._steps * self.period

    def begun(self, seed: int) -> None:
        """The disturbances of the episode are of its seed."""
        self._steps = 0
        of = self._signals.disturbances
        self._signals = Signals(self.task, self.spaces, self.period, seed)
        self._signals.set_disturbances(of)
        self._signals.begin(np.zeros(self.spaces.observation_size, np.float32))

    def step(self, command: np.ndarray) -> list[Sensed]:
        """One of the simulator's steps."""
        signals = self._signals
        done = signals.command(self.environment, command) if signals.active else command
        observation, reward, terminated, _, about = self.environment.step(done)
        self._steps += 1
        self._pushed -= 1
        if self._pushed == 0:
            release(self.environment)
        self.returned += float(reward) / self.skip
        self.terminated |= bool(terminated)
        self.succeeded |= bool(about.get("success", False))
        if not signals.active:
            return [self.sensed(np.asarray(observation, np.float32))]
        return signals.sensed.send(self.sensed(signals.measured(observation)))

    def suffer(self, disturbances: Disturbances) -> None:
        """From the next step on."""
        self._signals.set_disturbances(disturbances)

    def push(self, velocity: np.ndarray) -> None:
        """For the length of a control period."""
        push(self.environment, velocity, self.skip * self.period)
        self._pushed = self.skip + 1
