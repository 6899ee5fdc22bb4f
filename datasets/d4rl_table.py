"""D4RL's data sets: the file of each name, what it was recorded on, and the returns that its scores are made with.

Facts, in a form of our own; nothing of the package is imported or copied. Names, addresses and reference scores are
those of the package d4rl 1.1 (PyPI, ``d4rl-1.1-py3-none-any.whl``), ``d4rl/infos.py``. What only its registrations
know comes from these: horizons, the data sets that ``infos.py`` leaves out, and the scores of ``maze2d-eval-*``,
``ant-random-expert-v0`` and ``carla-town-full-v0`` (``__init__.py`` of ``gym_mujoco``, ``locomotion``,
``pointmaze``, ``hand_manipulation_suite``, ``kitchen``, ``flow``, ``carla``). What the files hold comes from
``scripts/generation`` of github.com/Farama-Foundation/D4RL, from ``tensorflow_datasets/d4rl/dataset_builder.py``, which
reads the same files, and from the issues of D4RL that are named by number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType

SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl/"


@dataclasses.dataclass(frozen=True)
class Family:
    """What the files of a family hold: the arrays that each of them has, and what else is to know of them.

    ``excluded`` says why its data are nothing for this library, and is empty where they are.
    """

    keys: tuple[str, ...]
    remark: str
    excluded: str = ""


@dataclasses.dataclass(frozen=True)
class Fit:
    """The environment that data were recorded on, the nearest task here (or Gymnasium id), and how near that is."""

    environment: str
    task: str | None
    remark: str


@dataclasses.dataclass(frozen=True)
class D4rlDataset:
    """A data set by its name (``hopper-expert-v2``).

    ``place`` is where its file is on the server, ``family`` the key in :data:`FAMILIES` of what that
    file holds, ``horizon`` the number of steps after which D4RL's environment cuts an episode. ``minimum`` and
    ``maximum`` are the returns that count as score 0 (random actions) and 1 (an expert). ``fit`` says what it was
    recorded on and how near a task here is to that.
    """

    name: str
    family: str
    place: str
    horizon: int
    minimum: float
    maximum: float
    fit: Fit

    @property
    def address(self) -> str:
        """Where its file can be had."""
        return SERVER + self.place

    @property
    def file(self) -> str:
        """What its file is called, on the server as in D4RL's own folder."""
        return self.place.rpartition("/")[2]


_ROWS = ("observations", "actions", "rewards", "terminals")
_STATES = ("infos/qpos", "infos/qvel")
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "locomotion-v0": Family(
            _ROWS,
            "timeouts in the files as served since 2021, none in older copies; no next_observations and no states; "
            "episodes of other lengths than 1000 (D4RL 40, 63)",
        ),
        "locomotion-v1": Family(
            (*_ROWS, "timeouts", "infos/action_log_probs", *_STATES),
            "no next_observations; qpos and qvel are of no use, all rows have the same (D4RL 84); the replays are "
            "float64; metadata has the policy's weights, except of random, replays and medium-expert",
        ),
        "locomotion-v2": Family(
            (*_ROWS, "timeouts", "next_observations", "infos/action_log_probs", *_STATES),
            "qpos and qvel are wrong in copies from before July 2021 (D4RL 100, 105); replays are float64, and their "
            "timeouts mark iterations of the training and not all ends (D4RL 162); metadata as in v1",
        ),
        "maze2d": Family(
            (*_ROWS, *_STATES, "infos/goal"),
            "one ball that never stops: no terminals, and timeouts where the goal changes (D4RL 85; none in copies "
            "from before 2021, D4RL 31); a row's reward is that of its own observation (D4RL 194)",
        ),
        "antmaze": Family(
            (*_ROWS, "timeouts", *_STATES, "infos/goal"),
            "terminals are floats, made afterwards, and true in every row near the goal of the evaluation, so several "
            "in a row; the timeouts of v0 are not where the episodes end (D4RL 77), those of v2 are; infos/goal is "
            "where the ant was sent",
        ),
        "adroit-v0": Family(
            (*_ROWS, "timeouts", *_STATES),
            "human: demonstrations as long as they took, up to several horizons, their last row a timeout; cloned is "
            "float64 with actions in float32; expert has infos/action_mean and infos/action_logstd",
        ),
        "adroit-v1": Family(
            (*_ROWS, "timeouts", *_STATES),
            "human as in v0; where the reset put things: infos/door_body_pos (door), board_pos and target_pos "
            "(hammer), desired_orien (pen), obj_pos, target_pos, palm_pos and hand_qpos (relocate); expert has "
            "infos/action_mean and infos/action_log_std",
        ),
        "kitchen": Family(
            (*_ROWS, "infos"),
            "no timeouts: the last row of each demonstration is terminal, though nothing ended there; terminals are "
            "floats; infos is an array, the number of the demonstration; a row's reward is how many things are done in "
            "its observation, not how many its action finished, as in the environment (generate_kitchen_datasets.py)",
        ),
        "flow": Family(_ROWS, "what else they have was not looked up"),
        "bullet": Family(_ROWS, "what else they have was not looked up"),
        "minigrid": Family(
            (*_ROWS, "infos/goal", "infos/pos", "infos/orientation"),
            "no timeouts",
            "observations are pictures of a grid (7 x 7 x 3) and actions the numbers of buttons",
        ),
        "carla": Family(_ROWS, "not looked up", "observations are camera images (3 x 48 x 48, flattened)"),
    }
)

