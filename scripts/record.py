"""`understudy record`: demonstrations from a policy or random actions. Wiring only."""

from __future__ import annotations

import dataclasses
import functools
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..robots import Controller, InputError, Task, find_task
from .options import disturbed, option, parse_options, run_command
from .terminal import progress

EXAMPLES = (
    "understudy record runs/mine episodes=25 out=demonstrations.hdf5",
    "understudy record sac-halfcheetah.zip task=halfcheetah episodes=10 noise=0.1 out=noisy.hdf5",
    "understudy record random task=hopper steps=100000 out=random.hdf5",
    "understudy record play task=gap-maze disturbances=wide.yaml episodes=50 out=play.hdf5",
)
EPISODES = 10  # when neither episodes= nor steps= is given
RANDOM_EPISODES = 20  # of a task whose random return nobody has measured


@dataclasses.dataclass(frozen=True)
class RecordOptions:
    """Record demonstrations into a D4RL-style HDF5 file.

    Whole episodes are played and kept with their rewards, ends, seeds and full simulator states, and with the
    random and expert returns by which scores are normalised. The last line is JSON.
    """

    policy: str = option(
        "who plays: a policy directory, a run directory (its chosen policy), a stable-baselines3 zip, random, or a "
        "script of the task's (expert in mazes of a disc or ball, with the arm and in Fetch; play in the mazes; trot)"
    )
    out: Path = option("the HDF5 file to write")  # noqa: RUF009 (option() is dataclasses.field())
    task: str | None = option(
        "the task; a policy directory knows its own, a zip only if one task alone has its sizes", None
    )
    episodes: int | None = option(f"how many episodes; {EPISODES} when steps= is not given either", None, at_least=1)
    steps: int | None = option("stop after the episode in which this many steps are reached", None, at_least=1)
    seed: int = option("seed of the first episode; each further one has the next", 0, at_least=0)
    noise: float = option(
        "standard deviation of Gaussian noise added to the actions, which range from -1 to 1; what is executed "
        "is stored",
        0.0,
        at_least=0,
    )
    deterministic: bool = option("false samples from the policy's distribution where it has one", True)
    random_episodes: int | None = option(
        "measure the random return with this many episodes of random actions; without it the task table's is "
        f"taken, or {RANDOM_EPISODES} episodes are played if it has none (random actions measure themselves)",
        None,
        at_least=1,
    )
    expert_return: float | None = option(
        "the return that counts as a score of 1; without it the mean of the recorded episodes, and for random and play "
        "the task table's, if it has one",
        None,
    )
    compact: bool = option(
        "leave out next_observations, which follow from the rest (a smaller file, unusual for D4RL)", False
    )
    overwrite: bool = option("replace the file if it exists", False)
    disturbances: str | None = option(
        "a YAML file with what the robot suffers from, or off; without it what the policy was trained under", None
    )
    quiet: bool = option("print nothing but the line of JSON", False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def body() -> None:
        options = parse_options(RecordOptions, arguments, command="record", positional="policy", examples=EXAMPLES)
        record(options, shlex.join(["understudy", "record", *arguments]))

    return run_command(body)


def record(options: RecordOptions, command: str) -> dict[str, Any]:
    """Record as the options say; returns what the last line says.

    Errors: :class:`InputError` for anything that does not fit, before the first step where it can be known.
    """
    from ..datasets import write_d4rl  # these take seconds to import, and --help needs none of them
    from ..datasets.hdf5 import check_target
    from ..imitation import recording

    started = time.monotonic()
    if options.out.suffix not in (".hdf5", ".h5") and not options.out.is_dir():
        raise InputError(f"out={options.out}: an HDF5 file is written, so give it a name that ends in .hdf5")
    if options.out.exists() and not options.overwrite:
        raise InputError(f"out={options.out} exists already: choose another name or add overwrite=true")
    check_target(options.out, overwrite=options.overwrite)
    task, act, about = _player(options)
    suffered = task.disturbances.to_values()
    if suffered:
        about["disturbances"] = json.dumps(suffered)
    steps = options.steps
    episodes = options.episodes if options.episodes or steps else EPISODES
    total = min((episodes or sys.maxsize) * task.horizon, steps or sys.maxsize)
    with progress(f"recording on {task.name}", total, quiet=options.quiet) as advance:
        demonstrations = recording.record(
            task,
            act,
            seed=options.seed,
            episodes=episodes,
            steps=steps,
            noise=options.noise,
            metadata=about,
            advance=advance,
        )
    random_return, expert_return = _references(options, task, demonstrations.episode_returns)
    demonstrations = dataclasses.replace(demonstrations, random_return=random_return, expert_return=expert_return)
    write_d4rl(
        options.out,
        demonstrations,
        task,
        compact=options.compact,
        overwrite=options.overwrite,
        command=command,
    )
    returns = demonstrations.episode_returns
    result = {
        "return": {"mean": returns.mean(), "std": returns.std(), "min": returns.min(), "max": returns.max()},
        "references": {"random": random_return, "expert": expert_return},
        "episodes": len(returns),
        "rows": len(demonstrations),
        "seconds": round(time.monotonic() - started, 1),
        "file": str(options.out),
    }
    if not options.quiet:
        _show(result, task)
    print(json.dumps(result), flush=True)
    return result


def _player(options: RecordOptions) -> tuple[Task, Callable[..., Any] | Controller | None, dict[str, Any]]:
    """The task, who acts in it (none stands for random actions), and what the file says about that."""
    task = None if options.task is None else find_task(options.task)
    scripted = task is not None and options.policy in task.scripts
    if not options.deterministic and (options.policy == "random" or scripted):
        raise InputError(
            f"deterministic=false samples a policy's distribution, and {options.policy} has none: leave it out"
        )
    if options.policy == "random":
        if task is None:
            raise InputError("task= is missing: random actions can be recorded on any task")
        if options.noise:
            raise InputError("noise= is added to a policy's actions: leave it out with random actions")
        return disturbed(task, options.disturbances), None, {"policy": "uniform random actions"}
    if task is not None and scripted:
        task = disturbed(task, options.disturbances)
        script = task.scripts[options.policy](task)
        return task, script, {"policy": f"the task's script {options.policy!r}", "action_noise": options.noise}
    import torch

    from ..imitation.loading import load_policy
    from ..imitation.recording import Playing

    torch.set_num_threads(1)  # the networks are too small to share out
    policy = load_policy(options.policy, task)
    policy.seed(options.seed)
    act = Playing(functools.partial(policy.controller, deterministic=options.deterministic))
    name = Path(options.policy).resolve().name
    about = {"policy": name, "deterministic": options.deterministic, "action_noise": options.noise}
    return disturbed(policy.task, options.disturbances), act, about


def _references(options: RecordOptions, task: Task, returns: Any) -> tuple[float, float | None]:
    """The random and the expert return. Whoever plays aimlessly is no expert; random actions measure themselves."""
    from ..imitation.recording import measure_random_return

    mean, random = float(returns.mean()), options.policy == "random"
    expert_return = task.expert_return if options.policy in ("random", "play") else mean
    if options.expert_return is not None:
        expert_return = options.expert_return
    if options.random_episodes is None and random:
        return mean, expert_return
    if options.random_episodes is None and task.random_return is not None:
        return task.random_return, expert_return
    return measure_random_return(task, options.random_episodes or RANDOM_EPISODES), expert_return


def _show(result: dict[str, Any], task: Task) -> None:
    returns, references = result["return"], result["references"]
    expert = "unknown" if references["expert"] is None else f"{references['expert']:.1f}"
    print(f"task        {task.name}")
    print(f"recorded    {result['episodes']} episodes, {result['rows']:,} steps")
    print(f"return      {returns['mean']:.1f} ± {returns['std']:.1f} ({returns['min']:.1f} to {returns['max']:.1f})")
    print(f"references  random {references['random']:.1f}, expert {expert}")
    print(f"file        {result['file']}")


if __name__ == "__main__":
    raise SystemExit(main())
