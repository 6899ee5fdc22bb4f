"""What makes a robot other than the one in the textbook: a hand that trembles, weak motors, another body."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import mujoco as _untyped_mujoco
import numpy as np
import yaml
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.spaces import Box

from .errors import InputError, nearest

# MuJoCo's compiled module comes without types.
mujoco: Any = _untyped_mujoco

# Numbers, and what they are when nothing is said.
_NUMBERS = {
    "tremble": 0.0, "bias": 0.0, "quantisation": 0.0, "observation_delay": 0.0, "dropped": 0.0, "reordered": 0.0,
    "action_delay": 0.0, "rate_limit": 0.0, "push": 0.0, "push_every": 1.0,
}  # fmt: skip
_SIGNALS = (
    "noise", "bias", "quantisation", "observation_delay", "dropped", "reordered", "action_delay", "rate_limit", "push",
)  # fmt: skip
_BODY = ("mass", "length", "friction")
_LONGEST_DELAY = 60.0  # s; what is on its way is kept
_HELD = 1e-3  # rad or m that a frozen joint may give way before its limit pushes back
_HOLD = "understudy_hold"  # the attribute of an environment that holds its frozen joints
_DEEPER, _LIFTS = 1e-3, 5  # m that a longer robot may start deeper in the floor, and how often it is raised


@dataclasses.dataclass(frozen=True)
class Disturbances:
    """How a task differs from the environment that Gymnasium makes; the default differs in nothing.

    ``tremble`` is the probability with which an action is replaced by a uniform random one when it is taken
    (what is stored and learned from is the action that was meant). ``actuators`` are factors of what the motors of
    the named joints give: 0.5 weakens, 0 leaves a joint limp. ``frozen`` joints are held where they start (in the
    middle of their range when they start beyond it, as an ant's ankles do). ``bodies`` are factors of a body's
    ``mass``, ``length`` (its own shape, and where its children hang) and ``friction`` (of its contacts, those
    between the robot's own parts included, which then rub as it does on the floor). ``removed``
    bodies are gone with all that hangs on them.

    Sensors: ``noise`` is the standard deviation of what is added to every measured number, in its own unit, or those of
    the observation's parts by name; ``bias`` that of an offset which stays for an episode; ``quantisation`` the step in
    which numbers are told; ``observation_delay`` how many seconds old they are when they arrive; ``dropped`` the
    probability that they never do, and ``reordered`` that they come after the next ones. Motors: ``action_delay`` are
    seconds until a command arrives, ``rate_limit`` the share of its range by which a command can change in a second (0:
    no limit). ``push`` is the speed in m/s that a push in a random direction along the floor gives the robot, every
    ``push_every`` seconds on average. Whoever learns or acts sees what arrives; the task's reward and its ends are of
    what is.

    A body goes by its name or by that of one of its shapes, as an ant's
    shins have none of their own. A robot that longer legs would have start in the floor starts as much higher. A model
    file that sets its total mass, as HalfCheetah's does, keeps it when lengths change or bodies go.
    """

    tremble: float = 0.0
    actuators: Mapping[str, float] = dataclasses.field(default_factory=dict[str, float])
    frozen: tuple[str, ...] = ()
    bodies: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict[str, Mapping[str, float]])
    removed: tuple[str, ...] = ()
    noise: float | Mapping[str, float] = 0.0
    bias: float = 0.0
    quantisation: float = 0.0
    observation_delay: float = 0.0
    dropped: float = 0.0
    reordered: float = 0.0
    action_delay: float = 0.0
    rate_limit: float = 0.0
    push: float = 0.0
    push_every: float = 1.0

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> Self:
        """From plain values, as YAML and JSON have them. Errors: :class:`InputError` that names what is wrong."""
        if not isinstance(values, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # it comes from files
            raise InputError(f"disturbances={values}: names and values are expected, like tremble: 0.05")
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise InputError(f"disturbances have no {name!r}: {nearest(name, known)}")
        numbers = {name: _number(name, values.get(name, default)) for name, default in _NUMBERS.items()}
        for name in ("tremble", "dropped", "reordered"):
            if numbers[name] > 1:
                raise InputError(f"disturbances.{name}={numbers[name]:g}: a probability is at most 1")
        for name in ("observation_delay", "action_delay"):
            if numbers[name] > _LONGEST_DELAY:
                raise InputError(
                    f"disturbances.{name}={numbers[name]:g}: seconds are meant, at most {_LONGEST_DELAY:g}"
                )
        if numbers["push_every"] == 0:
            raise InputError("disturbances.push_every=0: leave out push for no pushes")
        noise = values.get("noise", 0.0)
        bodies = {str(body): _factors(f"bodies.{body}", change) for body, change in _mapping(values, "bodies").items()}
        for body, change in bodies.items():
            for name, factor in change.items():
                if name not in _BODY:
                    raise InputError(f"disturbances.bodies.{body} has no {name!r}: {nearest(name, _BODY)}")
                if factor == 0 and name != "friction":
                    raise InputError(f"disturbances.bodies.{body}.{name}=0: remove the body with disturbances.removed")
        return cls(
            **numbers,
            noise=_factors("noise", noise) if isinstance(noise, Mapping) else _number("noise", noise),
            actuators=_factors("actuators", _mapping(values, "actuators")),
            frozen=_names(values, "frozen"),
            bodies=bodies,
            removed=_names(values, "removed"),
        )

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """From a YAML file. Errors: :class:`InputError` when it cannot be read or is not what it should be."""
        try:
            values = yaml.safe_load(path.read_text())
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
        try:
            return cls.of_values(values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def to_values(self) -> dict[str, Any]:
        """Plain values of what differs, for YAML and JSON; empty when nothing does."""
        values = {
            "tremble": self.tremble,
            "actuators": dict(self.actuators),
            "frozen": list(self.frozen),
            "bodies": {body: dict(change) for body, change in self.bodies.items()},
            "removed": list(self.removed),
            "noise": dict(self.noise) if isinstance(self.noise, Mapping) else self.noise,
        }
        values |= {name: getattr(self, name) for name in _NUMBERS if name not in values}
        return {name: value for name, value in values.items() if value and value != _NUMBERS.get(name)}

    @property
    def in_signals(self) -> bool:
        """Whether anything happens to what passes between robot and controller, or pushes the robot."""
        return any(getattr(self, name) for name in _SIGNALS)

    def change(self, environment: MujocoEnv) -> None:
        """Change the body and the motors of a freshly made environment.

        Errors: :class:`InputError` with the nearest names for a joint or body that it does not have.
        """
        if any("length" in change for change in self.bodies.values()) or self.removed:
            depth = _depth(environment)
            _replace_model(environment, self._respecified(environment))
            _lift(environment, depth)
        model = environment.model
        for joint, factor in self.actuators.items():
            motors = np.flatnonzero(model.actuator_trnid[:, 0] == _index(model, "joint", joint))
            if not len(motors):
                raise InputError(f"disturbances.actuators: the joint {joint!r} has no motor")
            _weaken(model, motors, factor)
        _freeze(environment, [_index(model, "joint", joint) for joint in self.frozen])
        for body, change in self.bodies.items():
            index = _body(model, body)
            model.body_mass[index] *= change.get("mass", 1.0)
            model.body_inertia[index] *= change.get("mass", 1.0)
            if "friction" in change:
                _rub(model, index, change["friction"], body)
        # What MuJoCo works out from masses when it compiles; it needs the state at rest, and leaves it there.
        mujoco.mj_setConst(model, environment.data)

    def check_maze(self, environment: MujocoEnv) -> None:
        """Errors: :class:`InputError` for a frozen joint by which a maze puts its robot in place."""
        model: Any = environment.model
        for name in self.frozen:
            if model.body_parentid[model.jnt_bodyid[_index(model, "joint", name)]] == 0:
                raise InputError(
                    f"disturbances.frozen: by {name!r} the maze puts its robot in place, it cannot be held"
                )

    def check_pulled(self) -> None:
        """Errors: :class:`InputError` for what would not change a robot whose hand is pulled about."""
        lengths = any("length" in change for change in self.bodies.values())
        if self.actuators or self.frozen or self.removed or lengths:
            raise InputError(
                "disturbances: Fetch's hand is pulled, not moved by its joints: choose tremble, or bodies' mass or "
                "friction"
            )

    def check_whole(self) -> None:
        """Errors: :class:`InputError` for what would need another model than the one that a package has made."""
        if self.frozen or self.removed or any("length" in change for change in self.bodies.values()):
            raise InputError(
                "disturbances: a kitchen's joints cannot be held, its bodies neither removed nor made longer: choose "
                "tremble, actuators, or bodies' mass or friction"
            )

    def _respecified(self, environment: MujocoEnv) -> Any:
        """The model compiled anew from its file, with other lengths and without what is removed."""
        specification = mujoco.MjSpec.from_file(environment.fullpath)
        for body, change in self.bodies.items():
            if "length" in change:
                _body(environment.model, body)
                _stretch(_specified(specification, body), change["length"])
        for body in self.removed:
            if getattr(environment, "whole", False):
                raise InputError(
                    f"disturbances.removed: what this robot sees has a place for every joint, {body!r}'s too: hold a "
                    "joint (frozen) or leave it limp (actuators) instead"
                )
            index = _body(environment.model, body)
            if environment.model.body_parentid[index] == 0:
                raise InputError(f"disturbances.removed: {body!r} is the whole robot, and something has to be left")
            if (part := _specified(specification, body)) is not None:  # unless it has gone with another
                specification.delete(part)
        return specification.compile()


def _weaken(model: Any, motors: np.ndarray, factor: float) -> None:
    """Change what motors give. Those that hold a position or a velocity get less stiff: a gear would change what."""
    holding = motors[model.actuator_biastype[motors] != mujoco.mjtBias.mjBIAS_NONE]
    model.actuator_gear[np.setdiff1d(motors, holding)] *= factor
    for numbers in (model.actuator_gainprm, model.actuator_biasprm, model.actuator_forcerange):
        numbers[holding] *= factor


def _specified(specification: Any, name: str) -> Any:
    """The body of a specification by its own name or one of its shapes', if it has it still."""
    shape = specification.geom(name)
    return specification.body(name) or (None if shape is None else shape.parent)


def _depth(environment: MujocoEnv) -> float:
    """How deep the robot is in what surrounds it where it starts, in metres."""
    model, data = environment.model, mujoco.MjData(environment.model)
    data.qpos[:] = environment.init_qpos
    mujoco.mj_forward(model, data)
    fixed = [model.geom_bodyid[list(contact.geom)].min() == 0 for contact in data.contact]
    return max([-contact.dist for contact, counts in zip(data.contact, fixed, strict=True) if counts], default=0.0)


def _lift(environment: MujocoEnv, depth: float) -> None:
    """Start a robot that can rise no deeper in the floor than ``depth``, its depth as it was."""
    model = environment.model
    kinds, free = model.jnt_type, int(mujoco.mjtJoint.mjJNT_FREE)
    rises = (kinds == int(mujoco.mjtJoint.mjJNT_SLIDE)) & (np.abs(model.jnt_axis[:, 2]) > 0.99)
    of_root = model.body_parentid[model.jnt_bodyid] == 0
    for joint in np.flatnonzero(of_root & (rises | (kinds == free))):
        height = model.jnt_qposadr[joint] + (2 if kinds[joint] == free else 0)
        sign = 1.0 if kinds[joint] == free else np.sign(model.jnt_axis[joint, 2])
        for _ in range(_LIFTS):  # once it has left one floor it may meet another shape
            deeper = _depth(environment) - depth
            if deeper <= _DEEPER:
                return
            environment.init_qpos[height] += sign * deeper


def _rub(model: Any, body: int, factor: float, name: str) -> None:
    """Change what a body's contacts rub: MuJoCo takes the larger friction of two shapes, unless one has priority."""
    surroundings, shapes = model.geom_bodyid == 0, model.geom_bodyid == body
    floor = model.geom_friction[surroundings].max(0, initial=0.0)
    friction = np.maximum(model.geom_friction[shapes], floor)
    if not friction[:, 0].any():
        raise InputError(f"disturbances.bodies.{name}.friction: nothing rubs in its contacts, a factor changes nothing")
    model.geom_friction[shapes] = factor * friction
    model.geom_priority[shapes] = 1
    model.geom_condim[shapes] = np.maximum(model.geom_condim[shapes], model.geom_condim[surroundings].max(initial=1))


def _stretch(body: Any, factor: float) -> None:
    """Make a body's shapes longer, and move what hangs on it."""
    for geom in body.geoms:
        geom.size = [geom.size[0] * (factor if geom.type == mujoco.mjtGeom.mjGEOM_SPHERE else 1.0), *geom.size[1:]]
        if np.isfinite(geom.fromto).all():
            geom.fromto = np.asarray(geom.fromto) * factor
        else:
            geom.pos = np.asarray(geom.pos) * factor
            geom.size = [geom.size[0], geom.size[1] * factor, geom.size[2] * factor]
    for part in (*body.bodies, *body.sites):
        part.pos = np.asarray(part.pos) * factor


def _replace_model(environment: MujocoEnv, model: Any) -> None:
    """Give an environment another model, as if it had been made with it."""
    environment.model = model
    environment.data = mujoco.MjData(model)
    # A robot of ours starts in its model's first keyframe, Gymnasium's where the model begins.
    environment.init_qpos = (model.key_qpos[0] if model.nkey else environment.data.qpos).ravel().copy()
    environment.init_qvel = environment.data.qvel.ravel().copy()
    renderer = environment.mujoco_renderer
    renderer.model, renderer.data = model, environment.data
    environment._set_action_space()  # pyright: ignore[reportPrivateUsage]
    mujoco.mj_forward(model, environment.data)
    seen: Any = environment._get_obs()  # pyright: ignore
    size = len(seen[0] if isinstance(seen, tuple) else seen)  # that of a point in a maze comes with an info
    environment.observation_space = Box(-np.inf, np.inf, (size,), np.float64)


def _freeze(environment: MujocoEnv, joints: Sequence[int]) -> None:
    """Hold hinge or slide joints where they start, from the first moment of every episode."""
    model: Any = environment.model
    for joint in joints:
        if model.jnt_type[joint] not in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE):
            name = model.joint(joint).name
            raise InputError(f"disturbances.frozen: {name!r} turns or moves freely, it cannot be held")
        held = environment.init_qpos[model.jnt_qposadr[joint]]
        low, high = model.jnt_range[joint]
        if model.jnt_limited[joint] and not low <= held <= high:
            held = (low + high) / 2
        environment.init_qpos[model.jnt_qposadr[joint]] = held
        model.jnt_limited[joint] = 1
        model.jnt_range[joint] = (held - _HELD, held + _HELD)
    if joints:
        _start_held(environment, list(joints))


def hold_frozen(environment: MujocoEnv) -> bool:
    """Put the frozen joints where they are held, in a state of a robot whose joints are not; false when none is."""
    robot = getattr(environment, "robot", environment)  # which may be in a maze
    hold = getattr(robot, _HOLD, None)
    if hold is None:
        return False
    hold()
    return True


def _start_held(environment: MujocoEnv, joints: list[int]) -> None:
    """Leave frozen joints out of what a reset draws: their limits would throw them back with a jolt."""
    where, speeds = environment.model.jnt_qposadr[joints], environment.model.jnt_dofadr[joints]
    draw, held = environment.reset_model, environment.init_qpos[where].copy()

    def hold() -> None:
        positions, velocities = environment.data.qpos.copy(), environment.data.qvel.copy()
        positions[where], velocities[speeds] = held, 0.0
        environment.set_state(positions, velocities)

    def reset_model() -> Any:
        draw()
        hold()
        return environment._get_obs()  # pyright: ignore

    environment.reset_model = reset_model
    setattr(environment, _HOLD, hold)


def _body(model: Any, name: str) -> int:
    """The number of a body by its own name or one of its shapes'."""
    shapes = [model.geom(index).name for index in range(model.ngeom)]
    if name and name in shapes and model.geom_bodyid[shapes.index(name)] != 0:
        return int(model.geom_bodyid[shapes.index(name)])
    return _index(model, "body", name)


def _index(model: Any, kind: str, name: str) -> int:
    """The number of a joint or body by its name."""
    count = {"joint": model.njnt, "body": model.nbody}[kind]
    names = [getattr(model, kind)(index).name for index in range(count)]
    if name not in names or not name:
        shapes = [model.geom(i).name for i in range(model.ngeom) if model.geom_bodyid[i]] if kind == "body" else []
        raise InputError(f"the robot has no {kind} {name!r}: {nearest(name, [n for n in (*names, *shapes) if n])}")
    return names.index(name)


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = values.get(name) or {}
    if not isinstance(value, Mapping):
        raise InputError(f"disturbances.{name}={value}: names and factors are expected, like {{name: 0.5}}")
    return cast(Mapping[str, Any], value)


def _factors(where: str, value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise InputError(f"disturbances.{where}={value}: names and factors are expected, like {{mass: 1.5}}")
    items = cast(Mapping[str, Any], value).items()
    return {str(name): _number(f"{where}.{name}", factor) for name, factor in items}


def _number(where: str, value: Any) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value) and value >= 0
    if not good:
        raise InputError(f"disturbances.{where}={value}: a number of at least 0 is expected")
    return float(value)


def _names(values: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = values.get(name) or ()
    if not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value) or isinstance(value, str):
        raise InputError(f"disturbances.{name}={value}: a list of names is expected, like [ankle_4]")
    return tuple(cast(Sequence[str], value))
