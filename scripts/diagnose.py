"""`understudy diagnose`: checks on the learners themselves. Wiring only."""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ..robots import Disturbances, InputError
from .diagnose_restless import RestlessOptions, restless
from .diagnosing import Diagnosis, check_writable, last_state, learned_training, mean_returns, train_through
from .options import option, parse_options, run_command

EXAMPLES = (
    "understudy diagnose drift agents=sac,td3 task=hopper runs=5 steps=20000",
    "understudy diagnose reward runs/hopper/hype/2026-11-20_12-00-00",
    "understudy diagnose retrain runs/hopper/hype/2026-11-20_12-00-00 steps=50000",
    "understudy diagnose retrain runs/ant/airl/2026-11-20_12-00-00 disturbances=limping.yaml steps=100000",
    "understudy diagnose restless runs/halfcheetah/smiling/2026-11-30_12-00-00",
)
_HELP = """usage: understudy diagnose CHECK [key=value ...]

Check a learner itself.

  drift     does an agent move when its reward is noise? More than without a reward it must not
  reward    does a learned reward rank episodes by their true return, over the training
  retrain   what a fresh policy comes to on the frozen reward, here or in another body
  restless  how much a learned reward moves between its updates, on rows that stay the same

understudy diagnose CHECK --help says what a check takes. With directory=COMPARISON/diagnoses/NAME the table of a check
is part of that comparison's report.

examples:"""
_PARTS = "understudy.imitation.diagnosis"
_PRESETS = {
    "sac": ("learner=sac", "agent=sac"), "td3": ("learner=sac", "agent=td3"),
    "ppo": ("learner=gail", "data=null"),
}  # fmt: skip

_RANDOM_STEPS = 1000  # of drift's agents, as of imitation's; the expert's preset has more than a short check


@dataclasses.dataclass(frozen=True)
class DriftOptions:
    """Train agents on noise and, as the control, on no reward at all, and compare how far their returns move.

    Both arms have the same seeds. An agent whose return moves further on noise than without a reward is biased.
    """

    agents: tuple[str, ...] = option("the agents: sac, td3, ppo", ("sac", "td3", "ppo"))
    task: str = option("the task", "hopper")
    runs: int = option("runs of each", 5, at_least=2)
    seed: int = option("seed of the first run", 0, at_least=0)
    steps: int = option("environment steps of each run", 20_000, at_least=1)
    episodes: int = option("episodes of each evaluation", 20, at_least=1)
    hidden: tuple[int, ...] = option("sizes of the agents' hidden layers", (256, 256), at_least=1)
    threads: int = option("processor threads", 1, at_least=1)
    directory: Path | None = option(  # noqa: RUF009 (option() is dataclasses.field())
        "where diagnosis.json goes; nowhere when left out", None
    )
    quiet: bool = option("print nothing but the line of JSON", False)


@dataclasses.dataclass(frozen=True)
class RewardOptions:
    """Rank episodes by the learned reward of each of a training's checkpoints, and by their true return.

    The episodes are of the final policies, with shares of random actions from none to all. Train with
    checkpoint.keep=10 to see how the reward went.
    """

    run: Path = option("the run directory of a learner with a learned reward")  # noqa: RUF009
    episodes: int = option("episodes for each share of random actions", 10, at_least=2)
    threads: int = option("processor threads", 1, at_least=1)
    directory: Path | None = option(  # noqa: RUF009
        "where diagnosis.json goes; nowhere when left out", None
    )
    quiet: bool = option("print nothing but the line of JSON", False)


