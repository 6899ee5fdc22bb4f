"""Scripted controllers for mazes in the plane: the way that a body of its size can go, by a map of the walls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import mujoco as _untyped_mujoco
import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from .errors import InputError

mujoco: Any = _untyped_mujoco

_CELL = 0.05  # m, of the map
_ASTRAY = 0.15  # m from the free places, which leaves room for soft walls
_MARGIN = 0.02  # m that is kept from walls
_LOOK_AHEAD = 0.3  # m along the way
_GAIN, _DAMPING = 8.0, 1.0  # of the force towards the point ahead
_SHOVE = 0.15  # deviation of the wanderer's noise


class Controller(Protocol):
    """Acts by a script instead of a learned policy, in N episodes at once."""

    def begin(self, seeds: Sequence[int]) -> None:
        """Called before N episodes start, with a seed for what is random in each."""
        ...

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, A) in [−1, 1] for observations (N, O)."""
        ...


class Map:
    """Where the middle of a round body can be, on a grid, and how far it is from there to a place.

    Walls are the boxes that stand still in the model. Errors: :class:`InputError` when the body has no room at all.
    """

    def __init__(self, model: Any, radius: float, height: float) -> None:
        boxes = [
            index
            for index in range(model.ngeom)
            if model.geom_type[index] == mujoco.mjtGeom.mjGEOM_BOX
            and model.geom_bodyid[index] == 0
            and model.geom_contype[index]
            and abs(model.geom_pos[index, 2] - height) <= model.geom_size[index, 2]
        ]
        centres, halves = model.geom_pos[boxes, :2], model.geom_size[boxes, :2]
        self._low = (centres - halves).min(0)
        shape = np.ceil(((centres + halves).max(0) - self._low) / _CELL).astype(int)
        points = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1) * _CELL + self._low
        outside = np.maximum(np.abs(points[:, :, None] - centres) - halves, 0)
        near = (np.linalg.norm(outside, axis=-1) < radius + _MARGIN).any(-1)
        if near.all():
            raise InputError("no place in the maze is wide enough for this body: make it smaller")
        # Only what hangs together with most of the free space counts: not what lies outside or within the walls.
        labels: Any = cast(Any, ndimage.label(~near))[0]
        sizes = np.bincount(labels.ravel())[1:]
        self.free: np.ndarray = labels == 1 + int(np.argmax(sizes))
        self._points = points
        self._number = np.full(self.free.shape, -1)
        self._number[self.free] = np.arange(int(self.free.sum()))
        self._graph = self._connected()

    def _connected(self) -> Any:
        """The lengths of the steps between free cells, in eight directions, as a sparse matrix."""
        rows, columns, lengths = [], [], []
        height, width = self.free.shape
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
            source = self._number[: height - down, max(0, -right) : width - max(0, right)]
            target = self._number[down:, max(0, right) : width - max(0, -right)]
            both = (source >= 0) & (target >= 0)
            rows.append(source[both])
            columns.append(target[both])
            lengths.append(np.full(int(both.sum()), _CELL * float(np.hypot(down, right))))
        pairs, count = (np.concatenate(rows), np.concatenate(columns)), int(self.free.sum())
        return coo_array((np.concatenate(lengths), pairs), shape=(count, count)).tocsr()

    def distances(self, goal: np.ndarray) -> np.ndarray:
        """How far each cell is from a place (X, Y), by the ways that are free; infinite where there is none."""
        distances = np.full(self.free.shape, np.inf)
        distances[self.free] = dijkstra(self._graph, directed=False, indices=int(self._number[self.cell(goal)]))
        return distances

    def _nearest_free(self, place: np.ndarray) -> int:
        gaps = np.linalg.norm(self._points - place, axis=-1)
        gaps[~self.free] = np.inf
        if gaps.min() > _ASTRAY:
            x, y = place
            raise InputError(f"the maze is not wide enough for this body to be at ({x:.2f}, {y:.2f}): make it smaller")
        return int(gaps.argmin())

    def ahead(self, place: np.ndarray, distances: np.ndarray) -> np.ndarray:
        """The point (2,) some way ahead on the shortest way from a place (2,)."""
        index = self.cell(place)
        travelled = 0.0
        while travelled < _LOOK_AHEAD and distances[index] > 0:
            x, y = index
            around = distances[max(x - 1, 0) : x + 2, max(y - 1, 0) : y + 2]
            best = np.unravel_index(int(around.argmin()), around.shape)
            index = (max(x - 1, 0) + int(best[0]), max(y - 1, 0) + int(best[1]))
            travelled += _CELL
        return self._points[index]

    def cell(self, place: np.ndarray) -> tuple[int, ...]:
        """The free cell next to a place (2,)."""
        return tuple(int(i) for i in np.unravel_index(self._nearest_free(place), self.free.shape))

    def random_place(self, random: np.random.Generator) -> np.ndarray:
        """A free place (2,), all alike."""
        return self._points[self.free][int(random.integers(int(self.free.sum())))]


