"""Who may see what: what is hidden changes nothing, what is shown does, for policy, critics, reward and cloning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Make, run_to
from torch import Tensor

from understudy.imitation import Policy
from understudy.imitation.interactive import InteractiveTraining
from understudy.imitation.replay import Batch
from understudy.imitation.selection import Episode
from understudy.robots import InputError, find_task, observation_parts, view_mask

SEEN = torch.randn(2, 6, 11, generator=torch.Generator().manual_seed(3))


def other(part: str) -> Tensor:
    """The same observations, but for one part."""
    changed = SEEN.clone()
    changed[..., observation_parts(find_task("hopper"))[part]] += 1
    return changed


def test_the_parts_of_observations_are_gymnasiums() -> None:
    assert observation_parts(find_task("hopper")) == {"positions": slice(0, 5), "velocities": slice(5, 11)}
    assert list(observation_parts(find_task("humanoid"))) == [
        "positions", "velocities", "cinert", "cvel", "qfrc_actuator", "cfrc_ext",
    ]  # fmt: skip
    assert observation_parts(find_task("reacher")) == {}
    mask = view_mask(find_task("hopper"), ["0:2", "7"], "view")
    assert mask is not None
    assert mask.nonzero()[0].tolist() == [0, 1, 7]
    assert view_mask(find_task("hopper"), [], "view") is None


@pytest.mark.parametrize(
    ("task", "view", "message"),
    [
        ("hopper", "speeds", "agent.policy_view: hopper has no part 'speeds'"),
        ("hopper", "4:12", "not within the 11 columns"),
        ("hopper", "5:5", "not within the 11 columns"),
        ("reacher", "positions", "ranges of the 10 columns like 0:5"),
    ],
)
def test_parts_that_are_not_there_are_refused(make: Make, task: str, view: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make("sac", f"task={task}", f"agent.policy_view=['{view}']")


@pytest.mark.parametrize("learner", ["hype", "sac", "iq_learn", "airl", "td3"])
def test_a_policy_without_velocities_acts_on_positions_alone(make: Make, learner: str, tmp_path: Path) -> None:
    view = ["agent.policy_view=[positions]"]
    training: Any = run_to(make(*(("hype", "agent=td3") if learner == "td3" else (learner,)), *view), 200)
    assert isinstance(training, InteractiveTraining)
    training.policy(0, {}).save_pretrained(tmp_path / "policy")
    policy = Policy.from_pretrained(tmp_path / "policy")
    noise = torch.zeros(2, 6, 3)
    for act in (training.act, lambda seen: policy.act(seen), lambda seen: training.agent.act(seen, noise)):
        assert torch.equal(act(SEEN), act(other("velocities")))
        assert not torch.equal(act(SEEN), act(other("positions")))
    torch.testing.assert_close(policy.act(SEEN)[0], training.act(SEEN)[0])
    agent: Any = training.agent
    values = [agent.critic(agent.normaliser(seen), noise) for seen in (SEEN, other("velocities"))]
    assert not torch.equal(*values)
    training.close()


def test_critics_reward_and_cloning_have_views_of_their_own(make: Make) -> None:
    options = ("agent.critic_view=[velocities]", "reward.view=[positions]")
    training: Any = run_to(make("hype", *options), 200)
    agent, actions = training.agent, torch.zeros(2, 6, 3)

    def values(seen: Tensor) -> Tensor:
        return agent.critic(agent.normaliser(seen), actions)

    def rewards(seen: Tensor) -> Tensor:
        nothing = torch.zeros(2, 6)
        return training.reward.relabel(Batch(seen, actions, seen, nothing, nothing, nothing))

    assert torch.equal(values(SEEN), values(other("positions")))
    assert not torch.equal(values(SEEN), values(other("velocities")))
    assert torch.equal(rewards(SEEN), rewards(other("velocities")))
    assert not torch.equal(rewards(SEEN), rewards(other("positions")))
    assert not torch.equal(training.act(SEEN), training.act(other("velocities")))  # the policy's is whole
    training.close()
    cloned = run_to(make("bc", "loop.view=[positions]"), 200)
    assert torch.equal(cloned.act(SEEN), cloned.act(other("velocities")))
    assert not torch.equal(cloned.act(SEEN), cloned.act(other("positions")))


def test_a_score_is_of_what_it_may_see_in_the_experts_own_units(make: Make) -> None:
    training: Any = run_to(make("smiling", "reward.view=[positions]"), 200)
    actions, nothing = torch.zeros(2, 6, 3), torch.zeros(2, 6)

    def rewards(seen: Tensor) -> Tensor:
        return training.reward.relabel(Batch(seen, actions, seen, nothing, nothing, nothing))

    assert torch.equal(rewards(SEEN), rewards(other("velocities")))
    assert not torch.equal(rewards(SEEN), rewards(other("positions")))
    expert = training.layout.batch(training.expert_rows).observations
    rows = training.layout.batch(training.expert_rows.expand(1, -1, -1))
    seen = training.reward.inputs(rows)[0]
    wanted = (expert - expert.mean(0)) / expert.std(0, correction=0)
    torch.testing.assert_close(seen, wanted[:, :5], rtol=1e-3, atol=1e-3)  # Hopper's positions come first
    training.close()


@pytest.mark.parametrize("reward", ["score", "diffusion", "gan", "wasserstein", "airl"])
def test_what_a_reward_may_not_see_is_no_input_of_its_network(make: Make, reward: str) -> None:
    """Noise on columns that are always 0 would be the most of what is predicted."""
    small = "reward.hidden=[16,16]"
    training: Any = make(
        "mm", f"reward={reward}", "reward.view=[velocities,0:1]", "reward.inputs=state-next-state", small
    )
    rows = training.layout.batch(training.expert_rows.expand(1, -1, -1))
    inputs, shown = training.reward.inputs(rows)[0], [0, *range(5, 11)]
    before, after = training.reward.normaliser.mean, training.reward.normaliser.std
    wanted = [(seen[0][:, shown] - before) / after for seen in (rows.observations, rows.next_observations)]
    assert inputs.shape[1] == 14 + (3 if reward == "airl" else 0)  # AIRL's shaping has actions between them
    torch.testing.assert_close(inputs[:, :7], wanted[0])
    torch.testing.assert_close(inputs[:, -7:], wanted[1])
    training.close()


def test_a_reward_of_another_size_is_not_gone_on_with(make: Make) -> None:
    before: Any = run_to(make("smiling"), 100)
    now: Any = make("smiling", "reward.view=[positions]")
    with pytest.raises(InputError, match=r"reward does not fit .*restore its config.yaml, or start anew"):
        now.set_state(before.state())
    before.close()
    now.close()


@pytest.mark.parametrize(("view", "whose"), [("reward.view", "reward"), ("agent.critic_view", "agent")])
def test_another_view_of_as_many_columns_is_told_from_it(make: Make, view: str, whose: str) -> None:
    before: Any = run_to(make("hype", f"{view}=[0:3]"), 100)
    same: Any = make("hype", f"{view}=[0:3]")
    same.take_over(before.state(), "before")
    now: Any = make("hype", f"{view}=[5:8]")
    with pytest.raises(InputError, match=f"{whose} sees other columns: give the view it was trained with"):
        now.take_over(before.state(), "before")
    for each in (before, same, now):
        each.close()


@pytest.mark.parametrize("reward", ["gan", "wasserstein"])
def test_a_policy_is_not_chosen_by_what_its_reward_may_not_see(make: Make, reward: str) -> None:
    training: Any = make("mm", f"reward={reward}", "reward.view=[positions]", "loop.select_by=occupancy")
    measure, rewards = training.selection._measure, np.zeros(6, np.float32)
    plain, moved, elsewhere = (
        measure(Episode(seen[0].numpy(), rewards, 0.0)) for seen in (SEEN, other("velocities"), other("positions"))
    )
    assert plain == moved != elsewhere
    training.close()


def test_on_policy_learners_have_two_views_too(make: Make) -> None:
    options = ("agent.policy_view=[positions]", "agent.critic_view=[velocities]")
    training: Any = run_to(make("gail", *options), 200)
    assert torch.equal(training.act(SEEN), training.act(other("velocities")))
    assert not torch.equal(training.act(SEEN), training.act(other("positions")))
    policy = training.agent._runs[0].policy
    values = [policy.predict_values(seen[0]) for seen in (SEEN, other("positions"), other("velocities"))]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])
    training.close()


def test_a_roll_in_comes_from_a_policy_that_sees_what_it_is_let(make: Make) -> None:
    training: Any = make("mm", "resets=roll_in", "resets.source=expert", "resets.updates=20", "resets.view=[positions]")
    training.resets.prepare()
    start, noise = training.resets.starts["roll_in"], np.zeros(3, np.float32)
    acts = [start._act(0, seen[0, 0].numpy(), noise) for seen in (SEEN, other("velocities"), other("positions"))]
    assert np.array_equal(acts[0], acts[1])
    assert not np.array_equal(acts[0], acts[2])
    training.close()
    with pytest.raises(InputError, match=r"resets\.view: hopper has no part 'speeds'"):
        make("mm", "resets=roll_in", "resets.source=expert", "resets.view=[speeds]")
