"""The Franka kitchen: D4RL's, and gymnasium-robotics' own, an arm that is to do several things in an episode.

What D4RL's is was read in the package d4rl 1.1 (``d4rl/kitchen/kitchen_envs.py``,
``adept_envs/franka/kitchen_multitask_v0.py`` and ``robot/franka_robot.py``), and its model files were compared with
gymnasium-robotics' 1.4.2: the numbers of both are the same, but for a pedestal that nothing touches in D4RL's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
from gymnasium.spaces import Box
from gymnasium_robotics.envs.franka_kitchen import kitchen_env

from .disc_maze import rendering
from .inner import Inner

_ROBOT, _PLACES = 9, 30  # positions of the robot's joints, and of all
_NOISE = 0.1  # of what the configuration says that sensors may be off, in D4RL; gymnasium-robotics has less
_ROUNDING = 1e-4  # of a number: what float32 makes of it
_COMPLETE = ("microwave", "kettle", "light switch", "slide cabinet")


class _AnyKitchen(Inner):
    """What both have: noisy observations, by the last of which the arm is moved, and things that are done once.

    An action (9,) is the speed of a joint, as a share of 2 rad/s (fingers: m/s), made into a position to go to from
    where the last observation saw the joint. So ``seen`` (O,), the last observation, is part of the state, and so is
    ``finished`` (K,), which things were done, in the order of ``things``.
    """

    metadata: ClassVar[dict[str, Any]] = rendering(12)  # pyright: ignore[reportIncompatibleVariableOverride]
    observation_structure: dict[str, int]
    noise: np.ndarray

    def __init__(self, kitchen: Any) -> None:
        super().__init__(kitchen, kitchen.robot_env, kitchen.robot_env.frame_skip)
        self.things = tuple(sorted(kitchen.goal))  # as Gymnasium sorts the parts of a space
        self.finished = np.zeros(len(self.things), bool)
        self.seen = self._true()
        self.observation_space = Box(-np.inf, np.inf, self.seen.shape, np.float64)

    @abstractmethod
    def _true(self) -> np.ndarray:
        """The observation (O,) without noise."""

    @abstractmethod
    def _felt(self) -> np.ndarray:
        """The positions (9,) of the robot's joints in the last observation."""

    @property
    def np_random(self) -> np.random.Generator:
        """The stream of the noise, which is all that is random."""
        return self._robot.np_random

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._robot.np_random = value

    def done(self, places: np.ndarray) -> np.ndarray:
        """Which things are done (…, K) where all joints are in these positions (…, 30)."""
        goals, columns = self._inner.goal, kitchen_env.OBS_ELEMENT_INDICES
        away = [np.linalg.norm(places[..., columns[thing]] - goals[thing], axis=-1) for thing in self.things]
        return np.stack(away, -1) < kitchen_env.BONUS_THRESH

    def recall(self, observation: np.ndarray) -> None:
        """Take a recorded observation (O,), if it can be of the present state, for the last one. What is done in it
        counts as done before."""
        true, recorded = self._true(), np.asarray(observation, np.float64)
        near = np.abs(recorded - true) <= self.noise + _ROUNDING * (1 + np.abs(true))
        self.seen = recorded if near.all() else true
        self.finished = self.done(self.data.qpos)

    def _get_obs(self) -> np.ndarray:
        return self.seen.copy()