_OLDER = "same observations and actions, on MuJoCo 2 or older by mujoco-py, in whose physics steps differ a little"
_TURNED = (
    "observations are x, y and their velocities, the goal is in infos/goal, and the maze stands otherwise: in one of "
    "H by W cells, (x, y) is gymnasium-robotics' (y + 0.7 - W/2, H/2 - 0.7 - x), and velocities and actions turn alike "
    "(y, -x); turned so, with the goal, states and actions can be used (same ball, same steps)"
)
_WALKED = (
    "same ant, maze and rule of the goal, and steps as of MuJoCo 2.3.1 to the rounding (it was recorded on MuJoCo 2.0 "
    "by mujoco-py); observations are qpos and qvel (29), the goal is in infos/goal, and the origin is moved by "
)
_COOKED = (
    "same model, observations with their noise, control, rewards and ends; it was recorded on MuJoCo 2.0 by "
    "dm_control, and of 2.3.1 steps differ where things touch, in 100 steps by up to 2 cm or 0.02 rad; its "
    "demonstrations are people's, logged elsewhere and replayed, and may take longer than the 280 steps that the task "
    "gives"
)
_HAND = "same observations and actions; the reward is gymnasium-robotics' own"
FITS: Mapping[str, Fit] = MappingProxyType(
    {
        "hopper": Fit("Hopper-v2", "hopper", _OLDER),
        "halfcheetah": Fit("HalfCheetah-v2", "halfcheetah", _OLDER),
        "walker2d": Fit("Walker2d-v2", "walker2d", f"{_OLDER}, and with a right foot that slides (0.9 instead of 1.9)"),
        "ant": Fit(
            "Ant-v2",
            "ant",
            "observations have 111 numbers: the task's 27, and 84 contact forces that are all zero (D4RL 143); "
            "otherwise the same, on MuJoCo 2 by mujoco-py",
        ),
        "maze2d-open": Fit("d4rl's point maze", "PointMaze_Open-v3", _TURNED),
        "maze2d-umaze": Fit("d4rl's point maze", "pointmaze", _TURNED),
        "maze2d-medium": Fit("d4rl's point maze", "PointMaze_Medium-v3", _TURNED),
        "maze2d-large": Fit("d4rl's point maze", "PointMaze_Large-v3", _TURNED),
        "maze2d-open-dense": Fit("d4rl's point maze", "PointMaze_OpenDense-v3", _TURNED),
        "maze2d-umaze-dense": Fit("d4rl's point maze", "PointMaze_UMazeDense-v3", _TURNED),
        "maze2d-medium-dense": Fit("d4rl's point maze", "PointMaze_MediumDense-v3", _TURNED),
        "maze2d-large-dense": Fit("d4rl's point maze", "PointMaze_LargeDense-v3", _TURNED),
        "maze2d-eval": Fit("d4rl's point maze", None, f"no maze here has its walls; otherwise {_TURNED}"),
        "antmaze-umaze": Fit("d4rl's ant maze", "d4rl-antmaze-umaze", f"{_WALKED}(-4, -4)"),
        "antmaze-medium": Fit("d4rl's ant maze", "d4rl-antmaze-medium", f"{_WALKED}(-10, -10)"),
        "antmaze-large": Fit("d4rl's ant maze", "d4rl-antmaze-large", f"{_WALKED}(-18, -12)"),
        "antmaze-eval": Fit("d4rl's ant maze", None, f"no maze here has its walls; otherwise {_WALKED}its start"),
        "door": Fit("d4rl's DoorEnvV0", "adroit-door", _HAND),
        "hammer": Fit("d4rl's HammerEnvV0", "AdroitHandHammer-v1", _HAND),
        "pen": Fit("d4rl's PenEnvV0", "AdroitHandPen-v1", f"{_HAND}, and episodes are cut at 200 steps instead of 100"),
        "relocate": Fit("d4rl's RelocateEnvV0", "AdroitHandRelocate-v1", _HAND),
        "kitchen": Fit("d4rl's Franka kitchen", "kitchen", _COOKED),
        "kitchen-mixed": Fit("d4rl's Franka kitchen", "kitchen-mixed", _COOKED),
        "flow": Fit("Flow on SUMO", None, "traffic, no MuJoCo"),
        "bullet": Fit("PyBullet", None, "other robots and other physics under MuJoCo's names"),
        "minigrid": Fit("MiniGrid-FourRooms-v0", None, "no MuJoCo"),
        "carla": Fit("CARLA", None, "no MuJoCo"),
    }
)

