"""`understudy info`: versions and devices, for bug reports and for the curious."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence

from .options import parse_options, run_command

PACKAGES = (
    "understudy", "torch", "gymnasium", "mujoco", "numpy", "scipy", "stable-baselines3", "hydra-core", "h5py",
    "safetensors",
)  # fmt: skip
_RENDER = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco/>")
with mujoco.Renderer(model, 64, 64) as renderer:
    renderer.update_scene(mujoco.MjData(model))
    renderer.render()
"""


@dataclasses.dataclass(frozen=True)
class InfoOptions:
    """Print versions and devices: what to put into a bug report."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def body() -> None:
        parse_options(InfoOptions, arguments, command="info", examples=("understudy info",))
        facts = {**_versions(), **_devices(), "rendering": rendering()}
        width = max(map(len, facts))
        for name, fact in facts.items():
            print(f"{name:{width}}  {fact}")

    return run_command(body)


def _versions() -> dict[str, str]:
    found = {"python": f"{platform.python_version()} on {platform.platform()}"}
    for package in PACKAGES:
        found[package] = importlib.metadata.version(package)
    return found


def _devices() -> dict[str, str]:
    import torch  # takes seconds to import, and --help does not need it

    from ..imitation.run_log import processor

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {
        "processor": f"{processor()}, {cores} cores for this process",
        "threads": f"{torch.get_num_threads()} (torch), {torch.backends.cpu.get_cpu_capability()}",
        "gpu": "none that torch can use",
    }
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        memory = ", ".join(f"{each.name} ({each.total_memory / 2**30:.0f} GiB)" for each in names)
        facts["gpu"] = f"{memory}, CUDA {torch.version.cuda}"
    return facts


def rendering() -> str:
    """Whether MuJoCo can render here, tried in a process of its own: a broken driver can end the process."""
    backend = os.environ.get("MUJOCO_GL", "")
    shown = f"MUJOCO_GL={backend}" if backend else "MUJOCO_GL is not set"
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform == "linux" and not backend and not display:
        return f"{shown} and there is no display: set it to egl or osmesa for videos"
    try:
        done = subprocess.run([sys.executable, "-c", _RENDER], capture_output=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return f"{shown}: does not answer; try another of egl, osmesa and glfw"
    works = done.returncode == 0
    return f"{shown}: " + ("works" if works else "does not work; try another of egl, osmesa and glfw")


if __name__ == "__main__":
    raise SystemExit(main())
