"""`understudy deploy`: a policy drives a simulated robot, and what came of it is reported. Wiring only."""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..robots import Disturbances, InputError, Task, find_task
from ..robots.controller import Controller, ControllerConfig, Episode, Policy, StopButton
from ..robots.exported import METADATA, ExportedPolicy, read_metadata
from ..robots.robot import RobotError
from ..robots.robot_log import RobotLog
from ..robots.safety import SafetyConfig
from ..robots.simulated_robot import SimulatedRobot
from .deploy_grid import GridOptions, grid
from .options import disturbed, option, parse_options, run_command
from .viewer import Viewer

EXAMPLES = (
    "understudy deploy hopper-hype",
    "understudy deploy runs/hopper/hype/2026-01-31_12-00-00 seconds=20 noise=0.01 delay=0.02 log=drive video=drive.mp4",
    "understudy deploy hopper-hype lockstep=true",
    "understudy deploy hopper-hype grid delay=0,0.02,0.04 noise=0,0.02,0.05",
)
GRID = "grid"
SECONDS = 60.0
_FILM = 60.0  # frames a second
_STALE, _DAMP, _STOP = 0.1, 0.2, 1.0


@dataclasses.dataclass(frozen=True)
class DeployOptions:
    """Drive a simulated robot with a policy, in real time, and report how well time and robot were kept.

    The robot is a process of its own with its own clock, its sensors and motors suffer from what is asked for, and it
    damps itself when nobody tells it anything. Ctrl-C is the stop button. In lockstep there is no clock, and an episode
    is to the bit the one of `understudy evaluate`. `understudy deploy POLICY grid` maps returns over delays, noise and
    pushes.

    The exit code is 1 when something failed: the robot, the policy, or an observation that never came. The last line is
    JSON.
    """

    policy: str = option(
        "a policy or run directory, an SB3 zip, a folder of understudy export, or a bundled one (hopper-hype)"
    )
    task: str | None = option("the task; a policy knows its own, a zip only if one task alone has its sizes", None)
    seconds: float | None = option(
        f"how long an episode lasts, in the robot's time; {SECONDS:g}, and in lockstep as long as the task's", None
    )
    episodes: int = option("episodes, from the starts of seed, seed + 1, …", 1, at_least=1)
    seed: int = option("seed of the first episode, and of its disturbances", 10_000_000, at_least=0)
    rate: float | None = option("commands a second; the policy's control rate, or a multiple of it", None)
    factor: float = option("how fast the robot's time passes", 1.0)
    lockstep: bool = option("no clock: an action makes a step", False)
    disturbances: str | None = option(
        "a YAML file with what the robot suffers from, or off; without it what the policy was trained under", None
    )
    delay: float | None = option("seconds until an observation arrives, whatever the file says", None, at_least=0)
    noise: float | None = option("standard deviation of noise on what is measured", None, at_least=0)
    push: float | None = option("m/s of a push every second or so", None, at_least=0)
    action_rate: float | None = option("the share of its range by which an action may change in a second", None)
    stale_after: float = option("seconds after which an observation is too old to act on", _STALE)
    damp_after: float = option("seconds of trouble after which the robot is damped; until then it holds", _DAMP)
    stop_after: float = option("seconds of trouble after which it is stopped", _STOP)
    limits: str | None = option('JSON: beyond which numbers to stop at once, like {"rootz.position": [0.9, 2]}', None)
    port: int | None = option("a robot process that runs already listens at this port", None, at_least=1, at_most=65535)
    log: Path | None = option(  # noqa: RUF009 (option() is dataclasses.field())
        "write what was seen and done to this folder, which understudy.datasets.load reads", None
    )
    video: Path | None = option("write a video, an MP4 file", None)  # noqa: RUF009
    viewer: Literal["web"] | None = option("web opens a page with robot, state, sliders and buttons", None)
    host: str = option("the address that the page is at; whoever reaches it may push and stop the robot", "127.0.0.1")
    quiet: bool = option("print nothing but the line of JSON", False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    failed = False

    def body() -> None:
        nonlocal failed
        if GRID in arguments:
            rest = [argument for argument in arguments if argument != GRID]
            grid(parse_options(GridOptions, rest, command="deploy", positional="policy", examples=EXAMPLES[-1:]))
            return
        options = parse_options(DeployOptions, arguments, command="deploy", positional="policy", examples=EXAMPLES)
        failed = bool(deploy(options)["failed"])

    return run_command(body) or int(failed)


def deploy(options: DeployOptions, button: StopButton | None = None) -> dict[str, Any]:
    """Deploy as the options say; returns what the last line says. Errors: :class:`InputError`."""
    started = time.monotonic()
    policy, task, control_rate = open_policy(options.policy, options.task)
    task = with_signals(disturbed(task, options.disturbances), options)
    config = _config(options, task, control_rate)
    if options.video is not None:
        from ..imitation.video import check_video

        check_video(options.video)
    with tempfile.TemporaryDirectory() as folder:
        film = None if options.video is None else (Path(folder) / "positions.npy", _FILM)
        robot = SimulatedRobot(
            task,
            lockstep=options.lockstep,
            factor=options.factor,
            watchdog=max(0.1, 5 / config.rate),
            port=options.port,
            film=film,
        )
        episodes, controller = _drive(options, robot, policy, config, task, button)
        if film is not None and film[0].exists():
            from ..imitation.video import write_positions

            assert options.video is not None
            write_positions(task, np.load(film[0], allow_pickle=False), options.video, rate=_FILM)
    result = _result(options, task, config, episodes, controller, robot)
    result["seconds"] = round(time.monotonic() - started, 1)
    if not options.quiet:
        _show(result)
    print(json.dumps(result), flush=True)
    return result


def open_policy(path: str, task: str | None) -> tuple[Policy, Task, float]:
    """Who acts, the task with what it was trained under, and the rate in Hz. Errors: :class:`InputError`."""
    if (Path(path) / METADATA).exists():
        metadata = read_metadata(Path(path))
        found = find_task(task or str(metadata["task"]))
        of = Disturbances.of_values(metadata.get("disturbances") or {})
        exported = ExportedPolicy.load(path)
        sizes = (found.spaces.observation_size, found.spaces.action_size)
        if (exported.observation_size, exported.action_size) != sizes:
            raise InputError(f"{path} is a policy for {metadata['task']}, whose sizes {found.name} does not have")
        return exported, dataclasses.replace(found, disturbances=of), float(metadata["control_rate"])
    import torch

    from ..imitation.driving import Driver
    from ..imitation.loading import load_policy

    torch.set_num_threads(1)
    policy = load_policy(path, None if task is None else find_task(task))
    return Driver(policy), policy.task, policy.config.control_rate


def with_signals(task: Task, options: DeployOptions) -> Task:
    """The task with the disturbances that options name."""
    named = {"observation_delay": options.delay, "noise": options.noise, "push": options.push}
    given = {name: value for name, value in named.items() if value is not None}
    return dataclasses.replace(task, disturbances=dataclasses.replace(task.disturbances, **given))


def _config(options: DeployOptions, task: Task, control_rate: float) -> ControllerConfig:
    for name in ("factor", "rate", "seconds"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise InputError(f"{name}={value:g}: it must be above 0")
    if task.acts_by_period and not options.lockstep:
        raise InputError(f"{task.name}'s actions are for whole control periods: give lockstep=true")
    if options.lockstep and options.viewer is not None:
        raise InputError("viewer=web shows a robot in its own time: leave out lockstep=true")
    if options.lockstep and (options.factor != 1 or (options.rate or control_rate) != control_rate):
        raise InputError("lockstep=true has no clock: leave out factor= and rate=")
    seconds = options.seconds or (task.horizon / control_rate + 1 if options.lockstep else SECONDS)
    limits = _limits(options.limits)
    safety = SafetyConfig(options.stale_after, options.damp_after, options.stop_after, options.action_rate, limits)
    rate = options.rate or control_rate
    config = ControllerConfig(rate, seconds, control_rate, options.factor, options.lockstep, safety)
    _ = config.policy_every  # which refuses rates that do not fit
    return config


def _limits(text: str | None) -> dict[str, tuple[float, float]]:
    try:
        given: Any = json.loads(text or "{}")
        limits = {str(name): (float(low), float(high)) for name, (low, high) in given.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f'limits={text}: names with two numbers are expected, like {{"rootz.position": [0.9, 2]}}'
        ) from error
    for name, (low, high) in limits.items():
        if not low < high:
            raise InputError(f"limits={text}: of {name!r} the first must be below the second")
    return limits


def _drive(
    options: DeployOptions,
    robot: SimulatedRobot,
    policy: Policy,
    config: ControllerConfig,
    task: Task,
    button: StopButton | None,
) -> tuple[list[Episode], Controller]:
    """All episodes, until one is stopped by more than a fall. The robot is let go of in any case."""
    try:
        robot.connect()
    except RobotError as error:
        raise InputError(str(error)) from error
    log: RobotLog | None = None
    viewer: Viewer | None = None
    button = button or StopButton()
    try:
        if options.viewer is not None:
            viewer = Viewer(robot, button, options.host)
            print(f"viewer: {viewer.url}", flush=True)
        if options.log is not None:
            about: dict[str, Any] = {
                "task": task.name,
                "env_id": task.environment_id,
                "env_kwargs": json.dumps(dict(task.keywords)),
            }
            about |= {"policy": options.policy, "rate": config.rate, "lockstep": config.lockstep}
            about["disturbances"] = task.disturbances.to_values()
            log = RobotLog(options.log, robot.observation_features, robot.action_features, about)
        controller = Controller(robot, policy, config, log, button, None if viewer is None else viewer.observe)
        gc.collect()
        gc.freeze()  # what is there now stays, and looking through it takes longer than a period
        episodes: list[Episode] = []
        for index in range(options.episodes):
            episodes.append(controller.play(options.seed + index))
            if _failed(episodes[-1]) or controller.button.pressed:
                break
        return episodes, controller
    finally:
        gc.unfreeze()
        if viewer is not None:
            viewer.close()
        if log is not None:
            log.close()
        robot.disconnect()


def _failed(episode: Episode) -> bool:
    """Whether more went wrong than that the robot fell, or that somebody pressed the button."""
    return episode.stopped and not episode.ended.startswith(("the robot fell", "stopped by"))


def _result(
    options: DeployOptions,
    task: Task,
    config: ControllerConfig,
    episodes: list[Episode],
    controller: Controller,
    robot: SimulatedRobot,
) -> dict[str, Any]:
    timing, log = controller.timing, controller.log
    return {
        "policy": options.policy,
        "task": task.name,
        "disturbances": task.disturbances.to_values(),
        "return": float(np.mean([episode.returned for episode in episodes])),
        **({"success": float(np.mean([episode.succeeded for episode in episodes]))} if task.succeeds else {}),
        "episodes": [dataclasses.asdict(episode) for episode in episodes],
        "failed": any(_failed(episode) for episode in episodes),
        "rate": config.rate,
        "measured_rate": None if config.lockstep else round(timing.rate / config.factor, 2),
        "factor": config.factor,
        "lockstep": config.lockstep,
        "periods": timing.done,
        "missed": timing.missed,
        "milliseconds": timing.report(lockstep=config.lockstep),
        "robot": robot.counts,
        "log": None if log is None else str(log.folder),
        "log_error": None if log is None else log.error or None,
        "video": None if options.video is None else str(options.video),
    }


def _show(result: dict[str, Any]) -> None:
    for episode in result["episodes"]:
        damped = "damped" if episode["damped"] else "NOT known to be damped"
        print(
            f"episode {episode['seed']}: return {episode['returned']:.1f} in {episode['seconds']:.2f} s; ended: "
            f"{episode['ended']}; the robot is {damped}"
        )
        held = {name: count for name, count in episode["states"].items() if name != "run" and count}
        if held:
            why = "; ".join(f"{reason} ({count})" for reason, count in episode["reasons"].items())
            print(f"  {', '.join(f'{count} periods on {name}' for name, count in held.items())}: {why}")
    if result["disturbances"]:
        print(f"disturbances: {json.dumps(result['disturbances'])}")
    if not result["lockstep"]:
        share = result["missed"] / max(1, result["missed"] + result["periods"])
        kept = f"{result['measured_rate']} of {result['rate']:g} Hz"
        print(f"rate: {kept}; {result['missed']} deadlines missed ({share:.2%})")
    for name, row in result["milliseconds"].items():
        print(f"{name:>9}: " + ", ".join(f"{which} {value:.3f}" for which, value in row.items()) + " ms")
    if result["log_error"]:
        print(result["log_error"])
    for name in ("log", "video"):
        if result[name]:
            print(f"{name}: {result[name]}")


if __name__ == "__main__":
    raise SystemExit(main())