# Of each robot: the returns of random actions and of an expert.
_LOCOMOTION = {
    "halfcheetah": (-280.178953, 12135.0),
    "walker2d": (1.629008, 4592.3),
    "hopper": (-20.272305, 3234.3),
    "ant": (-325.6, 3879.7),
}
_BULLET = {
    "halfcheetah": (-1275.766996, 2381.6725),
    "hopper": (20.058972, 1441.8059623430963),
    "ant": (373.705955, 2650.495),
    "walker2d": (16.523877, 1623.6476303317536),
}
_KINDS = ("random", "medium", "expert", "medium-replay", "medium-expert")

# Of each hand: both returns, the horizon, and the one that lets the longest human demonstration end.
_HANDS = {
    "pen": (96.262799, 3076.8331017826877, 100, 200),
    "hammer": (-274.856578, 12794.134825156867, 200, 600),
    "relocate": (-6.425911, 4233.877797728884, 200, 500),
    "door": (-56.512833, 2880.5693087298737, 200, 300),
}
_HAND_FILES_V0 = {"human": "{}-v0_demos_clipped", "cloned": "{}-demos-v0-bc-combined", "expert": "{}-v0_expert_clipped"}

# Of each maze, reward and version: both returns and the horizon.
_MAZE2D = {
    "open-v0": (0.01, 20.66, 150),
    "open-dense-v0": (11.17817, 27.166538620695782, 150),
    "umaze-v0": (0.94, 62.6, 150),
    "medium-v0": (5.77, 85.14, 250),
    "large-v0": (4.83, 191.99, 600),
    "umaze-dense-v0": (23.249793, 81.78995240126592, 150),
    "medium-dense-v0": (19.477620, 96.03474232952358, 250),
    "large-dense-v0": (27.388310, 215.09965671563742, 600),
    "umaze-v1": (23.85, 161.86, 300),
    "medium-v1": (13.13, 277.39, 600),
    "large-v1": (6.7, 273.99, 800),
    "umaze-dense-v1": (68.537689, 193.66285642381482, 300),
    "medium-dense-v1": (44.264742, 297.4552547777125, 600),
    "large-dense-v1": (30.569041, 303.4857382709002, 800),
    "eval-umaze-v1": (36.63, 141.4, 300),
    "eval-medium-v1": (13.07, 204.93, 600),
    "eval-large-v1": (16.4, 302.22, 800),
    "eval-umaze-dense-v1": (56.95455, 178.21373133248397, 300),
    "eval-medium-dense-v1": (42.28578, 235.5658957482388, 600),
    "eval-large-dense-v1": (56.95455, 326.09647655082637, 800),
}
_BULLET_MAZE2D = {
    "open": (8.75, 64.15, 150),
    "umaze": (32.46, 153.99, 300),
    "medium": (14.87, 238.05, 600),
    "large": (1.82, 285.92, 800),
}

