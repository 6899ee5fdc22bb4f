"""What the numbers of a task's observation and action are called, and their units."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import mujoco as _untyped_mujoco
import numpy as np

from .tasks import Task

# MuJoCo's compiled module comes without types.
mujoco: Any = _untyped_mujoco

_POSE = (("x", "m"), ("y", "m"), ("z", "m"), ("qw", ""), ("qx", ""), ("qy", ""), ("qz", ""))
_TWIST = (("vx", "m/s"), ("vy", "m/s"), ("vz", "m/s"), ("wx", "rad/s"), ("wy", "rad/s"), ("wz", "rad/s"))


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
    positions = _of_joints(model, _POSE, "", "position", "")[structure.get("skipped_qpos", 0) :]
    known = {"qpos": positions, "qvel": _of_joints(model, _TWIST, "rad/s", "velocity", "/s")}
    features: list[Feature] = []
    for part, length in structure.items():
        if part == "skipped_qpos" or not length:
            continue
        own = known.get(part, [])
        features += own if len(own) == length else [Feature(f"{part}.{index}") for index in range(length)]
    return tuple(features) if len(features) == count else tuple(Feature(f"observation.{k}") for k in range(count))


def _of_joints(model: Any, free: Sequence[tuple[str, str]], turning: str, what: str, per: str) -> list[Feature]:
    """Those of every joint: ``free`` are the ends and units of a free joint's numbers, the last of which, without the
    first three, a ball joint has in the unit ``turning``; of others it is ``what``, in m or rad ``per`` something."""
    features: list[Feature] = []
    for joint in range(model.njnt):
        name, kind = _joint(model, joint), model.jnt_type[joint]
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            features += [Feature(f"{name}.{end}", unit) for end, unit in free]
        elif kind == mujoco.mjtJoint.mjJNT_BALL:
            features += [Feature(f"{name}.{end}", turning) for end, _ in free[3:]]
        else:
            features.append(Feature(f"{name}.{what}", ("m" if kind == mujoco.mjtJoint.mjJNT_SLIDE else "rad") + per))
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
