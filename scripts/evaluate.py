"""`understudy evaluate`: returns of a policy, or of every run of a training, and a video. Wiring only."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..robots import InputError, Task, find_task
from .options import disturbed, option, parse_options, run_command
from .terminal import progress

if TYPE_CHECKING:
    from torch import Tensor

    from ..imitation.evaluation import Act, Evaluation
    from ..imitation.policy import Policy

EXAMPLES = (
    "understudy evaluate runs/hopper/mm/2026-01-31_12-00-00",
    "understudy evaluate runs/hopper/mm/2026-01-31_12-00-00/policy episodes=100 video=hopper.mp4",
    "understudy evaluate sac-halfcheetah.zip task=halfcheetah quiet=true | tail -n 1",
)
_WARM_UP, _TIMED = 20, 200  # actions
TOGETHER = 50  # episodes played at once; an environment takes megabytes


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Play a policy, or every run of a training, and print the task's true returns.

    The interquartile mean (IQM) comes with a 95 % bootstrap interval: over the runs where there are several, over
    the episodes of a single policy. Scores are (return - random) / (expert - random), with the references of
    the policy's training or of the task table. The last line is JSON.
    """

    policy: str = option("a policy directory, a run directory (all its runs), or a stable-baselines3 zip")
    task: str | None = option(
        "the task; a policy directory knows its own, a zip only if one task alone has its sizes", None
    )
    episodes: int = option("episodes for each policy", 20, at_least=1)
    seed: int = option("seed of the first episode; each further one has the next", 10_000_000, at_least=0)
    deterministic: bool = option("false samples from the policy's distribution where it has one", True)
    video: Path | None = option(  # noqa: RUF009 (option() is dataclasses.field())
        "also write the first episode to this MP4 file, played by the policy or the run's chosen one", None
    )
    disturbances: str | None = option(
        "a YAML file with what the robot suffers from, or off; without it what the policy was trained under", None
    )
    quiet: bool = option("print nothing but the line of JSON", False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def body() -> None:
        evaluate(parse_options(EvaluateOptions, arguments, command="evaluate", positional="policy", examples=EXAMPLES))

    return run_command(body)


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Evaluate as the options say; returns what the last line says.

    Errors: :class:`InputError` for anything that does not fit.
    """
    import torch  # these take seconds to import, and --help needs none of them

    from ..imitation.fit import References
    from ..imitation.loading import load_policies

    started = time.monotonic()
    torch.set_num_threads(1)  # the networks are too small to share out
    policies = load_policies(options.policy, None if options.task is None else find_task(options.task))
    task = disturbed(next(iter(policies.values())).task, options.disturbances)
    steps = _film(options, task) if options.video is not None else 0
    latency = _latency(next(iter(policies.values())), options)
    returns, lengths, successes = _play(options, policies, task)
    pairs = [References(*_references(policy, task)) for policy in policies.values()]
    scores = [pair.score(row) for pair, row in zip(pairs, returns, strict=True)]
    known = [score for score in scores if score is not None]
    result = {
        "score": _summary(np.stack(known)) if len(known) == len(scores) else None,
        "return": _summary(returns),
        **({} if successes is None else {"success": _success(successes)}),
        "over": "runs" if len(returns) > 1 else "episodes",
        "task": task.name,
        "disturbances": task.disturbances.to_values(),
        "seed": options.seed,
        "deterministic": options.deterministic,
        "episodes": options.episodes,
        "latency_ms": latency,
        "control_rate": next(iter(policies.values())).config.control_rate,
        "steps": {"evaluation": steps + int(lengths.sum())},
        "seconds": round(time.monotonic() - started, 1),
        "policy": options.policy,
        "video": None if options.video is None else str(options.video),
    }
    if not options.quiet:
        _show(result, list(policies), returns, lengths)
    print(json.dumps(result), flush=True)
    return result


def _act(policy: Policy, options: EvaluateOptions, seeds: Sequence[int], advance: Callable[[], None]) -> Act:
    """Acts in episodes that start together as the options say, and tells how often it was asked: once for each step."""
    controller = policy.controller(seeds, deterministic=options.deterministic)

    def act(observations: Tensor) -> Tensor:
        advance()
        return controller(observations)

    return act


def _latency(policy: Policy, options: EvaluateOptions) -> dict[str, float]:
    """Milliseconds that one action for one observation takes on this machine: a robot waits for the worst of them.

    For a policy that plans chunks also the median of those steps alone in which it plans.
    """
    from ..imitation.chunks import Memory

    observation, state, taken = np.zeros(policy.config.observation_size, np.float32), None, list[float]()
    plans = list[int]()
    for _ in range(_WARM_UP + _TIMED):
        begun = time.perf_counter()
        _, state = policy.predict(observation, state, deterministic=options.deterministic)
        taken.append(1000 * (time.perf_counter() - begun))
        plans.append(int(state.planned[0]) if isinstance(state, Memory) else 0)
    timed, planned = np.array(taken[_WARM_UP:]), np.diff(plans)[_WARM_UP - 1 :] > 0
    figures = {"median": np.median(timed), "worst": timed.max()}
    figures |= {"plan": np.median(timed[planned])} if planned.any() else {}
    return {name: round(float(value), 3) for name, value in figures.items()}


def _film(options: EvaluateOptions, task: Task) -> int:
    """Write the video; returns the steps it took. It comes first: if it cannot be made, nobody has waited."""
    from ..imitation.loading import load_policy
    from ..imitation.video import write_video

    assert options.video is not None
    policy = load_policy(options.policy, task)
    policy.seed(options.seed)
    with progress(f"filming {options.video}", task.horizon, quiet=options.quiet) as advance:
        act = _act(policy, options, [options.seed], lambda: advance(1))
        filmed = write_video(act, task, options.video, seed=options.seed)
    return int(filmed.steps.sum())


def _play(
    options: EvaluateOptions, policies: Mapping[str, Policy], task: Task
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Returns and lengths (R, E), and successes (R, E) if the task says what they are."""
    from ..imitation.evaluation import Evaluation
    from ..imitation.evaluation import evaluate as play

    first = range(0, options.episodes, TOGETHER)
    played: list[Evaluation] = []
    title = f"playing {task.name} with {len(policies)} {'policies' if len(policies) > 1 else 'policy'}"
    with progress(title, len(policies) * len(first) * task.horizon, quiet=options.quiet) as advance:
        for policy in policies.values():
            policy.seed(options.seed)
            parts: list[Evaluation] = []
            for start in first:
                count = min(TOGETHER, options.episodes - start)
                seeds = range(options.seed + start, options.seed + start + count)
                act = _act(policy, options, seeds, lambda: advance(1))
                parts.append(play(act, task, 1, count, seed=options.seed + start))
                advance(task.horizon - parts[-1].lengths.max())
            played.append(Evaluation.along(parts, 1))
    whole = Evaluation.along(played, 0)
    return whole.returns, whole.lengths, whole.successes


def _references(policy: Policy, task: Task) -> tuple[float | None, float | None]:
    """Random and expert return: those of the policy's training, otherwise those of the task table."""
    known = policy.config.training
    pair = (known.get("random_return"), known.get("expert_return"))
    if not all(isinstance(value, (int, float)) for value in pair):
        pair = (task.random_return, task.expert_return)
    if pair[0] is not None and pair[0] == pair[1]:
        raise InputError(f"the random and the expert return are both {pair[0]}, so there is no score: record anew")
    return pair


def _summary(values: np.ndarray) -> dict[str, Any]:
    """IQM with interval of returns or scores (R, E), and the mean of each run."""
    from ..imitation.statistics import summary

    runs = values.mean(1)
    whole = summary(runs if len(runs) > 1 else values[0])
    return dataclasses.replace(whole, runs=tuple(runs.tolist())).to_json()


def _success(successes: np.ndarray) -> dict[str, Any]:
    """The share of successful episodes (R, E) with interval, and that of each run."""
    from ..imitation.statistics import mean_summary

    runs = successes.mean(1)
    return {**mean_summary(runs if len(runs) > 1 else successes[0]), "runs": runs.tolist()}


def _show(result: dict[str, Any], names: list[str], returns: np.ndarray, lengths: np.ndarray) -> None:
    for name, row, steps in zip(names, returns, lengths, strict=True):
        print(f"{name}: return {row.mean():.1f} ± {row.std():.1f}, {steps.mean():.0f} steps an episode")
    episodes = returns.shape[1]
    count = f"{len(returns)} runs" if len(returns) > 1 else f"{episodes} episode{'s' if episodes > 1 else ''}"
    if result["disturbances"]:
        print(f"disturbances: {json.dumps(result['disturbances'])}")
    for what, digits in (("return", 1), ("score", 3)):
        if result[what] is None:
            print("score: unknown, as neither the policy nor the task table has a random and an expert return")
            continue
        iqm, low, high = (f"{result[what][key]:.{digits}f}" for key in ("iqm", "low", "high"))
        interval = f", 95 % interval {low} to {high}" if max(returns.shape) > 1 else ""
        print(f"{what}: IQM {iqm}{interval}, of {count}")
    if "success" in result:
        mean, low, high = (f"{result['success'][key]:.2f}" for key in ("mean", "low", "high"))
        print(f"success: {mean} of the episodes, 95 % interval {low} to {high}, of {count}")
    latency, period = result["latency_ms"], 1000 / result["control_rate"]
    worst = f"median {latency['median']:.2f} ms, worst {latency['worst']:.2f} ms"
    plan = f", median of those that plan {latency['plan']:.2f} ms" if "plan" in latency else ""
    print(f"latency: {worst} an action{plan}, of the {period:.1f} ms that the robot has for one")
    if result["video"] is not None:
        print(f"video: {result['video']}")


if __name__ == "__main__":
    raise SystemExit(main())
