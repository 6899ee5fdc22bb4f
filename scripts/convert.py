"""`understudy convert`: demonstrations from one format into another. Wiring only."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from ..datasets import Demonstrations, Parts, load, sources, write_d4rl
from ..datasets.lerobot_writing import write_lerobot
from ..datasets.minari_writing import write_minari
from ..datasets.npz import write_npz
from ..datasets.robomimic import write_robomimic
from ..robots import InputError, find_task
from .options import option, parse_options, run_command
from .terminal import fetching

EXAMPLES = (
    "understudy convert expert_hopper.npz task=hopper out=hopper.hdf5",
    "understudy convert hopper-expert out=hopper-lerobot format=lerobot",
    "understudy convert hopper-expert out=mujoco/hopper/mine-v0 format=minari episodes=5",
)
Format = Literal["d4rl", "npz", "robomimic", "minari", "lerobot"]
_WRITERS: dict[str, Callable[..., None]] = {
    "d4rl": write_d4rl,
    "npz": write_npz,
    "robomimic": write_robomimic,
    "minari": write_minari,
    "lerobot": write_lerobot,
}
_SUFFIXES = {".hdf5": "d4rl", ".h5": "d4rl", ".npz": "npz"}


@dataclasses.dataclass(frozen=True)
class ConvertOptions:
    """Read demonstrations of any format, check them, and write them in another. The last line is JSON."""

    data: str = option("a name or path of any format that training reads, or several of one task: [a,b]")
    out: str = option("the file (d4rl, npz, robomimic), the folder (lerobot) or the data set's id (minari)")
    format: Format | None = option(  # noqa: RUF009 (option() is dataclasses.field())
        "the format to write; without it by the suffix of out (.hdf5: d4rl, .npz)", None
    )
    task: str | None = option("the task they are of, where they do not say", None)
    episodes: int | None = option("only the first so many", None, at_least=1)
    every: int | None = option("of these every so many rows", None, at_least=1)
    rows: int | None = option("of these the first so many", None, at_least=1)
    min_return: float | None = option("only episodes that return at least this", None)
    weights: tuple[int, ...] = option("how often each of several sources is there", (), at_least=1)
    keys: tuple[str, ...] = option("robomimic, LeRobot: the parts of the observation, like [eef_pos,object]", ())
    mask: str | None = option("robomimic: the episodes of a list in the file, like train", None)
    done_mode: int | None = option("robomimic: the mode with which its dones were made, if known", None, at_least=0)
    strict: bool = option("refuse what is only warned of, too", False)
    overwrite: bool = option("replace what is there", False)
    quiet: bool = option("print only the last line, the JSON", False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def body() -> None:
        options = parse_options(ConvertOptions, arguments, command="convert", positional="data", examples=EXAMPLES)
        print(json.dumps(convert(options)), flush=True)

    return run_command(body)


def convert(options: ConvertOptions) -> dict[str, Any]:
    """Convert as the options say; returns what the last line says.

    Errors: :class:`InputError` for whatever cannot be read, is not sound, or cannot be written.
    """
    kind = options.format or _SUFFIXES.get(Path(options.out).suffix.lower())
    if kind is None:
        raise InputError(f"out={options.out}: its suffix names no format: give format={', '.join(_WRITERS)}")
    task = None if options.task is None else find_task(options.task)
    found = load(
        [name for _, name in sources(options.data)],
        task,
        episodes=options.episodes,
        every=options.every,
        rows=options.rows,
        weights=options.weights,
        min_return=options.min_return,
        parts=Parts(options.keys, options.mask, options.done_mode),
        examine=True,
        strict=options.strict,
        progress=fetching(quiet=options.quiet),
    )
    command = f"understudy convert {options.data} format={kind}"
    _WRITERS[kind](options.out, found, task, overwrite=options.overwrite, command=command)
    if not options.quiet:
        print(f"{options.data} -> {options.out} ({kind}): {_about(found)}")
    return {
        "rows": len(found),
        "episodes": len(found.starts),
        "task": found.task_name,
        "format": kind,
        "out": options.out,
    }


def _about(found: Demonstrations) -> str:
    return f"{len(found):,} rows in {len(found.starts):,} episodes of {found.task_name}"


if __name__ == "__main__":
    raise SystemExit(main())
