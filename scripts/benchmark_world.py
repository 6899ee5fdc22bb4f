"""What improving a policy inside a learned world costs, in updates of the agent outside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .paired import ROWS, Block, Comparison, block_of

if TYPE_CHECKING:
    import torch

    from ..imitation.interactive import InteractiveTraining

# Members and horizon: the middle, and how it grows with each.
WORLDS = ((5, 5), (1, 5), (10, 5), (5, 1), (5, 25))
FITS = ((5, ROWS), (1, ROWS), (10, ROWS), (5, 5 * ROWS))  # members and rows


def world_comparisons(runs: int, device: torch.device, precision: str) -> Iterator[Comparison]:
    """HyPER's updates outside its world against those inside, which bring their share of roll-outs; then whole fits.

    The ratio is what an update inside, or a fit to so many rows, costs in updates outside.
    """
    outside = _updates(_training(["world=simulator", "resets=initial"], runs, device, precision))
    for members, horizon in WORLDS:
        inside = _updates(_training(_sizes(members, horizon), runs, device, precision))
        yield _comparison(f"{members} x {horizon}", (outside, inside), runs)
    for members, rows in FITS:
        sizes = [*_sizes(members, 5), "world.model_steps=1"]  # for the first fit all rows are new
        fits = _fits(_training(sizes, runs, device, precision, rows), rows)
        yield _comparison(f"fit of {members} to {rows}", (outside, fits), runs, updates=1)


def _comparison(name: str, blocks: tuple[Block, Block], runs: int, updates: int | None = None) -> Comparison:
    return Comparison(name, ("outside", "inside"), blocks, (runs, runs), lambda out, inner: out / inner, updates)


def _sizes(members: int, horizon: int) -> list[str]:
    return [
        "world=model", f"world.members={members}", f"world.elites={min(members, 3)}",
        f"world.horizon=[[0,{horizon}]]", "world.diagnose_every=1000000", "world.fit_every=1000000",
    ]  # fmt: skip


def _training(
    world: list[str], runs: int, device: torch.device, precision: str, rows: int = ROWS
) -> InteractiveTraining:
    """HyPER on random rows."""
    from omegaconf import OmegaConf

    from ..datasets import load
    from ..imitation.interactive import InteractiveTraining
    from .build import build
    from .settings import compose

    config, _ = compose(
        [
            "task=hopper", "learner=hyper", f"runs={runs}", f"device={device}", f"precision={precision}",
            "loop.select_by=none", f"loop.buffer_size={2 * rows}", *world,
        ]
    )  # fmt: skip
    values: Any = OmegaConf.to_container(config, resolve=True)
    training = build(values, load("hopper-expert", episodes=4)).training
    assert isinstance(training, InteractiveTraining)
    return training


def _updates(training: InteractiveTraining) -> Block:
    """Updates after as many steps as they belong to, whose rows are random: nothing acts in the simulator."""
    import torch

    update, generator, owed = block_of(training), torch.Generator().manual_seed(1), [0.0]

    def block(count: int) -> None:
        owed[0] += count / training.config.updates_per_step
        while owed[0] >= 1:
            owed[0] -= 1
            row = torch.randn(len(training.seeds), training.layout.width, generator=generator)
            row[:, -2:] = 0.0
            training.buffer.add(row)
        update(count)

    return block


def _fits(training: InteractiveTraining, rows: int) -> Block:
    """Whole fits of the ensembles, each from where the one before it came to."""
    from ..imitation.worlds import ModelWorld

    update, world = block_of(training, rows), training.world
    assert isinstance(world, ModelWorld)
    update(1)

    def block(count: int) -> None:
        learner = training.layout.batch(training.buffer.rows[:, : len(training.buffer)])
        expert = training.layout.batch(training.expert_rows.expand(len(training.seeds), -1, -1))
        for _ in range(count):
            world.dynamics.fit(expert, learner, training.generators)

    return block