class Kitchen(_AnyKitchen):
    """D4RL's kitchen: positions of 9 joints of the robot and of 21 of things, with noise, and those (30,) that the
    joints are to have, which are 0 for what is not asked for.

    The reward is the number of things that a step has finished, by what is seen; the episode ends when all are.
    ``info["success"]`` says that.
    """

    def __init__(self, tasks_to_complete: Sequence[str] = _COMPLETE, render_mode: str | None = None) -> None:
        kitchen: Any = kitchen_env.KitchenEnv(list(tasks_to_complete), render_mode=render_mode)
        kitchen.robot_env.robot_noise_ratio = _NOISE
        model = kitchen.robot_env.model
        pedestal = model.geom_bodyid == model.body("panda0_link0").parentid[0]
        model.geom_contype[pedestal] = model.geom_conaffinity[pedestal] = 0
        self.observation_structure = {"qpos": _PLACES, "desired_goal": _PLACES}
        self.goal = np.zeros(_PLACES)
        for thing, places in kitchen.goal.items():
            self.goal[kitchen_env.OBS_ELEMENT_INDICES[thing]] = places
        self.noise = np.append(_NOISE * _amplitudes(), np.zeros(_PLACES))
        super().__init__(kitchen)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Everything where it always is, nothing done."""
        self._robot.reset(seed=seed)
        self.finished = np.zeros(len(self.things), bool)
        self._look()
        return self._get_obs(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.float64, bool, bool, dict[str, Any]]:
        """Move the joints for 0.08 s."""
        self._robot._last_robot_qpos = self._felt()
        self._robot.step(action)
        self._look()
        new = self.done(self.seen[:_PLACES]) & ~self.finished
        self.finished = self.finished | new
        over = bool(self.finished.all())
        return self._get_obs(), np.float64(new.sum()), over, False, {"success": over}

    def _look(self) -> None:
        """Observe anew. The robot has done its part already, with noise."""
        things = self.noise[_ROBOT:_PLACES] * self.np_random.uniform(-1, 1, _PLACES - _ROBOT)
        self.seen = self._true()
        self.seen[:_ROBOT] = self._robot._last_robot_qpos
        self.seen[_ROBOT:_PLACES] += things

    def _true(self) -> np.ndarray:
        return np.append(self.data.qpos, self.goal)

    def _felt(self) -> np.ndarray:
        return self.seen[:_ROBOT]


class GoalKitchen(_AnyKitchen):
    """gymnasium-robotics' FrankaKitchen as a flat task: where the things asked for are, what it calls its observation
    (59,), and where they should be; things in alphabetical order, as Minari's data sets have them.

    Rewards and ends are its own. ``info["success"]`` says that everything is done.
    """

    def __init__(self, kitchen: Any) -> None:
        robot = kitchen.robot_env
        self.goal = np.concatenate([kitchen.goal[thing] for thing in sorted(kitchen.goal)])
        positions, speeds = robot.robot_pos_noise_amp, robot.robot_vel_noise_amp
        noises = (robot.robot_noise_ratio * positions[:_ROBOT], robot.robot_noise_ratio * speeds[:_ROBOT])
        things = (kitchen.object_noise_ratio * positions[_ROBOT - 1 :], kitchen.object_noise_ratio * speeds[_ROBOT:])
        exact = np.zeros(len(self.goal))
        self.noise = np.concatenate((exact, *noises, *things, exact))
        self.observation_structure = {
            "achieved_goal": len(self.goal), "observation": len(self.noise) - 2 * len(self.goal),
            "desired_goal": len(self.goal),
        }  # fmt: skip
        super().__init__(kitchen)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Everything where it always is, nothing done."""
        observation, info = self._inner.reset(seed=seed)
        self.seen = self._flat(observation["observation"])
        self.finished = np.zeros(len(self.things), bool)
        return self._get_obs(), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.float64, bool, bool, dict[str, Any]]:
        """As the kitchen does it, with what was done before."""
        kitchen, were = self._inner, [thing for thing, done in zip(self.things, self.finished, strict=True) if done]
        kitchen.episode_task_completions = were
        kitchen.tasks_to_complete = set(self.things) - (set(were) if kitchen.remove_task_when_completed else set())
        self._robot._last_robot_qpos = self._felt()
        observation, reward, terminated, _, info = kitchen.step(action)
        self.finished = np.isin(self.things, kitchen.episode_task_completions)
        self.seen = self._flat(observation["observation"])
        return self._get_obs(), np.float64(reward), bool(terminated), False, {**info, "success": self.finished.all()}

    def _true(self) -> np.ndarray:
        positions, speeds = self.data.qpos, self.data.qvel
        return self._flat(np.concatenate((positions[:_ROBOT], speeds[:_ROBOT], positions[_ROBOT:], speeds[_ROBOT:])))

    def _flat(self, observed: np.ndarray) -> np.ndarray:
        columns = [kitchen_env.OBS_ELEMENT_INDICES[thing] for thing in self.things]
        return np.concatenate((self.data.qpos[np.concatenate(columns)], observed, self.goal))

    def _felt(self) -> np.ndarray:
        return self.seen[len(self.goal) :][:_ROBOT]


def _amplitudes() -> np.ndarray:
    """What the sensors of all positions (30,) may be off by at most, in rad and m."""
    file = Path(kitchen_env.__file__).parent.parent / "assets/kitchen_franka/franka_assets/franka_config.xml"
    joints = ElementTree.parse(file).getroot()
    return np.array([float(joints.findall(f"qpos{index}")[0].get("pos_noise_amp", "")) for index in range(_PLACES)])
