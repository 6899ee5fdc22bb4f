"""How a model is drawn: quickly in software, and with a floor that goes on."""

from __future__ import annotations

from typing import Any

import mujoco as _untyped_mujoco

# MuJoCo's compiled module comes without types.
mujoco: Any = _untyped_mujoco


def draw_quickly(model: Any) -> None:
    """Change how a model looks, before it is first drawn; its physics stay."""
    # Shadows, multisampling and mirrors make rendering in software several times slower.
    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 0
    model.mat_reflectance[:] = 0
    # Planes are infinite to the physics. Drawn with their size, a fast robot leaves the floor behind; drawn
    # infinite, they need their texture by the metre.
    planes = model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE)
    materials = model.geom_matid[planes & (model.geom_matid >= 0)]
    model.geom_size[planes, :2] = 0
    model.mat_texuniform[materials] = True
    model.mat_texrepeat[materials] = 1
