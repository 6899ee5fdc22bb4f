"""Settings of `train` that do nothing beside others: they are refused, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_ROWS = ("episodes", "every", "rows", "min_return", "corrupt", "weights", "keys", "mask", "done_mode")
# When, which settings, and why, as a clause.
IDLE: Sequence[tuple[Callable[[Any], bool], tuple[str, ...], str]] = (
    (
        lambda config: config.loop.kind == "rounds",
        ("reward.update_every", "reward.recent_rows"),
        "loop=rounds updates the reward once a round, on roll-outs of its own",
    ),
    (
        lambda config: config.loop.get("select_by") == "none",
        ("loop.select_every", "loop.select_episodes"),
        "loop.select_by=none chooses nothing",
    ),
    (
        lambda config: config.reward.get("optimiser") == "oadam",
        ("reward.weight_decay",),
        "reward.optimiser=oadam has no weight decay",
    ),
    (
        lambda config: config.agent.get("tune_entropy") is False,
        ("agent.target_entropy",),
        "agent.tune_entropy=false leaves the entropy coefficient where it is",
    ),
    (
        lambda config: not config.agent.get("cloning_weight"),
        ("agent.cloning_rows",),
        "agent.cloning_weight=0 pulls towards nothing",
    ),
    (
        lambda config: config.reward.get("members") == 1,
        ("reward.combine",),
        "reward.members=1 has nothing to combine",
    ),
    (
        lambda config: config.reward.get("penalty_weight") == 0,
        ("reward.penalty_target",),
        "reward.penalty_weight=0 has no penalty",
    ),
    (
        lambda config: config.agent.get("target_noise") == 0,
        ("agent.target_clip",),
        "agent.target_noise=0 has nothing to clip",
    ),
    (
        lambda config: config.agent.get("cloning_weight") == 0,
        ("agent.value_scale",),
        "agent.cloning_weight=0 leaves the values' scale as it is",
    ),
    (
        lambda config: config.resets.get("roll_in") == 0,
        ("resets.source", "resets.updates", "resets.view"),
        "resets.roll_in=0 clones nothing",
    ),
    (
        lambda config: config.reward.kind == "score" and config.reward.form == "linear",
        ("reward.sharpness",),
        "reward.form=linear bends nothing",
    ),
    (
        lambda config: config.loop.get("model") == "regression",
        (
            "loop.times",
            "loop.samples",
            "loop.solver",
            "loop.predicts",
            "loop.distil",
            "loop.distil_from",
            "loop.goal_dropout",
            "loop.guidance",
        ),
        "loop.model=regression draws nothing",
    ),
    (
        lambda config: config.loop.get("distil") == 0,
        ("loop.distil_from",),
        "loop.distil=0 teaches no fewer steps",
    ),
    (
        lambda config: config.loop.get("goals") is False,
        ("loop.goal_steps", "loop.goal_dropout", "loop.guidance"),
        "loop.goals=false tells no goal",
    ),
    (
        lambda config: config.world.get("uncertainty") == "none",
        ("world.uncertainty_weight", "world.uncertainty_limit"),
        "world.uncertainty=none makes nothing of it",
    ),
    (
        lambda config: config.world.get("uncertainty") in ("penalise", "explore"),
        ("world.uncertainty_limit",),
        "only world.uncertainty=truncate has a limit",
    ),
    (
        lambda config: config.world.get("uncertainty") == "truncate",
        ("world.uncertainty_weight",),
        "world.uncertainty=truncate weighs nothing",
    ),
    (
        lambda config: config.world.get("episodes") == "initial",
        ("resets.check",),
        "roll-outs in the model start in observations, so no state of the simulator is set: add world.episodes=resets",
    ),
    (
        lambda config: config.resets.get("expert") == 0 and config.resets.get("offline") == 0,
        ("resets.check",),
        "resets.expert=0 resets.offline=0 set no state",
    ),
    (
        lambda config: config.loop.kind == "offline",
        ("agent.regularised", "agent.absorbing"),
        "loop=offline has the expert's rows alone",
    ),
    (
        lambda config: config.data.name is None,
        tuple(f"data.{name}" for name in _ROWS),
        "there are no demonstrations to choose from: give data=",
    ),
    (
        lambda config: config.offline.name is None and "offline:" not in str(config.data.name),
        tuple(f"offline.{name}" for name in _ROWS),
        "there are no offline data to choose from: give offline=",
    ),
)
