"""Tasks and simulation: exact states, one action scale, honest step counts."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from understudy.robots import (
    TASKS,
    InputError,
    Spaces,
    TaskBatch,
    capture,
    find_task,
    physics_state,
    restore,
    set_physics_state,
    task_of_environment,
)

every_task = pytest.mark.parametrize("name", [*TASKS, "HumanoidStandup-v5", "Walker2d-v4"])


def play(tasks: TaskBatch, actions: np.ndarray) -> list[np.ndarray]:
    """Everything that 200 steps show, ends and resets included."""
    seen: list[np.ndarray] = []
    for action in actions:
        result = tasks.step(action, "policy")
        seen += [result.next_observations, result.rewards, result.terminated, result.truncated]
        if result.ended.any():
            seen.append(tasks.reset(result.ended))
    return seen


@every_task
def test_200_steps_after_a_restore_are_bit_equal(name: str) -> None:
    task, generator = find_task(name), np.random.default_rng(0)
    tasks = TaskBatch(task, [1, 2])
    tasks.reset()
    size = tasks.spaces.action_size
    play(tasks, generator.uniform(-1, 1, (37, 2, size)))
    states = tasks.capture()
    actions = generator.uniform(-1, 1, (200, 2, size))
    after = play(tasks, actions)
    other = TaskBatch(task, [8, 9])
    other.restore(states)
    again = play(other, actions)
    assert len(after) == len(again)
    assert all(np.array_equal(a, b) for a, b in zip(after, again, strict=True))
    assert [s.elapsed for s in states] != [0, 0]


def test_a_restore_brings_back_elapsed_steps() -> None:
    tasks = TaskBatch(find_task("reacher"), [0])
    tasks.reset()
    play(tasks, np.zeros((45, 1, 2)))
    states = tasks.capture()
    other = TaskBatch(find_task("reacher"), [5])
    other.restore(states)
    ends = [bool(other.step(np.zeros((1, 2)), "policy").truncated[0]) for _ in range(5)]
    assert ends == [False, False, False, False, True]


def test_physics_states_of_a_step_restore_the_next() -> None:
    """What demonstrations keep is enough to take the same step again, to the bit."""
    environment = find_task("walker2d").make()
    environment.reset(seed=3)
    generator = np.random.default_rng(0)
    for _ in range(20):
        environment.step(generator.uniform(-1, 1, 6))
    state, action = physics_state(environment), generator.uniform(-1, 1, 6)
    observation, *_ = environment.step(action)
    other = find_task("walker2d").make()
    other.reset(seed=4)
    set_physics_state(other, state)
    assert np.array_equal(other.step(action)[0], observation)
    with pytest.raises(InputError, match="numbers"):
        set_physics_state(other, state[:-1])


def test_actions_are_scaled_once_at_the_boundary() -> None:
    task = find_task("humanoid")
    tasks = TaskBatch(task, [0])
    assert np.allclose(tasks.spaces.action_high, 0.4)
    tasks.reset()
    tasks.step(np.ones((1, 17)), "policy")
    assert np.allclose(tasks.environments[0].data.ctrl, 0.4)
    assert (tasks.environments[0].data.ctrl <= tasks.spaces.action_high).all()
    tasks.step(np.zeros((1, 17)), "policy")
    assert np.allclose(tasks.environments[0].data.ctrl, 0.0, atol=1e-8)


@pytest.mark.parametrize("name", ["hopper", "ant", "humanoid"])
def test_rewards_and_observations_are_gymnasiums(name: str) -> None:
    task, generator = find_task(name), np.random.default_rng(1)
    theirs = gymnasium.make(task.environment_id, **dict(task.keywords))
    ours = TaskBatch(task, [11])
    observation, _ = theirs.reset(seed=11)
    assert np.array_equal(ours.reset()[0], observation.astype(np.float32))
    box, ended = theirs.action_space, False
    while not ended:
        action = generator.uniform(-1, 1, (1, ours.spaces.action_size))
        scaled = np.clip(action[0] * ours.spaces.action_scale + ours.spaces.action_offset, box.low, box.high)
        observation, reward, terminated, truncated, _ = theirs.step(scaled)
        result = ours.step(action, "policy")
        assert np.array_equal(result.next_observations[0], observation.astype(np.float32))
        assert result.rewards[0] == reward
        assert (result.terminated[0], result.truncated[0]) == (terminated, truncated)
        ended = terminated or truncated
    theirs.close()


def test_an_environment_does_not_depend_on_its_neighbours() -> None:
    task, actions = find_task("hopper"), np.random.default_rng(2).uniform(-1, 1, (150, 1, 3))
    alone = TaskBatch(task, [5])
    among = TaskBatch(task, [4, 5, 6])
    assert np.array_equal(alone.reset()[0], among.reset()[1])
    for action in actions:
        one, three = alone.step(action, "policy"), among.step(np.repeat(action, 3, 0), "policy")
        assert np.array_equal(one.next_observations[0], three.next_observations[1])
        if one.ended[0]:
            assert np.array_equal(alone.reset(one.ended)[0], among.reset(three.ended)[1])
        elif three.ended.any():
            among.reset(three.ended)


def test_steps_are_counted_by_purpose_and_environment() -> None:
    tasks = TaskBatch(find_task("hopper"), [0, 1, 2])
    tasks.reset()
    tasks.step(np.zeros((3, 3)), "policy")
    result = tasks.step(np.zeros((3, 3)), "reward", np.array([True, False, True]))
    assert tasks.counts["policy"].tolist() == [1, 1, 1]
    assert tasks.counts["reward"].tolist() == [1, 0, 1]
    assert tasks.counts["evaluation"].sum() == tasks.counts["reset"].sum() == 0
    assert not result.next_observations[1].any()


def test_a_time_limit_truncates_and_a_fall_terminates() -> None:
    tasks = TaskBatch(find_task("hopper"), [0])
    tasks.reset()
    for _ in range(200):
        result = tasks.step(np.ones((1, 3)), "policy")
        if result.ended[0]:
            break
    assert result.terminated[0]
    assert not result.truncated[0]
    tasks = TaskBatch(find_task("pusher"), [0])
    tasks.reset()
    results = [tasks.step(np.zeros((1, 7)), "policy") for _ in range(100)]
    assert [bool(r.truncated[0]) for r in results] == [False] * 99 + [True]
    assert not results[-1].terminated[0]


def test_capture_does_not_disturb() -> None:
    environment = find_task("ant").make()
    environment.reset(seed=0)
    environment.step(np.zeros(8))
    before = capture(environment, 1)
    restore(environment, before)
    after = capture(environment, 1)
    assert np.array_equal(before.physics, after.physics)
    assert all(np.array_equal(before.derived[k], after.derived[k]) for k in before.derived)


@pytest.mark.parametrize(
    ("name", "words"),
    [("hoper", "hopper"), ("Hopper-v55", "Hopper-v5"), ("CartPole-v1", "not a Gymnasium MuJoCo environment")],
)
def test_unknown_tasks_are_refused_with_the_nearest(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_task(name).make()


def test_a_task_is_found_by_what_a_file_says() -> None:
    ant = task_of_environment("Ant-v5", {"include_cfrc_ext_in_observation": False})
    assert ant is not None
    assert ant.name == "ant"
    assert task_of_environment("Ant-v5", {}) is None
    assert Spaces.of(ant.make()).observation_size == 27


def test_a_task_of_the_table_is_found_by_its_id_too() -> None:
    assert find_task("Hopper-v5") is TASKS["hopper"]
    older = find_task("HalfCheetah-v4")
    assert (older.name, older.terminates, older.expert_return) == ("HalfCheetah-v4", False, None)
    assert find_task("Ant-v5").spaces.observation_size == 105  # with contact forces, unlike the table's
    assert find_task("HumanoidStandup-v5").health is None
