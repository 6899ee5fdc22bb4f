"""`understudy export`: a policy as one graph for onnxruntime or torch. Wiring only."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..robots import InputError, find_task
from .options import option, parse_options, run_command

if TYPE_CHECKING:
    import numpy as np

    from ..imitation.policy import Policy

EXAMPLES = (
    "understudy export runs/hopper/hype/2026-01-31_12-00-00 out=hopper-onnx",
    "understudy export runs/hopper/bc/2026-01-31_12-00-00/policies/run-1 format=torch out=hopper-pt2",
)


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Write a policy as one graph: normaliser, network, head and action scale, for any number of rows.

    Beside the graph stands metadata.json: task, names, units and order of observations and actions, control rate,
    training, hashes and versions. The graph is checked against the policy on random observations and on those of
    demonstrations; if any action differs by more than 1e-5 nothing is written. The last line is JSON.
    """

    policy: str = option("a policy directory, a run directory (its chosen policy), or a stable-baselines3 zip")
    out: Path = option("the folder to write")  # noqa: RUF009 (option() is dataclasses.field())
    format: Literal["onnx", "torch"] = option(
        "onnx runs with onnxruntime and NumPy alone; torch is for torch.export.load", "onnx"
    )
    task: str | None = option(
        "the task; a policy directory knows its own, a zip only if one task alone has its sizes", None
    )
    data: str = option(
        "demonstrations to check it on, by name or path; auto are those bundled for the task, or an episode of the "
        "policy's own where there are none",
        "auto",
    )
    overwrite: bool = option("replace an export that is there", False)
    quiet: bool = option("print nothing but the line of JSON", False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def body() -> None:
        export(parse_options(ExportOptions, arguments, command="export", positional="policy", examples=EXAMPLES))

    return run_command(body)


def export(options: ExportOptions) -> dict[str, Any]:
    """Export as the options say; returns what the last line says. Errors: :class:`InputError`."""
    import torch

    from ..imitation.export import export_policy
    from ..imitation.loading import load_policy

    try:
        is_file, exists = options.out.is_file(), options.out.exists()
    except OSError as error:
        raise InputError(f"out={options.out}: {error.strerror}: choose another name") from error
    if is_file:
        raise InputError(f"out={options.out} is a file: a folder is written")
    if exists and not options.overwrite:
        raise InputError(f"out={options.out} exists already: choose another name or add overwrite=true")
    torch.set_num_threads(1)  # as on a robot, and the networks are too small to share out
    policy = load_policy(options.policy, None if options.task is None else find_task(options.task))
    name, rows = _observations(options, policy)
    exported = export_policy(policy, options.format, options.out, {name: rows})
    result = {
        "policy": options.policy,
        "format": options.format,
        "task": policy.config.task,
        "parity": dict(exported.parity),
        "latency_microseconds": dict(exported.latency),
        "folder": str(options.out),
    }
    if not options.quiet:
        for name, difference in exported.parity.items():
            print(f"parity   {difference:.1e} on {name} observations")
        p50, p99, most = (exported.latency[key] for key in ("p50", "p99", "max"))
        print(f"latency  p50 {p50:.1f}, p99 {p99:.1f}, max {most:.1f} microseconds for {_what(policy)}, on one thread")
        print(f"folder   {options.out}")
    print(json.dumps(result), flush=True)
    return result


def _what(policy: Policy) -> str:
    """What a call of the exported graph is."""
    from ..imitation.chunk_policy import ChunkPolicy

    if not isinstance(policy, ChunkPolicy):
        return "one observation"
    return f"one plan, of which {policy.shape.acts} actions are taken"


def _observations(options: ExportOptions, policy: Policy) -> tuple[str, np.ndarray]:
    """What the policy sees in earnest, and what to call it."""
    from ..datasets import bundled, load
    from ..imitation.export import visited_observations

    task = policy.task
    name = f"{task.name}-expert" if options.data == "auto" else options.data
    if options.data == "auto" and name not in bundled():
        return "visited", visited_observations(policy)
    return name, load(name, task).observations


if __name__ == "__main__":
    raise SystemExit(main())
