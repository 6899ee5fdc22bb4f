"""DAgger: whose action is taken, whose is learned, and that it needs someone to ask."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Make, run_to, same_state
from policies import make_chunk_policy

from understudy.imitation import Policy
from understudy.imitation.checkpoint import load_checkpoint, save_checkpoint
from understudy.imitation.dagger import DaggerTraining
from understudy.robots import InputError, Purpose, Transitions


def labelled(training: DaggerTraining) -> tuple[torch.Tensor, torch.Tensor]:
    """The pairs that the expert has labelled, of all runs (R, N, ·)."""
    first = training.row_count - training.steps
    rows = torch.arange(first, training.row_count).expand(len(training.seeds), -1)
    return training.pairs(rows)


@pytest.mark.parametrize("acts", [0, 1])
def test_every_label_is_the_experts_whoever_acted(make: Make, an_expert: Path, acts: int) -> None:
    training = run_to(make("dagger", f"loop.expert_acts={acts}"), 100)
    assert isinstance(training, DaggerTraining)
    expert = Policy.from_pretrained(an_expert)
    seen, labels = labelled(training)
    torch.testing.assert_close(labels, expert.act(seen))
    assert training.step_counts()["policy"].tolist() == [100, 100]
    # The states are those of whoever acted: the expert's own first episode starts alike and goes where it goes.
    alone = training.tasks.__class__(training.task, training.seeds)
    observations, same = torch.from_numpy(alone.reset()), True
    for index in range(20):
        same = same and torch.equal(seen[:, index], observations)
        observations = torch.from_numpy(alone.step(expert.act(observations).numpy(), "policy").next_observations)
    alone.close()
    assert same == bool(acts)
    training.close()


def test_an_expert_that_plans_chunks_is_asked_for_a_plan_at_every_step(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the learner has seen of its episode, though the expert itself would take three actions of each plan."""
    make_chunk_policy(head="chunk", times=1, samples=1).save_pretrained(tmp_path / "policy")
    training = make("dagger", f"expert={tmp_path / 'policy'}")
    assert isinstance(training, DaggerTraining)
    take, begins = training.tasks.step, [np.ones(2, bool)]

    def step(actions: np.ndarray, purpose: Purpose) -> Transitions:
        result = take(actions, purpose)
        begins.append(result.ended.copy())
        return result

    monkeypatch.setattr(training.tasks, "step", step)
    run_to(training, 100)
    seen, labels = labelled(training)
    _take_one_action_of_a_plan(tmp_path / "policy")
    asked, memory = Policy.from_pretrained(tmp_path / "policy"), None
    for index in range(100):
        said, memory = asked.predict(seen[:, index].numpy(), memory, begins[index])
        np.testing.assert_allclose(labels[:, index].numpy(), said, atol=1e-5)
    assert np.sum(begins) > 4
    training.close()


def _take_one_action_of_a_plan(policy: Path) -> None:
    config = json.loads((policy / "config.json").read_text())
    (policy / "config.json").write_text(json.dumps({**config, "acts": 1}))


def test_a_diffusion_policy_as_the_expert_is_asked_the_same_by_resumed_and_stacked_runs(
    make: Make, tmp_path: Path
) -> None:
    make_chunk_policy().save_pretrained(tmp_path / "policy")
    asked = f"expert={tmp_path / 'policy'}"
    whole, half = run_to(make("dagger", asked), 200), run_to(make("dagger", asked), 100)
    save_checkpoint(tmp_path / "half", half.steps, half.state())
    resumed = make("dagger", asked)
    resumed.set_state(load_checkpoint(tmp_path / "half"))
    assert same_state(run_to(resumed, 200).state(), whole.state())
    single = run_to(make("dagger", asked, "runs=1", "seed=1"), 200)
    assert isinstance(whole, DaggerTraining)
    assert isinstance(single, DaggerTraining)
    for ours, theirs in zip(labelled(whole), labelled(single), strict=True):
        torch.testing.assert_close(ours[1], theirs[0], rtol=1e-3, atol=1e-4)
        assert not torch.equal(ours[0], ours[1])


def test_the_demonstrations_stay_among_the_rows(make: Make) -> None:
    training = run_to(make("dagger"), 50)
    assert isinstance(training, DaggerTraining)
    begun = training.row_count - 50
    everything = torch.arange(begun).expand(2, -1)
    seen, _ = training.pairs(everything)
    assert torch.equal(seen[0], seen[1])
    drawn = training.generators.integers(training.row_count, (1, 4000))
    assert (drawn < begun).any()
    assert (drawn >= begun).any()
    training.close()


@pytest.mark.parametrize(
    ("learner", "options", "message"),
    [
        ("dagger", ("expert=null",), "give expert="),
        ("dagger", ("expert=nowhere",), "nowhere does not exist"),
        ("bc", ("expert=nowhere",), "only learner=dagger"),
        ("dagger", ("agent=sac",), "regresses on actions and has no agent"),
    ],
)
def test_what_it_cannot_use_is_refused(make: Make, learner: str, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(learner, *options)
