"""An exported actor against stable-baselines3's `predict`, and how well the control loop keeps its time."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np

from ..robots import find_task
from ..robots.controller import Controller, ControllerConfig
from ..robots.exported import ExportedPolicy
from ..robots.safety import SafetyConfig
from ..robots.simulated_robot import SimulatedRobot

RATES = (100.0, 500.0)
_CALLS, _WARM_UP = 2000, 200  # in a block
_CROWDED = 10.0  # seconds at most beside a process that wants the same core
Show = Callable[[str], None]


def deploy_benchmark(blocks: int, seconds: float, show: Show) -> list[dict[str, Any]]:
    """Latencies, then the loop at each rate, then the loop on a crowded core."""
    import torch

    from ..imitation.export import export_policy
    from ..imitation.loading import load_policy

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        export_policy(load_policy("hopper-hype"), "onnx", Path(folder) / "policy", {})
        policy = ExportedPolicy.load(Path(folder) / "policy")
        results = [_latency(policy, blocks, show)]
        results += [_loop(policy, rate, seconds, show) for rate in RATES]
        if hasattr(os, "sched_setaffinity"):
            with _crowded():
                results.append(_loop(policy, RATES[0], min(seconds, _CROWDED), show, crowded=True))
    return results


def _latency(policy: ExportedPolicy, blocks: int, show: Show) -> dict[str, Any]:
    """Microseconds of an action for one observation, of both sides in turn; ratios are of pairs of blocks."""
    import torch
    from stable_baselines3 import SAC

    peer = SAC("MlpPolicy", "Hopper-v5", device="cpu", buffer_size=1)  # two layers of 256, as ours
    torch.set_num_threads(1)
    observation = np.random.default_rng(0).standard_normal(policy.observation_size).astype(np.float32)
    sides = (lambda: peer.predict(observation, deterministic=True), lambda: policy.act(observation))
    timed = np.array([[_block(side) for side in sides] for _ in range(blocks)])  # (blocks, sides, p50 and p99)
    medians, ratios = np.median(timed, 0), timed[:, 0] / timed[:, 1]
    row: dict[str, Any] = {
        "what": "latency",
        "microseconds": {
            name: {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}
            for name, (p50, p99) in zip(("stable_baselines3", "exported"), medians, strict=True)
        },
    }
    for name, ratio in zip(("ratio_p50", "ratio_p99"), ratios.T, strict=True):
        low, middle, high = (round(float(value), 2) for value in (ratio.min(), np.median(ratio), ratio.max()))
        row[name] = {"median": middle, "low": low, "high": high}
    theirs, own = row["microseconds"]["stable_baselines3"], row["microseconds"]["exported"]
    show(
        f"microseconds for an action: stable-baselines3 p50 {theirs['p50']} p99 {theirs['p99']}, exported "
        f"p50 {own['p50']} p99 {own['p99']}; ratio p50 {row['ratio_p50']['median']}, p99 {row['ratio_p99']['median']}"
    )
    return row


def _block(act: Callable[[], object]) -> tuple[float, float]:
    taken = np.empty(_CALLS)
    for call in range(-_WARM_UP, _CALLS):
        begun = time.perf_counter_ns()
        act()
        if call >= 0:
            taken[call] = (time.perf_counter_ns() - begun) / 1000
    p50, p99 = np.quantile(taken, (0.5, 0.99))
    return float(p50), float(p99)


def _loop(policy: ExportedPolicy, rate: float, seconds: float, show: Show, *, crowded: bool = False) -> dict[str, Any]:
    """The loop at a rate, whatever becomes of the robot."""
    robot = SimulatedRobot(find_task("hopper"))
    robot.connect()
    try:
        controller = Controller(robot, policy, ControllerConfig(rate, seconds, safety=SafetyConfig(falls=False)))
        episode = controller.play(0)
    finally:
        robot.disconnect()
    timing = controller.timing
    row: dict[str, Any] = {
        "what": "loop on a crowded core" if crowded else "loop",
        "rate": rate,
        "seconds": seconds,
        "ended": episode.ended,
        "periods": timing.done,
        "missed": timing.missed,
        "states": episode.states,
        "milliseconds": timing.report(lockstep=False),
        "robot": robot.counts,
    }
    overhead, jitter, ran = (row["milliseconds"][name] for name in ("overhead", "jitter", "processor"))
    show(
        f"{row['what']} at {rate:g} Hz for {seconds:g} s: {timing.missed} deadlines missed in {timing.done} periods, "
        f"overhead p50 {1000 * overhead['p50']:.0f} p99 {1000 * overhead['p99']:.0f}, of which this process ran "
        f"p50 {1000 * ran['p50']:.0f} p99 {1000 * ran['p99']:.0f}, "
        f"jitter p50 {1000 * jitter['p50']:.0f} p99 {1000 * jitter['p99']:.0f} microseconds; "
        f"{episode.states['hold']} periods on hold, {episode.states['damp']} damped; {episode.ended}"
    )
    return row


@contextlib.contextmanager
def _crowded() -> Generator[None]:
    """This process, and the robot's, on one core, beside another that never sleeps."""
    before = os.sched_getaffinity(0)
    core = min(before)
    os.sched_setaffinity(0, {core})
    rival = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        rival.kill()
        rival.wait()
        os.sched_setaffinity(0, before)
