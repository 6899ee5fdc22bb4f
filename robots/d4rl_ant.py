"""The ant of D4RL's mazes, in gymnasium-robotics' maze of the same cells.

It differs from Gymnasium's ant by its steps, its strength and how soft its contacts are, and by nothing else: both
models were compiled and compared (d4rl 1.1, ``d4rl/locomotion/assets/ant.xml``, ``ant.py``, ``maze_env.py`` and
``wrappers.py``; gymnasium 1.4.0, ``ant.xml``). MuJoCo took the larger of the margins of two shapes then and adds them
now: so the ant alone has one here, and walks as it did (of MuJoCo 2.3.1 and 3.11.0, to the rounding).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from gymnasium.envs.mujoco import ant_v5
from gymnasium_robotics.envs.maze.ant_maze_v5 import AntMazeEnv

# Rows from the bottom up, so that y grows as in D4RL; r is where episodes start, and g where they are to get to.
_MAZES = {
    "umaze": ("#####", "#g..#", "###.#", "#r..#", "#####"),
    "medium": ("########", "#...#.g#", "#.#..#.#", "#..#...#", "##...###", "#..#...#", "#r.##..#", "########"),
    "large": (
        "############", "#..#...#.g.#", "##.#.#.#.###", "#..#.#.....#", "#.####.###.#", "#......#...#", "#.##.#.#.#.#",
        "#r...#.....#", "############",
    ),
}  # fmt: skip
_CELL = 4.0  # m
_REACHED = 0.5  # m from the goal
_STEP, _TORQUE, _SOFT = "0.02", "30", ".8 .8 .01"  # s of a simulator's step, N m of a motor at 1, MuJoCo's solimp
_MARGIN = "0.01"  # m of air in which a contact begins
_NOISE = 0.1  # of where joints start, and how fast


class D4rlAntMaze(AntMazeEnv):
    """An ant that starts in one corner of a maze and is to get to another, where the episode ends with a reward of 1.

    ``maze`` is ``umaze``, ``medium`` or ``large``. Positions are D4RL's, moved so that the origin, which is where the
    ant starts in D4RL's, is in the middle of the maze.
    """

    def __init__(self, maze: str = "umaze", render_mode: str | None = None) -> None:
        cells = {"#": 1, ".": 0}
        rows = [[cells.get(cell, cell) for cell in row] for row in _MAZES[maze]]
        path = _ant()
        try:
            super().__init__(
                render_mode, rows, "sparse", False, False, str(path), include_cfrc_ext_in_observation=False
            )
        finally:
            path.unlink()
        self.ant_env._reset_noise_scale = _NOISE  # pyright: ignore[reportPrivateUsage]  # the maze sets it to 0

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As the maze does it, with D4RL's radius of the goal."""
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, float(reward), terminated, truncated, {**info, "success": terminated}

    def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> Any:
        """1 at the goal, else 0."""
        return (np.linalg.norm(achieved_goal - desired_goal, axis=-1) <= _REACHED).astype(np.float64)

    def compute_terminated(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> bool:
        """Whether it is there."""
        return bool(self.compute_reward(achieved_goal, desired_goal, info))

    def generate_target_goal(self) -> np.ndarray:
        """A place in the goal's cell and a little beyond it, as D4RL draws it."""
        far = self.np_random.uniform(0, _CELL / 4, 2) + self.np_random.uniform(0, _CELL / 8, 2)
        return self.maze.unique_goal_locations[0] + far

    def add_xy_position_noise(self, xy_pos: np.ndarray) -> np.ndarray:
        """None: goals are drawn with theirs, and an ant starts with its joints'."""
        return xy_pos


def _ant() -> Path:
    """Gymnasium's ant with D4RL's numbers, a file for the maze to be put into."""
    tree = ElementTree.parse(Path(ant_v5.__file__).parent / "assets" / "ant.xml")
    for place, name, value in (
        ("option", "timestep", _STEP),
        ("default/geom", "solimp", _SOFT),
        ("default/geom", "margin", "0"),
        ("worldbody/body//geom", "margin", _MARGIN),
        ("actuator/motor", "gear", _TORQUE),
    ):
        for element in tree.findall(place):
            element.set(name, value)
    handle, name = tempfile.mkstemp(suffix=".xml")
    os.close(handle)
    tree.write(name)
    return Path(name)