_ANTMAZE_HORIZON = {"umaze": 700, "medium": 1000, "large": 1000}
_ANTMAZE_CALLED = {"umaze": "u-maze", "medium": "big-maze", "large": "hardest-maze"}  # in the files of v0 and v2
# Whether an ant of the file starts in several places, and whether it has several goals.
_ANTMAZE_STARTS = {
    "umaze": (False, False),
    "umaze-diverse": (True, True),
    "medium-play": (True, False),
    "medium-diverse": (True, True),
    "large-play": (True, False),
    "large-diverse": (True, True),
}
_ANTMAZE_EVAL_GOALS = {  # here "play" has several, and "diverse" one
    "umaze": False, "umaze-diverse": True, "medium-play": True, "medium-diverse": False,
    "large-play": True, "large-diverse": False,
}  # fmt: skip

_KITCHEN = {
    "complete": "mini_kitchen_microwave_kettle_light_slider",
    "partial": "kitchen_microwave_kettle_light_slider",
    "mixed": "kitchen_microwave_kettle_bottomburner_light",
}
# Name, place, horizon and both returns of what follows no pattern.
_OTHERS = (
    ("flow-ring-random-v0", "flow/flow-ring-v0-random.hdf5", 500, -165.22, 24.42),
    ("flow-ring-controller-v0", "flow/flow-ring-v0-idm.hdf5", 500, -165.22, 24.42),
    ("flow-merge-random-v0", "flow/flow-merge-v0-random.hdf5", 750, 118.67993, 330.03179),
    ("flow-merge-controller-v0", "flow/flow-merge-v0-idm.hdf5", 750, 118.67993, 330.03179),
    ("minigrid-fourrooms-v0", "minigrid/minigrid4rooms.hdf5", 50, 0.01442, 2.89685),
    ("minigrid-fourrooms-random-v0", "minigrid/minigrid4rooms_random.hdf5", 50, 0.01442, 2.89685),
    ("carla-lane-v0", "carla/carla_lane_follow_flat-v0.hdf5", 250, -0.8503839912088142, 1023.5784385429523),
    ("carla-town-v0", "carla/carla_town_subsamp_flat-v0.hdf5", 1000, -114.81579500772153, 2440.1772022247314),
    ("carla-town-full-v0", "carla/carla_town_flat-v0.hdf5", 1000, -114.81579500772153, 2440.1772022247314),
)


def _locomotion() -> Iterator[D4rlDataset]:
    for robot, (low, high) in _LOCOMOTION.items():
        for kind in (*_KINDS, "random-expert") if robot == "ant" else _KINDS:
            file = f"{robot}_{kind.replace('-', '_')}"
            if kind == "medium-replay":
                file = "walker_mixed" if robot == "walker2d" else f"{robot}_mixed"
            place = f"gym_mujoco/{file}.hdf5"
            yield D4rlDataset(f"{robot}-{kind}-v0", "locomotion-v0", place, 1000, low, high, FITS[robot])
        for version in ("v1", "v2"):
            for kind in (*_KINDS, "full-replay"):
                place = f"gym_mujoco_{version}/{robot}_{kind.replace('-', '_')}-{version}.hdf5"
                name, family = f"{robot}-{kind}-{version}", f"locomotion-{version}"
                yield D4rlDataset(name, family, place, 1000, low, high, FITS[robot])