class GoesToGoal:
    """Takes the shortest way to the goal that its body can go.

    Observations begin with the position and have the velocity in the columns ``moving``; ``goal`` is a place (2,),
    or the columns of observations that say it.
    """

    def __init__(self, walls: Map, moving: slice, goal: np.ndarray | slice) -> None:
        self._walls, self._moving, self._goal = walls, moving, goal
        self._known: dict[tuple[float, ...], np.ndarray] = {}

    def begin(self, seeds: Sequence[int]) -> None:
        """Nothing is random."""

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, 2)."""
        return np.stack([self._one(row) for row in observations])

    def _one(self, row: np.ndarray) -> np.ndarray:
        goal = row[self._goal] if isinstance(self._goal, slice) else self._goal
        key = tuple(np.round(goal.astype(np.float64), 3).tolist())
        if key not in self._known:
            self._known[key] = self._walls.distances(goal)
            if np.isinf(self._known[key][self._walls.cell(row[:2])]):
                raise InputError("no way to the goal is wide enough for this body: make it smaller")
        ahead = self._walls.ahead(row[:2], self._known[key])
        if np.linalg.norm(goal - row[:2]) < _LOOK_AHEAD:
            ahead = goal
        return pushed(row[:2], row[self._moving], ahead)


class Wanders:
    """Goes from one random place to the next by the ways that its body can go: play, without any goal of the task's."""

    _patience = 80  # steps after which another place is chosen

    def __init__(self, walls: Map, moving: slice) -> None:
        self._walls, self._moving = walls, moving
        self._random: list[np.random.Generator] = []
        self._ways: list[tuple[np.ndarray, np.ndarray, int]] = []

    def begin(self, seeds: Sequence[int]) -> None:
        """Choose the first places."""
        self._random = [np.random.default_rng([seed, 3]) for seed in seeds]
        self._ways = [self._way(random) for random in self._random]

    def _way(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        place = self._walls.random_place(random)
        return place, self._walls.distances(place), 0

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, 2)."""
        actions = np.zeros((len(observations), 2))
        for index, random in enumerate(self._random):
            row = observations[index]
            place, distances, taken = self._ways[index]
            if taken >= self._patience or np.linalg.norm(place - row[:2]) < _LOOK_AHEAD:
                place, distances, taken = self._way(random)
            self._ways[index] = (place, distances, taken + 1)
            push = pushed(row[:2], row[self._moving], self._walls.ahead(row[:2], distances))
            actions[index] = np.clip(push + random.normal(0, _SHOVE, 2), -1, 1)
        return actions


def pushed(position: np.ndarray, velocity: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The action (2,) that pushes a body with a position and velocity (2,) towards a place (2,)."""
    return np.clip(_GAIN * (place - position) - _DAMPING * velocity, -1, 1)


def radius_of(model: Any) -> tuple[float, float]:
    """The radius of the model's one moving sphere, and the height of its middle.

    Errors: :class:`InputError` when there is not one.
    """
    spheres = [
        i for i in range(model.ngeom) if model.geom_type[i] == mujoco.mjtGeom.mjGEOM_SPHERE and model.geom_bodyid[i]
    ]
    if len(spheres) != 1:
        raise InputError(f"scripts steer one ball, and this robot has {len(spheres)}: leave its body as it is")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return float(model.geom_size[spheres[0], 0]), float(data.geom_xpos[spheres[0], 2])
