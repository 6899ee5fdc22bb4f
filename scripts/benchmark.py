"""`understudy benchmark`: speed against a peer, measured in the same run and given as a ratio."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from .options import option, parse_options, run_command

if TYPE_CHECKING:
    import torch

ROWS = 2_000  # in each side's replay buffer


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """Measure how fast the stacked SAC updates, as a ratio to stable-baselines3's SAC.

    Both have two layers of 256, batches of 256 and a replay buffer of Hopper's sizes, on the same threads. They
    are timed in turn, block by block, so that a machine whose speed drifts slows both; the ratio is that of a
    pair of blocks. One run-update is one gradient step of one run: a stack of R runs makes R of them at a time.
    """

    name: Literal["sac"] = option("what to measure", "sac")
    runs: int = option("runs in our stack", 4, at_least=1)
    precision: Literal["float32", "bfloat16", "both"] = option("our precision of matrix products", "both")
    threads: tuple[int, ...] | None = option("thread counts to measure at; 1 and all when left out", None, at_least=1)
    updates: int = option("updates in a block", 20, at_least=1)
    blocks: int = option("pairs of blocks", 9, at_least=1)
    device: str = option("auto, cpu or cuda", "auto")
    quiet: bool = option("print only the last line, the JSON", False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    examples = ("understudy benchmark sac", "understudy benchmark sac runs=8 precision=bfloat16 threads=1,2")

    def body() -> None:
        options = parse_options(BenchmarkOptions, arguments, command="benchmark", positional="name", examples=examples)
        print(json.dumps(benchmark(options)))

    return run_command(body)


def benchmark(options: BenchmarkOptions) -> dict[str, Any]:
    """Measure every combination asked for; returns what the last line says."""
    import torch

    from ..imitation.run_log import hardware, versions
    from .build import available_threads, find_device

    device = find_device(options.device)
    started, before = time.monotonic(), torch.get_num_threads()
    counts = options.threads or tuple(sorted({1, available_threads()}))
    precisions = ("float32", "bfloat16") if options.precision == "both" else (options.precision,)
    results: list[dict[str, Any]] = []
    if not options.quiet:
        print(f"run-updates per second, {options.runs} runs, {device}")
        print(f"{'threads':>7} {'precision':>9} {'peer':>8} {'ours':>8}  ratio (min to max)")
    try:
        for threads in counts if device.type == "cpu" else counts[:1]:
            torch.set_num_threads(threads)
            for precision in precisions:
                measured = _measure(options, device, getattr(torch, precision))
                results.append({"threads": threads, "precision": precision, "runs": options.runs, **measured})
                if not options.quiet:
                    print(
                        f"{threads:7} {precision:>9} {measured['sb3']:8.1f} {measured['ours']:8.1f}  "
                        f"{measured['ratio']:.2f} ({measured['low']:.2f} to {measured['high']:.2f})",
                        flush=True,
                    )
    finally:
        torch.set_num_threads(before)
    about = {"versions": versions(), "hardware": hardware(device)}
    return {"benchmark": "sac", "results": results, **about, "seconds": round(time.monotonic() - started, 1)}


def _measure(options: BenchmarkOptions, device: torch.device, precision: torch.dtype) -> dict[str, float]:
    """Medians of both rates and of their ratio over pairs of blocks, and the ratio's range."""
    import numpy as np
    import torch

    peer, ours = _peer(device), _ours(options.runs, device, precision)

    def rate(block: Callable[[int], object], per_update: int) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        block(options.updates)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return options.updates * per_update / (time.perf_counter() - started)

    peer(5)
    ours(5)
    pairs = np.array([(rate(peer, 1), rate(ours, options.runs)) for _ in range(options.blocks)])
    ratios = pairs[:, 1] / pairs[:, 0]
    return {
        "sb3": round(float(np.median(pairs[:, 0])), 1),
        "ours": round(float(np.median(pairs[:, 1])), 1),
        "ratio": round(float(np.median(ratios)), 3),
        "low": round(float(ratios.min()), 3),
        "high": round(float(ratios.max()), 3),
    }


def _ours(runs: int, device: torch.device, precision: torch.dtype) -> Callable[[int], object]:
    """A function that makes n updates of the stack: indices, rows, noise, relabelling and the update itself."""
    import torch

    from ..imitation.agents import SAC, SACConfig
    from ..imitation.interactive import InteractiveConfig, InteractiveTraining
    from ..imitation.networks import Normaliser
    from ..imitation.resets import InitialResets
    from ..imitation.rewards import TaskReward
    from ..robots import find_task

    task = find_task("hopper")
    spaces = task.spaces
    normaliser = Normaliser.identity(spaces.observation_size)
    agent = SAC(SACConfig(), runs, spaces.observation_size, spaces.action_size, normaliser, precision)
    config = InteractiveConfig(steps=ROWS)
    training = InteractiveTraining(config, task, agent, TaskReward(), InitialResets(), None, list(range(runs)), device)
    generator = torch.Generator().manual_seed(0)
    for _ in range(ROWS):
        training.buffer.add(torch.randn(runs, training.layout.width, generator=generator))
    training.buffer.rows[..., -2:] = 0.0
    return training.update


def _peer(device: torch.device) -> Callable[[int], object]:
    """The same of stable-baselines3's SAC."""
    import gymnasium
    import numpy as np
    from stable_baselines3 import SAC
    from stable_baselines3.common.logger import configure

    model = SAC(
        "MlpPolicy", gymnasium.make("Hopper-v5"), batch_size=256, buffer_size=ROWS, device=device,
        policy_kwargs={"net_arch": [256, 256]}, verbose=0,
    )  # fmt: skip
    model.set_logger(configure(None, []))
    generator = np.random.default_rng(0)
    assert model.replay_buffer is not None
    for _ in range(ROWS):
        rows = generator.standard_normal((2, 1, 11))
        action = generator.uniform(-1, 1, (1, 3))
        model.replay_buffer.add(rows[0], rows[1], action, np.ones(1), np.zeros(1), [{}])
    return lambda count: model.train(gradient_steps=count, batch_size=256)


if __name__ == "__main__":
    raise SystemExit(main())