def _bullet() -> Iterator[D4rlDataset]:
    for robot, (low, high) in _BULLET.items():
        for kind in _KINDS:
            place = f"bullet/bullet-{robot}_{kind.replace('-', '_')}.hdf5"
            yield D4rlDataset(f"bullet-{robot}-{kind}-v0", "bullet", place, 1000, low, high, FITS["bullet"])
    for maze, (low, high, horizon) in _BULLET_MAZE2D.items():
        place = f"bullet/bullet-maze2d-{maze}-sparse.hdf5"
        yield D4rlDataset(f"bullet-maze2d-{maze}-v0", "bullet", place, horizon, low, high, FITS["bullet"])


def _hands() -> Iterator[D4rlDataset]:
    for hand, (low, high, horizon, longer) in _HANDS.items():
        for kind, called in _HAND_FILES_V0.items():
            places = {"v0": f"hand_dapg/{called.format(hand)}.hdf5", "v1": f"hand_dapg_v1/{hand}-{kind}-v1.hdf5"}
            for version, place in places.items():
                family, fit = f"adroit-{version}", FITS[hand]
                yield D4rlDataset(f"{hand}-{kind}-{version}", family, place, horizon, low, high, fit)
                if kind == "human":
                    name = f"{hand}-human-longhorizon-{version}"
                    yield D4rlDataset(name, family, place, longer, low, high, fit)


def _maze2d() -> Iterator[D4rlDataset]:
    for name, (low, high, horizon) in _MAZE2D.items():
        maze, version = name[:-3], name[-2:]
        file = maze if maze.endswith("-dense") else f"{maze}-sparse"
        place = f"maze2d/maze2d-{file}{'' if version == 'v0' else '-v1'}.hdf5"
        fit = FITS["maze2d-eval" if maze.startswith("eval") else f"maze2d-{maze}"]
        yield D4rlDataset(f"maze2d-{name}", "maze2d", place, horizon, low, high, fit)


def _antmaze() -> Iterator[D4rlDataset]:
    for name, (starts, goals) in _ANTMAZE_STARTS.items():
        maze = name.partition("-")[0]
        horizon = _ANTMAZE_HORIZON[maze]
        ends = f"noisy_multistart_{starts}_multigoal_{goals}_sparse"
        places = {
            "v0": f"ant_maze_new/Ant_maze_{_ANTMAZE_CALLED[maze]}_{ends}",
            "v1": f"ant_maze_v1/Ant_maze_{maze}_{ends}",
            "v2": f"ant_maze_v2/Ant_maze_{_ANTMAZE_CALLED[maze]}_{ends}_fixed",
        }
        for version, place in places.items():
            fit = FITS[f"antmaze-{maze}"]
            yield D4rlDataset(f"antmaze-{name}-{version}", "antmaze", f"{place}.hdf5", horizon, 0.0, 1.0, fit)
        several = _ANTMAZE_EVAL_GOALS[name]
        place = f"ant_maze_new/Ant_maze_{maze}_eval_noisy_multistart_True_multigoal_{several}_sparse.hdf5"
        fit = FITS["antmaze-eval"]
        yield D4rlDataset(f"antmaze-eval-{name}-v0", "antmaze", place, horizon, 0.0, 1.0, fit)


def _others() -> Iterator[D4rlDataset]:
    for kind, file in _KITCHEN.items():
        place = f"kitchen/{file}-v0.hdf5"
        fit = FITS["kitchen-mixed" if kind == "mixed" else "kitchen"]
        yield D4rlDataset(f"kitchen-{kind}-v0", "kitchen", place, 280, 0.0, 4.0, fit)
    for name, place, horizon, low, high in _OTHERS:
        family = name.partition("-")[0]
        yield D4rlDataset(name, family, place, horizon, low, high, FITS[family])


DATASETS: Mapping[str, D4rlDataset] = MappingProxyType(
    {
        found.name: found
        for part in (_locomotion(), _antmaze(), _maze2d(), _hands(), _others(), _bullet())
        for found in part
    }
)
