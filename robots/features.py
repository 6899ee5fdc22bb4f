"""What the numbers of a task's observation and action are called, and their units."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import mujoco as _untyped_mujoco
import numpy as np

from .tasks import Task

# MuJoCo's compiled module comes without types.
mujoco: Any = _untyped_mujoco

_FREE = ("x", "y", "z", "qw", "qx", "qy", "qz")
_FREE_UNITS = ("m", "m", "m", "", "", "", "")
_TWIST = ("vx", "vy", "vz", "wx", "wy", "wz")
_TWIST_UNITS = ("m/s", "m/s", "m/s", "rad/s", "rad/s", "rad/s")


@dataclasses.dataclass(frozen=True)
class Feature:
    """One number of an observation or an action: its name, and its unit ("" where it has none or nobody says)."""

    name: str
    unit: str = ""


def features_of(task: Task) -> tuple[tuple[Feature, ...], tuple[Feature, ...]]:
    """The observation's (O,) and the action's (A,) features, in order.

    Positions and velocities go by their joints, ``thigh_joint.position`` and ``thigh_joint.velocity``; whatever else an
    observation has by its part and number, where Gymnasium says the parts.
    """
    environment = task.make()
    try:
        model: Any = environment.model
        count = int(np.prod(cast(tuple[int, ...], environment.observation_space.shape)))
        structure = cast(Mapping[str, int], getattr(environment, "observation_structure", None) or {})
        return _observed(model, structure, count), _commanded(model, int(np.prod(environment.action_space.shape or ())))
    finally:
        environment.close()


def _observed(model: Any, structure: Mapping[str, int], count: int) -> tuple[Feature, ...]:
    known = {"qpos": _positions(model)[structure.get("skipped_qpos", 0) :], "qvel": _velocities(model)}
    features: list[Feature] = []
    for part, length in structure.items():
        if part == "skipped_qpos" or not length:
            continue
        own = known.get(part, [])
        features += own if len(own) == length else [Feature(f"{part}.{index}") for index in range(length)]
    return tuple(features) if len(features) == count else tuple(Feature(f"observation.{k}") for k in range(count))


def _positions(model: Any) -> list[Feature]:
    features: list[Feature] = []
    for joint in range(model.njnt):
        name, kind = _joint(model, joint), model.jnt_type[joint]
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            features += [Feature(f"{name}.{end}", unit) for end, unit in zip(_FREE, _FREE_UNITS, strict=True)]
        elif kind == mujoco.mjtJoint.mjJNT_BALL:
            features += [Feature(f"{name}.{end}") for end in _FREE[3:]]
        else:
            features.append(Feature(f"{name}.position", "m" if kind == mujoco.mjtJoint.mjJNT_SLIDE else "rad"))
    return features


def _velocities(model: Any) -> list[Feature]:
    features: list[Feature] = []
    for joint in range(model.njnt):
        name, kind = _joint(model, joint), model.jnt_type[joint]
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            features += [Feature(f"{name}.{end}", unit) for end, unit in zip(_TWIST, _TWIST_UNITS, strict=True)]
        elif kind == mujoco.mjtJoint.mjJNT_BALL:
            features += [Feature(f"{name}.{end}", "rad/s") for end in _TWIST[3:]]
        else:
            features.append(Feature(f"{name}.velocity", "m/s" if kind == mujoco.mjtJoint.mjJNT_SLIDE else "rad/s"))
    return features


def _joint(model: Any, joint: int) -> str:
    return model.joint(joint).name or f"joint_{joint}"


def _commanded(model: Any, count: int) -> tuple[Feature, ...]:
    """A motor's number times its gear is a torque or a force; a position actuator's is where it is to go."""
    if count != model.nu:  # an environment that makes controls of its actions says nothing of what they are
        return tuple(Feature(f"action.{index}") for index in range(count))
    return tuple(_actuator(model, index) for index in range(count))


def _actuator(model: Any, index: int) -> Feature:
    joint = int(model.actuator_trnid[index, 0])
    of_joint = model.actuator_trntype[index] == mujoco.mjtTrn.mjTRN_JOINT and joint >= 0
    name = model.actuator(index).name or (_joint(model, joint) if of_joint else f"actuator_{index}")
    if not of_joint:
        return Feature(name)
    slides = model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE
    gain, bias = model.actuator_gainprm[index, 0], model.actuator_biasprm[index]
    if model.actuator_biastype[index] == mujoco.mjtBias.mjBIAS_NONE:
        factor = gain * model.actuator_gear[index, 0]
        return Feature(name, f"{factor:g} {'N' if slides else 'N m'}" if factor != 1 else ("N" if slides else "N m"))
    if bias[1] == -gain:
        return Feature(name, "m" if slides else "rad")
    return Feature(name, "m/s" if slides else "rad/s") if bias[2] == -gain else Feature(name)
