"""Videos of a controller at work: rendered off screen by MuJoCo, encoded as MP4 by ffmpeg."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Any, cast

import imageio_ffmpeg
import mujoco
import numpy as np
import torch
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv

from ..robots import InputError, Task, TaskBatch
from ..robots.rendering import draw_quickly
from .evaluation import Act, Evaluation

FASTEST = 60.0  # frames per second; a controller can be much faster
# What the several OpenGL bindings raise where their library is missing or does not work.
_GL_ERRORS = (RuntimeError, AttributeError, ImportError, OSError, cast(Any, mujoco).FatalError)


def write_video(act: Act, task: Task, path: Path, *, seed: int) -> Evaluation:
    """Play the episode of ``seed`` and write it to an MP4 file at ``path``, in real time.

    ``act`` maps (1, 1, O) to (1, 1, A) in [−1, 1]. A file already there is replaced once the video is whole.
    Errors: :class:`InputError` when nothing can be rendered or encoded here, or the disk refuses.
    """
    tasks = TaskBatch(task, [seed], render=True)
    try:
        with _whole(path) as temporary:
            return _play(act, tasks, temporary)
    finally:
        tasks.close()


def write_positions(task: Task, positions: np.ndarray, path: Path, *, rate: float) -> None:
    """Write a robot's positions (T, nq), ``rate`` of them a second, as an MP4 file at ``path``.

    Errors: as :func:`write_video`.
    """
    environment: Any = task.make(render=True)
    try:
        environment.reset(seed=0)
        render = renderer(environment)
        with _whole(path) as temporary, _encoder(temporary, render(), rate) as show:
            for position in positions:
                environment.data.qpos[:] = position
                cast(Any, mujoco).mj_forward(environment.model, environment.data)
                show(render())
    finally:
        environment.close()


def check_video(path: Path) -> None:
    """Errors: :class:`InputError` for a name that no video can be written to."""
    if path.suffix.lower() != ".mp4":
        raise InputError(f"{path}: a video is written as MP4, so its name must end in .mp4")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}; make it first")


@contextlib.contextmanager
def _whole(path: Path) -> Generator[Path]:
    """A temporary file that takes the name ``path`` once it is whole."""
    check_video(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.mp4")
    try:
        temporary.touch()
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _play(act: Act, tasks: TaskBatch, path: Path) -> Evaluation:
    every = math.ceil(tasks.spaces.control_rate / FASTEST)
    observations = tasks.reset()
    render = renderer(tasks.environments[0])
    total, ended = 0.0, False
    with _encoder(path, render(), tasks.spaces.control_rate / every) as show:
        while not ended:
            if tasks.elapsed[0] % every == 0:
                show(render())
            actions = act(torch.as_tensor(observations).view(1, 1, -1)).view(1, -1).cpu().numpy()
            result = tasks.step(actions, "evaluation")
            total, ended = total + float(result.rewards[0]), bool(result.ended[0])
            observations = result.next_observations
        show(render())
    return Evaluation(np.array([[total]]), tasks.elapsed.reshape(1, 1).copy())


@contextlib.contextmanager
def _encoder(path: Path, frame: np.ndarray, rate: float) -> Generator[Callable[[np.ndarray], None]]:
    """Gives a function that adds a frame (H, W, 3), uint8, of the size of ``frame``, to the video.

    Errors: :class:`OSError` when ffmpeg fails. (The writer of imageio-ffmpeg does not look at its exit code, so
    that on a full disk half a video would pass for a whole one.)
    """
    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:  # that of a platform for which the package brings none
        raise InputError("videos need ffmpeg: install it, or name it in IMAGEIO_FFMPEG_EXE") from error
    height, width = frame.shape[:2]
    read = ["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}", "-framerate", f"{rate}"]
    # Most players want this layout of colours, which needs even sizes.
    write = ["-codec:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"]
    command = [program, "-y", "-loglevel", "error", *read, "-i", "-", *write, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        pipe = process.stdin
        try:
            # When ffmpeg ends early the pipe breaks, but what it said itself is worth more.
            with contextlib.suppress(BrokenPipeError):
                yield lambda image: _write(pipe, image)
            _, said = process.communicate()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines()
        raise OSError(process.returncode, lines[-1] if lines else f"ffmpeg ended with code {process.returncode}")


def _write(pipe: IO[bytes], image: np.ndarray) -> None:
    pipe.write(image.tobytes())


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
    model, native = cast(Any, environment).model, cast(Any, mujoco)
    draw_quickly(model)
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
