"""The `understudy` command: finds the command that is asked for and hands over the arguments."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence

# Nothing else is imported here: `understudy --help` must not wait for torch.

COMMANDS = {
    "train": "train a controller from demonstrations, with one learner and many runs at once",
    "export": "write a policy as one graph that runs without this suite",
    "deploy": "drive a simulated robot with a policy, in real time",
    "compare": "train many learners on many tasks, test which of them differ, and write a report",
    "diagnose": "check a learner itself: drift without a reward, what its reward is worth and how it moves",
    "evaluate": "play a policy or every run of a training and print its returns; write a video",
    "record": "record demonstrations from a policy, a stable-baselines3 zip or random actions",
    "inspect": "look through demonstrations: are they what they say, and what will they teach",
    "convert": "read demonstrations of one format and write them in another",
    "benchmark": "measure speed against a peer in the same run: updates, rewards, worlds, data, deployment",
    "info": "print versions and devices",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `understudy <command> …` and return its exit code (2 for bad input)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if arguments[0] in ("-V", "--version", "version"):
        print(f"understudy {importlib.metadata.version('understudy')}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        from ..robots import nearest

        print(f"understudy: there is no command {name!r}: {nearest(name, COMMANDS)}", file=sys.stderr)
        return 2
    backend = os.environ.get("MUJOCO_GL")
    if backend and not _opengl_loads():
        print(
            f"understudy: MUJOCO_GL={backend} does not work here: set it to another of egl, osmesa and glfw, "
            "install the library it needs (libegl1, libosmesa6), or unset it",
            file=sys.stderr,
        )
        return 2
    try:
        # A module called inspect beside the others would be taken for Python's own when one of them is run as a file.
        module = "inspect_data" if name == "inspect" else name
        return importlib.import_module(f".{module}", __package__).main(rest)
    except KeyboardInterrupt:  # while the command's libraries load; later it is the command's own affair
        return 130


def _opengl_loads() -> bool:
    """Whether MuJoCo can be imported: with MUJOCO_GL it loads that OpenGL at once, and fails as that does."""
    try:
        importlib.import_module("mujoco")
    except (ImportError, AttributeError, RuntimeError, OSError):
        return False
    return True


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
    return f"""usage: understudy COMMAND [key=value ...]

From demonstrations of a MuJoCo task to a controller: learn from them, see how well it went, use it.

commands:
{commands}

understudy COMMAND --help says what a command takes.

examples:
  understudy train task=hopper learner=bc
  understudy evaluate runs/hopper/bc/<date-time> episodes=20
  understudy record policy=random task=hopper episodes=10 out=random.hdf5"""


if __name__ == "__main__":
    sys.exit(main())