@dataclasses.dataclass(frozen=True)
class RetrainOptions:
    """Train fresh policies on the frozen rewards of a training, without expert rows, resets or a choice by occupancy.

    With disturbances the fresh policies have another body, and are compared with the old ones in it.
    """

    run: Path = option("the run directory of a learner with a learned reward")  # noqa: RUF009
    steps: int = option("environment steps of each fresh policy", 50_000, at_least=1)
    episodes: int = option("episodes of each evaluation", 20, at_least=1)
    disturbances: str | None = option("a YAML file with what the other body suffers from", None)
    seed: int = option("seed of the first fresh policy", 1_000, at_least=0)
    threads: int = option("processor threads", 1, at_least=1)
    directory: Path | None = option(  # noqa: RUF009
        "where diagnosis.json goes; nowhere when left out", None
    )
    quiet: bool = option("print nothing but the line of JSON", False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    checks: dict[str, tuple[type[Any], str | None, Callable[[Any], Diagnosis]]] = {
        "drift": (DriftOptions, None, drift),
        "reward": (RewardOptions, "run", reward),
        "retrain": (RetrainOptions, "run", retrain),
        "restless": (RestlessOptions, "run", restless),
    }

    def body() -> None:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(_HELP, *(f"  {example}" for example in EXAMPLES), sep="\n")
            return
        name, *rest = arguments
        if name not in checks:
            raise InputError(f"diagnose has no check {name!r}: drift, reward, retrain or restless")
        kind, positional, check = checks[name]
        own = [example for example in EXAMPLES if f"diagnose {name}" in example]
        options = parse_options(kind, rest, command=f"diagnose {name}", positional=positional, examples=own)
        if options.directory is not None:
            check_writable(options.directory)  # before hours of work, not after
        _tell(check(options), options)

    return run_command(body)


def _tell(diagnosis: Diagnosis, options: Any) -> None:
    from ..imitation.comparison.document import without_folders
    from ..imitation.files import write_json
    from ..imitation.run_log import commit, versions

    if not options.quiet:
        grid = Table(title=diagnosis.title)
        for column in diagnosis.columns:
            grid.add_column(column)
        for row in diagnosis.rows:
            grid.add_row(*row)
        Console(markup=False, highlight=False).print(grid)
        print(diagnosis.verdict)
    print(json.dumps({"verdict": diagnosis.verdict, **diagnosis.values}), flush=True)
    # After it is told, so that it is not lost if the disk refuses.
    if options.directory is not None:
        # It becomes part of reports, which are published and name no folders.
        about = {"command": without_folders(["understudy", *sys.argv[1:]]), "versions": versions(), "commit": commit()}
        write_json(options.directory / "diagnosis.json", {**dataclasses.asdict(diagnosis), **about})


def drift(options: DriftOptions) -> Diagnosis:
    """Errors: :class:`InputError` for an unknown agent or task."""
    from ..imitation.diagnosis import Drift
    from .build import build
    from .settings import compose
    from .train import resolved

    unknown = [agent for agent in options.agents if agent not in _PRESETS]
    if unknown:
        raise InputError(f"agents={unknown[0]}: sac, td3 and ppo can be trained without demonstrations")
    hidden = f"[{','.join(map(str, options.hidden))}]"
    rows: list[tuple[str, ...]] = []
    values: dict[str, Any] = {}
    moving: list[str] = []
    for agent in options.agents:
        ends: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for arm in ("Zero", "Noise"):
            given = [
                *_PRESETS[agent], f"task={options.task}", f"reward={_PARTS}:{arm}Reward", "loop.select_by=none",
                *(["loop.random_steps=" + str(min(_RANDOM_STEPS, options.steps // 2))] if agent != "ppo" else []),
                f"agent.hidden={hidden}", f"runs={options.runs}", f"seed={options.seed}", f"steps={options.steps}",
                f"threads={options.threads}", "quiet=true",
            ]  # fmt: skip
            config, learner = compose(given)
            training: Any = build({**resolved(config), "learner": learner}).training
            title = f"{agent} on {'noise' if arm == 'Noise' else 'no reward'}"
            start = mean_returns(training, options.episodes)
            train_through(training, title, quiet=options.quiet)
            ends[arm] = (start, mean_returns(training, options.episodes))
            training.close()
        start = ends["Zero"][0]
        if all(np.array_equal(start, after) for _, after in ends.values()):
            raise InputError(
                f"steps={options.steps}: {agent} is what it was in every run: it has not been updated yet, so nothing "
                "can be said of it: give more"
            )
        found = Drift(ends["Zero"][0], ends["Zero"][1], ends["Noise"][1])
        p = found.p_value()
        moved = [float(np.abs(arm - found.start).mean()) for arm in (found.zero, found.noise)]
        means = (found.start.mean(), found.zero.mean(), found.noise.mean(), *moved)
        rows.append((agent, *(f"{value:.1f}" for value in means), f"{p:.3f}"))
        values[agent] = {
            "start": found.start.tolist(), "zero": found.zero.tolist(), "noise": found.noise.tolist(), "p": p
        }  # fmt: skip
        if p < 0.05:
            moving.append(agent)
    verdict = (
        f"On {options.task} noise moves the return of {', '.join(moving)} further than no reward: look for a bias."
        if moving
        else f"On {options.task} noise moves no agent's return further than no reward does."
    )
    # What an agent does on no reward is no drift by this test, but it is no reward's doing either.
    alone = ", ".join(f"{row[0]} by {row[4]}" for row in rows)
    verdict += f" On no reward at all the returns moved, by what agents are paid for otherwise or by chance: {alone}."
    return Diagnosis(
        f"Drift on {options.task} without a reward", verdict,
        f"Mean returns of {options.runs} runs before and after {options.steps:,} steps on no reward (the control) and "
        "on noise, how far they moved in the mean over runs, and the p-value of noise moving them further.",
        ("agent", "start", "after no reward", "after noise", "moved, no reward", "moved, noise", "p"),
        tuple(rows), {"agents": values},
    )  # fmt: skip


def reward(options: RewardOptions) -> Diagnosis:
    """Errors: :class:`InputError` for a run without a learned reward or without checkpoints."""
    from ..imitation.checkpoint import load_checkpoint
    from ..imitation.diagnosis import learned_returns, mixed_episodes, rank_correlations

    training, values = learned_training(options.run, options.threads)
    try:
        training.set_state(last_state(options.run))
        episodes = mixed_episodes(training, options.episodes)
        rows: list[tuple[str, ...]] = []
        found: dict[str, list[float]] = {}
        folders = sorted(path for path in (options.run / "checkpoints").iterdir() if path.name.isdigit())
        for folder in folders:
            training.reward.set_training_state(load_checkpoint(folder).part("reward"))
            ranks = rank_correlations(learned_returns(training, episodes), episodes.returns)
            found[str(int(folder.name))] = ranks.tolist()
            numbers = (np.median(ranks), ranks.min(), ranks.max())
            rows.append((f"{int(folder.name):,}", *(f"{number:.2f}" for number in numbers)))
    finally:
        training.close()
    last = rows[-1]
    where = f"{values['learner']} on {values['task']}"
    return Diagnosis(
        f"The learned reward of {where}",
        f"At step {last[0]} the learned reward of {where} ranks episodes by their true return with a correlation of "
        f"{last[1]} (median over runs; {last[2]} to {last[3]}).",
        f"Spearman's rank correlation of learned and true return over {episodes.returns.shape[1]} episodes of each "
        "run's final policy, with 0 to 100 % of random actions.",
        ("step", "median over runs", "lowest", "highest"), tuple(rows), {"correlations": found},
    )  # fmt: skip


def retrain(options: RetrainOptions) -> Diagnosis:
    """Errors: :class:`InputError` for a run without a learned reward, or whose learner is no interactive one."""
    from ..imitation.diagnosis import FrozenReward
    from ..imitation.evaluation import FIRST_SEED, evaluate
    from ..imitation.fit import References
    from .build import build

    old, values = learned_training(options.run, options.threads)
    fresh_values = _plain(values, options)
    built = build(fresh_values)
    fresh: Any = built.training
    try:
        state = last_state(options.run)
        old.set_state(state)
        fresh.reward.set_training_state(state.part("reward"))
        fresh.reward = FrozenReward(fresh.reward)
        seeds = range(FIRST_SEED, FIRST_SEED + options.episodes)
        runs = len(old.seeds)
        arms = {"as trained": evaluate(old.controller(seeds), old.task, runs, options.episodes).returns.mean(1)}
        if options.disturbances is not None:
            carried = evaluate(old.controller(seeds), fresh.task, runs, options.episodes)
            arms["as trained, in the other body"] = carried.returns.mean(1)
        train_through(fresh, "a fresh policy on the frozen reward", quiet=options.quiet)
        name = "fresh on the frozen reward" + (", in the other body" if options.disturbances is not None else "")
        arms[name] = mean_returns(fresh, options.episodes)
    finally:
        old.close()
        fresh.close()
    references: References = built.references
    rows = [(arm, *_numbers(returns, references)) for arm, returns in arms.items()]
    where = f"{values['learner']} on {values['task']}"
    before, after = (float(np.median(returns)) for returns in list(arms.values())[-2:])
    moved = len(arms) > 2
    both = ", both in the other body" if moved else ""
    body = json.dumps(fresh.task.disturbances.to_values())
    return Diagnosis(
        f"A fresh policy on the frozen reward of {where}" + (", in another body" if moved else ""),
        f"A policy trained from scratch for {options.steps:,} steps on the frozen reward of {where} returns "
        f"{after:.0f}, the one that the reward was learned with {before:.0f} (medians over runs{both}).",
        f"Returns of {runs} runs, each fresh policy on the reward of its own run: median, lowest and highest"
        + (f". The other body: {body}." if moved else "."),
        ("policy", "return", "score", "lowest return", "highest return"), tuple(rows),
        {"returns": {arm: returns.tolist() for arm, returns in arms.items()}},
    )  # fmt: skip


def _plain(values: dict[str, Any], options: RetrainOptions) -> dict[str, Any]:
    """The configuration of the fresh policies: the same agent, with nothing of the expert but the reward."""
    if values["loop"]["kind"] != "interactive" or values["agent"]["kind"] == "td3_bc":
        raise InputError(
            f"{options.run}: loop={values['loop']['kind']} agent={values['agent']['kind']} cannot be trained on a "
            "frozen reward alone: choose a run of loop=interactive with agent=sac or agent=td3"
        )
    fresh = copy.deepcopy(values)
    fresh["mixture"], fresh["resets"] = {"kind": "learner"}, {"kind": "initial"}
    fresh["loop"]["select_by"] = "none"
    if "cloning_weight" in fresh["agent"]:
        fresh["agent"]["cloning_weight"] = 0.0
    fresh |= {"seed": options.seed, "steps": options.steps}
    if options.disturbances is not None:
        given = Disturbances.of_file(Path(options.disturbances)).to_values()
        fresh["disturbances"] = {**fresh["disturbances"], **given, "file": None}
    return fresh


def _numbers(returns: np.ndarray, references: Any) -> tuple[str, ...]:
    median = np.median(returns)
    score = references.score(np.array([median]))
    shown = "" if score is None else f"{score[0]:.3f}"
    return f"{median:.1f}", shown, f"{returns.min():.1f}", f"{returns.max():.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
