"""`understudy benchmark`: speed against a peer, measured in the same run and given as a ratio."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from .options import option, parse_options, run_command

if TYPE_CHECKING:
    import torch

    from .paired import Comparison


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """Measure speed against a peer in the same run, as a ratio.

    sac: our stacked SAC's updates against stable-baselines3's SAC, as a ratio of run-updates per second (one
    run-update is one gradient step of one run: a stack of R runs makes R of them at a time). Both have two layers of
    256, batches of 256 and a replay buffer of Hopper's sizes, on the same threads.

    rewards: what a learned reward costs, relabelling and its own updates, in updates of the agent that it teaches: of
    SAC with each reward against the same with the task's reward, at the defaults, on Hopper.

    world: what an update of HyPER's agent costs inside its learned world, with the roll-outs that belong to it, in
    updates outside, for several members x horizon; and what a whole fit of the ensemble costs.

    data: loading a file of demonstrations, alone and with the checks that training makes, against h5py reading its
    arrays, as a ratio of seconds, with the memory it takes as a ratio of the arrays'; and joining its rows one by one,
    as D4RL's own loader does. Some ten minutes: more than a million rows are timed three times at most.

    deploy: an exported actor's latency against stable-baselines3's predict for networks of the same sizes, on one
    thread, as ratios at the median and at p99; and the control loop with a simulated Hopper at 100 and 500 Hz: its
    overhead (everything but the policy), and deadlines missed, also beside a process that wants the same core.

    Both sides are timed in turn, block by block, so that a machine whose speed drifts slows both; the ratio is that of
    a pair of blocks.
    """

    name: Literal["sac", "rewards", "world", "data", "deploy"] = option("what to measure", "sac")
    runs: int = option("runs in our stack", 4, at_least=1)
    precision: Literal["float32", "bfloat16", "both"] = option("our precision of matrix products", "both")
    threads: tuple[int, ...] | None = option("thread counts to measure at; 1 and all when left out", None, at_least=1)
    updates: int = option("updates in a block", 20, at_least=1)
    blocks: int = option("pairs of blocks", 9, at_least=1)
    rows: tuple[int, ...] = option("rows of the files (data)", (100_000, 1_000_000, 10_000_000), at_least=1)
    compressed: bool = option("whether the files are compressed, as D4RL's are (data)", True)
    seconds: float = option("seconds at each rate (deploy)", 60.0, at_least=1)
    device: str = option("auto, cpu or cuda", "auto")
    quiet: bool = option("print only the last line, the JSON", False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    examples = ("understudy benchmark sac", "understudy benchmark rewards threads=1")

    def body() -> None:
        options = parse_options(BenchmarkOptions, arguments, command="benchmark", positional="name", examples=examples)
        print(json.dumps(benchmark(options)))

    return run_command(body)


def benchmark(options: BenchmarkOptions) -> dict[str, Any]:
    """Measure every combination asked for; returns what the last line says."""
    import torch

    from ..imitation.run_log import hardware, versions
    from .build import available_threads, find_device
    from .paired import measure

    if options.name in ("data", "deploy"):
        return _by_itself(options)
    device = find_device(options.device)
    started, before = time.monotonic(), torch.get_num_threads()
    counts = options.threads or tuple(sorted({1, available_threads()}))
    precisions = ("float32", "bfloat16") if options.precision == "both" else (options.precision,)
    results: list[dict[str, Any]] = []
    if not options.quiet:
        print(f"run-updates per second, {options.runs} runs, {device}; ratio (min to max)")
    try:
        for threads in counts if device.type == "cpu" else counts[:1]:
            torch.set_num_threads(threads)
            for precision in precisions:
                for comparison in _comparisons(options, device, precision):
                    row = measure(comparison, options.updates, options.blocks, device)
                    results.append({"threads": threads, "precision": precision, "runs": options.runs, **row})
                    if not options.quiet:
                        _print_row(results[-1], comparison.sides)
    finally:
        torch.set_num_threads(before)
    about = {"versions": versions(), "hardware": hardware(device)}
    return {"benchmark": options.name, "results": results, **about, "seconds": round(time.monotonic() - started, 1)}


def _by_itself(options: BenchmarkOptions) -> dict[str, Any]:
    """Those that are not about updates, on the processor."""
    import torch

    from ..imitation.run_log import hardware, versions
    from .benchmark_data import data_benchmark
    from .benchmark_deploy import deploy_benchmark

    started = time.monotonic()

    def show(line: str) -> None:
        if not options.quiet:
            print(line, flush=True)

    if options.name == "data":
        results = data_benchmark(options.rows, options.blocks, show, compressed=options.compressed)
    else:
        results = deploy_benchmark(options.blocks, options.seconds, show)
    about = {"versions": versions(), "hardware": hardware(torch.device("cpu"))}
    return {"benchmark": options.name, "results": results, **about, "seconds": round(time.monotonic() - started, 1)}


def _comparisons(options: BenchmarkOptions, device: torch.device, precision: str) -> Iterable[Comparison]:
    import torch

    from .benchmark_rewards import reward_comparisons
    from .benchmark_sac import sac_comparison
    from .benchmark_world import world_comparisons

    if options.name == "rewards":
        return reward_comparisons(options.runs, device, precision)
    if options.name == "world":
        return world_comparisons(options.runs, device, precision)
    return [sac_comparison(options.runs, device, getattr(torch, precision))]


def _print_row(row: dict[str, Any], sides: tuple[str, str]) -> None:
    rates = "  ".join(f"{side} {row[side]:7.1f}" for side in sides)
    spread = f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
    print(f"{row['what']:>18}  threads {row['threads']}  {row['precision']:>8}  {rates}  ratio {spread}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
