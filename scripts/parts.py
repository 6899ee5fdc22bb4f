"""The parts that the axes of a configuration choose, and whether they can work together."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ..imitation.agents import ActingAgent, Agent, OnPolicyAgent
from ..imitation.parts import Setting
from ..imitation.resets import Resets
from ..imitation.rewards import AirlReward, ConstantReward, ImplicitReward, Reward, TaskReward
from ..imitation.worlds import ModelConfig, ModelWorld
from ..robots import InputError
from .settings import find_choice
from .values import settings_of

Values = Mapping[str, Any]


def check_fit(config: Values, agent: ActingAgent, reward: Reward, *, hybrid: bool) -> None:
    """Refuse choices on the axes that cannot work together. Errors: :class:`InputError` with the reason."""
    chosen = {axis: f"{axis}={config[axis]['kind']}" for axis in ("agent", "reward", "loop")}
    on_policy = getattr(agent, "on_policy", False)  # an agent from outside may not say
    if on_policy and hybrid:
        raise InputError(
            f"{chosen['agent']} is improved by what its own policy has just done, so expert rows cannot be mixed in: "
            "choose mixture=learner, or agent=sac"
        )
    if on_policy != (config["loop"]["kind"] == "on_policy"):
        if on_policy:
            raise InputError(f"{chosen['agent']} is improved by its newest round alone: choose loop=on_policy")
        raise InputError(f"{chosen['agent']} learns from rows of any age: choose loop=interactive, or agent=ppo")
    if isinstance(reward, TaskReward) and hybrid:
        raise InputError("reward=task needs mixture=learner: demonstrations are used without their rewards")
    if isinstance(reward, ConstantReward) and not hybrid:
        raise InputError("reward=constant needs mixture=hybrid: without expert rows every reward would be 0")
    if reward.needs_log_prob and not agent.has_density:
        has_not = f"{chosen['agent']} does not have"
        raise InputError(f"{chosen['reward']} needs the density of actions, which {has_not}: choose agent=sac")
    given = config["agent"].get("discount")
    if isinstance(reward, AirlReward) and given is not None and given != reward.config.shaping_discount:
        raise InputError(
            f"reward.shaping_discount={reward.config.shaping_discount:g} is not the agent's discount of {given}, so "
            f"its shaping would change what is optimal: give reward.shaping_discount={given}"
        )
    if agent.implies_reward != isinstance(reward, ImplicitReward):
        if agent.implies_reward:
            raise InputError(f"{chosen['agent']} has its reward in its critic: choose reward=implicit")
        raise InputError(f"reward=implicit is the critic's own, which {chosen['agent']} does not have: choose iq_learn")
    if agent.implies_reward and hybrid:
        raise InputError(
            f"{chosen['agent']} has the expert's rows beside the learner's, whose place they would take: choose "
            "mixture=learner"
        )


def make_world(config: Values, setting: Setting, reward: Reward, starts: Resets) -> ModelWorld:
    """The learned world. Errors: :class:`InputError` for what cannot be learned in it."""
    if config["loop"]["kind"] == "on_policy":
        raise InputError("world=model: loop=on_policy improves its policy by whole episodes: choose loop=interactive")
    if isinstance(reward, TaskReward):
        raise InputError("reward=task: world=model does not learn the task's reward: choose world=simulator")
    if isinstance(reward, ImplicitReward):
        raise InputError(
            "reward=implicit compares the expert with the rows that the policy is improved by, and roll-outs in "
            "world=model begin where the expert and the learner have been: choose world=simulator, or a learned reward"
        )
    if not (hasattr(starts, "imagined") and hasattr(starts, "visit")):
        raise InputError(
            f"resets={config['resets']['kind']} does not say where roll-outs in world=model begin: "
            "add visit and imagined"
        )
    if setting.demonstrations is not None:
        setting.demonstrations.need_actions("world=model", "choose world=simulator")
    return ModelWorld.create(settings_of(ModelConfig, config["world"], "world"), setting, starts)


_PROTOCOLS: Mapping[str, type] = {"agent": Agent, "reward": Reward, "resets": Resets}
_BASES = {
    "agent": "understudy.imitation.agents.SAC",
    "reward": "understudy.imitation.rewards.FixedReward",
    "resets": "understudy.imitation.resets.InitialResets",
}
# `recordable` is known once it is initialised; only world=model asks for `visit` and `imagined`.
_MAY_LACK = {"on_policy", "sees_actions", "recordable", "imagined", "visit"}


def make_part(axis: str, config: Values, setting: Setting) -> Any:
    """The part that an axis chooses, with the settings given for it."""
    choice = find_choice(axis, str(config[axis]["kind"]))
    assert choice.part is not None  # `none` is refused before
    settings = None if choice.settings is None else settings_of(choice.settings, config[axis], axis)
    part = choice.part.create(settings, setting)
    protocol = OnPolicyAgent if getattr(part, "on_policy", False) else _PROTOCOLS[axis]
    # Names of functions and properties, and of attributes. Three of an agent's have what most agents are for a default.
    members = {
        name for kind in inspect.getmro(protocol) for name in (*vars(kind), *getattr(kind, "__annotations__", {}))
    }
    wanted = {name for name in members if not name.startswith("_")} - _MAY_LACK
    missing = sorted(name for name in wanted if not hasattr(part, name))
    if missing:
        base = _BASES[axis]
        raise InputError(
            f"{axis}={config[axis]['kind']} lacks {', '.join(missing)}: derive it from {base}, or add them"
        )
    return part
