"""The help of `understudy train`, made from the tables it is about."""

from __future__ import annotations

from pathlib import Path

from ..datasets import bundled
from ..robots import TASKS, Task
from .settings import AXES, LEARNERS


def train_help() -> str:
    """What `understudy train --help` prints."""
    learners = {path.stem: _about(path) for path in sorted(LEARNERS.glob("*.yaml"))}
    files = {name: f"{path.stat().st_size / 1e6:.1f} MB" for name, path in bundled().items()}
    tasks = {name: _about_task(task) for name, task in TASKS.items()}
    axes = {
        axis: {name: choice.about for name, choice in choices.items() if name != "none"}
        for axis, choices in AXES.items()
    }
    sections = [
        _section("learner=", learners),
        _section("data= (or the path of a file)", files),
        *(_section(f"{axis}=", about) for axis, about in axes.items()),
    ]
    return "\n".join([_HEAD, *sections, _section("task= (or any registered Gymnasium MuJoCo id)", tasks), _TAIL])


def _about_task(task: Task) -> str:
    parts = [f"{task.environment_id}, {task.horizon} steps"]
    if task.health:
        parts.append(f"ends without: {task.health}")
    if task.succeeds:
        parts.append(f"success: {task.succeeds}")
    if task.needs_robotics:
        parts.append("pip install 'understudy[robots]'")
    return "; ".join(parts)


def _about(path: Path) -> str:
    """A preset's second line is a comment that says what it is."""
    return path.read_text().splitlines()[1].removeprefix("# ")


def _section(title: str, entries: dict[str, str]) -> str:
    width = max(map(len, entries))
    return "\n".join([title, *(f"  {name:{width}}  {about}" for name, about in entries.items()), ""])


_HEAD = """usage: understudy train [key=value ...]

Train a controller from demonstrations. Without arguments: HyPE on Hopper, three runs at once, from the
bundled demonstrations. Everything lands in runs/<task>/<learner>/<date-time>: the configuration, metrics.csv,
evaluations.csv, TensorBoard events, checkpoints, learning_curve.png and policy/, the controller. The last line
printed is the result as JSON.

common options
  task=hopper               the task, see below
  learner=hype              how to learn, see below
  data=hopper-expert        bundled demonstrations by name, see below, or the path of a D4RL-style HDF5 file
  data.episodes=4           only the first 4 episodes       data.every=20  only every 20th row of each
  data.rows=1000            only the first 1000 rows
  offline=more.hdf5         other recordings of the task, for resets to them and for the width of its
                            states (offline.episodes=… as for data)
  disturbances=limping.yaml what the robot suffers from: noise, delays, pushes, weak or frozen joints ...
  agent.policy_view=[positions]  what the policy may see (also agent.critic_view, reward.view, resets.view for
                            roll-ins, and loop.view for cloning and dagger): positions, velocities, or numbers like 0:5
  loop.select_by=none       deploy the last policy, not the one that imitated best (occupancy)
  expert=runs/theirs        for dagger: the policy to ask (a policy or run directory, or an SB3 zip)
  runs=3 seed=0             three independent runs with seeds 0, 1, 2, trained as one
  steps=100000              environment steps of the policy in training, per run (updates, for those that only clone);
                            steps for resets, rewards and selection are counted beside them
  device=auto               cpu, cuda, cuda:1, or auto: a GPU if there is one
  precision=auto            float32, bfloat16 (matrix products), or auto: bfloat16 where it is native
  threads=2                 processor threads; all that are available when left out
  evaluation.every=10000 evaluation.episodes=20
  checkpoint.every=25000 checkpoint.keep=2
  directory=runs/mine       where to put the run
  start=runs/mine           begin with what that run learned, agent and reward (fine-tuning, as under disturbances)
  resume=runs/mine          go on with a run that was stopped; on the CPU, bit for bit as if it had not been
  quiet=true                print only the last line
  --multirun                one run directory per combination: learner=bc,hype seed=0,10
  --cfg job                 print the resolved configuration with every other option, and stop
"""

_TAIL = """Each axis can be chosen on its own and each setting overridden:
  reward=gan reward.form=logit mixture=hybrid mixture.expert_share=0.5 resets=initial agent=sac

examples
  understudy train
  understudy train task=walker2d learner=mm data.episodes=4 data.every=20 runs=5 steps=300000
  understudy train learner=guitar offline=play.hdf5 resets.expert=0.1 resets.offline=0.4
  understudy train learner=hype reward=my_module:MyReward reward.weight=2       (a part of your own)
  understudy train learner=bc data=mine.hdf5 task=Hopper-v4
  understudy train task=halfcheetah learner=sac steps=300000     (an expert on the task's own reward)
  understudy train resume=runs/hopper/hype/2026-11-20_12-00-00"""
