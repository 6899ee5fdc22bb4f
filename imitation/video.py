"""Videos of a controller at work: rendered off screen by MuJoCo, encoded as MP4 by ffmpeg."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, cast

import imageio_ffmpeg  # pyright: ignore[reportMissingTypeStubs]
import mujoco  # pyright: ignore[reportMissingTypeStubs]
import numpy as np
import torch
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv

from ..robots import InputError, Task, TaskBatch
from .evaluation import Act, Evaluation

FASTEST = 60.0  # frames per second; a controller can be much faster
# What the several OpenGL bindings raise where their library is missing or does not work.
_GL_ERRORS = (RuntimeError, AttributeError, ImportError, OSError, cast(Any, mujoco).FatalError)


def write_video(
    act: Act, task: Task, path: Path, *, seed: int, advance: Callable[[], None] = lambda: None
) -> Evaluation:
    """Play the episode of ``seed`` and write it to an MP4 file at ``path``, in real time.

    ``act`` maps (1, 1, O) to (1, 1, A) in [−1, 1]; ``advance`` is called after each step. A file already
    there is replaced once the video is whole.
    Errors: :class:`InputError` when nothing can be rendered or encoded here, or the disk refuses.
    """
    if path.suffix.lower() != ".mp4":
        raise InputError(f"{path}: a video is written as MP4, so its name must end in .mp4")
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.mp4")
    tasks = TaskBatch(task, [seed], render=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        result = _play(act, tasks, temporary, advance)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or str(error).splitlines()[0]}") from error
    finally:
        temporary.unlink(missing_ok=True)
        tasks.close()
    return result


def _play(act: Act, tasks: TaskBatch, path: Path, advance: Callable[[], None]) -> Evaluation:
    every = math.ceil(tasks.spaces.control_rate / FASTEST)
    observations = tasks.reset()
    render = renderer(tasks.environments[0])
    sink = _encoder(path, render(), tasks.spaces.control_rate / every)
    total, ended = 0.0, False
    try:
        while not ended:
            if tasks.elapsed[0] % every == 0:
                sink.send(render())
            actions = act(torch.as_tensor(observations).view(1, 1, -1)).view(1, -1).cpu().numpy()
            result = tasks.step(actions, "evaluation")
            total, ended = total + float(result.rewards[0]), bool(result.ended[0])
            observations = result.next_observations
            advance()
        sink.send(render())
    finally:
        sink.close()
    return Evaluation(np.array([[total]]), tasks.elapsed.reshape(1, 1).copy())


def _encoder(path: Path, frame: np.ndarray, rate: float) -> Generator[None, np.ndarray | None]:
    """A generator that is sent frames (H, W, 3), uint8, of the size of ``frame``."""
    height, width = frame.shape[:2]
    write = cast(Any, imageio_ffmpeg).write_frames
    try:
        sink = write(str(path), (width, height), fps=rate, quality=7)
        sink.send(None)
    except RuntimeError as error:  # that of a platform for which the package brings no ffmpeg
        raise InputError("videos need ffmpeg: install it, or name it in IMAGEIO_FFMPEG_EXE") from error
    return sink


def renderer(environment: MujocoEnv) -> Callable[[], np.ndarray]:
    """A function that renders an environment as it is, to an image (H, W, 3), uint8.

    Errors: :class:`InputError` with what to set or install when there is no OpenGL.
    """
    backend = os.environ.get("MUJOCO_GL", "")
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform == "linux" and not backend and not display:
        raise InputError(
            "a video needs OpenGL and there is no display: set the environment variable MUJOCO_GL=egl, or "
            "MUJOCO_GL=osmesa to render in software"
        )
    # Shadows, multisampling and mirrors make rendering in software several times slower.
    model, native = cast(Any, environment).model, cast(Any, mujoco)
    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 0
    model.mat_reflectance[:] = 0
    # Planes are infinite to the physics. Drawn with their size, a fast robot leaves the floor behind; drawn
    # infinite, they need their texture by the metre.
    planes = model.geom_type == int(native.mjtGeom.mjGEOM_PLANE)
    materials = model.geom_matid[planes & (model.geom_matid >= 0)]
    model.geom_size[planes, :2] = 0
    model.mat_texuniform[materials] = True
    model.mat_texrepeat[materials] = 1
    # By default Gymnasium looks at the origin, and a robot that runs is soon out of sight.
    camera = native.mj_name2id(model, native.mjtObj.mjOBJ_CAMERA, "track")
    if camera >= 0:
        environment.mujoco_renderer.camera_id = camera

    def render() -> np.ndarray:
        return np.ascontiguousarray(environment.render(), np.uint8)

    try:
        render()
    except _GL_ERRORS as error:
        raise InputError(
            f"MuJoCo cannot render here with MUJOCO_GL={backend or 'unset'}: set it to another of egl, "
            "osmesa and glfw, or install the library it needs (libegl1, libosmesa6)"
        ) from error
    return render
