"""Lines, sensors, packets, safety and timing, each by numbers worked out by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import mujoco as _untyped_mujoco
import numpy as np
import pytest
from conftest import Make, run_to, same_state

from understudy.imitation.checkpoint import load_checkpoint, save_checkpoint
from understudy.robots import Disturbances, InputError, Spaces, TaskBatch, features_of, find_task
from understudy.robots.features import Feature
from understudy.robots.robot import Observation
from understudy.robots.safety import Safety, SafetyConfig, State
from understudy.robots.signals import Line, Signals, root
from understudy.robots.timing import Timing
from understudy.robots.wire import Kind, packed, unpacked

mujoco: Any = _untyped_mujoco
HOPPER = find_task("hopper")


def disturbed(**values: Any) -> Any:
    return dataclasses.replace(HOPPER, disturbances=Disturbances.of_values(values))


def test_a_line_delays_by_whole_steps() -> None:
    line = Line[int](3, np.random.default_rng(0))
    assert [line.send(k) for k in range(6)] == [[], [], [], [0], [1], [2]]


def test_a_line_drops_and_reorders_as_often_as_it_says() -> None:
    line = Line[int](0, np.random.default_rng(0), dropped=0.2, reordered=0.3)
    came = [item for k in range(5000) for item in line.send(k)]
    assert abs(len(came) / 5000 - 0.8) < 0.025
    late = (np.diff(came) < 0).mean()  # one that sets out late is passed by the next, unless that is lost or late, too
    assert abs(late - 0.3 * 0.8 * 0.7) < 0.025


@pytest.mark.parametrize("seed", [0, 1])
def test_sensors_add_what_they_say(seed: int) -> None:
    task = disturbed(noise={"velocities": 0.5}, quantisation=0.25, bias=0.0)
    signals = Signals(task, task.spaces, 0.008, seed)
    truth = np.arange(11, dtype=np.float32)
    signals.begin(truth)
    seen = np.stack([signals.seen(truth) for _ in range(2000)])
    assert (seen[:, :5] == truth[:5]).all()
    assert np.array_equal(seen % 0.25, np.zeros_like(seen))
    assert np.abs(seen[:, 5:].std(0) - np.hypot(0.5, 0.25 / 12**0.5)).max() < 0.04


def test_a_bias_stays_for_an_episode() -> None:
    task = disturbed(bias=0.1)
    signals, truth, offsets = Signals(task, task.spaces, 0.008, 0), np.zeros(11, np.float32), []
    for _ in range(300):
        signals.begin(truth)
        first, second = signals.seen(truth), signals.seen(truth)
        assert np.array_equal(first, second)
        offsets.append(first)
    assert abs(np.std(offsets) - 0.1) < 0.005


def test_a_late_command_is_one_that_was_given_before() -> None:
    """A delay of two steps under a plain robot is its undelayed self, told two steps later."""
    random = np.random.default_rng(0)
    actions = random.uniform(-1, 1, (12, 1, 3)).astype(np.float32)
    late, plain = TaskBatch(disturbed(action_delay=0.016), [3]), TaskBatch(HOPPER, [3])
    late.reset(), plain.reset()
    told = np.concatenate([np.zeros((2, 1, 3), np.float32), actions[:-2]])
    for action, before in zip(actions, told, strict=True):
        assert np.array_equal(
            late.step(action, "policy").next_observations, plain.step(before, "policy").next_observations
        )
    late.close()
    plain.close()


def test_what_is_seen_late_is_what_was_so() -> None:
    late, plain = TaskBatch(disturbed(observation_delay=0.024), [3]), TaskBatch(HOPPER, [3])
    first = late.reset()
    truth = [plain.reset()]
    for step in range(12):
        seen = late.step(np.full((1, 3), 0.3, np.float32), "policy")
        result = plain.step(np.full((1, 3), 0.3, np.float32), "policy")
        truth.append(result.next_observations)
        assert seen.rewards == result.rewards  # of what is
        assert np.array_equal(seen.next_observations, truth[max(0, step + 1 - 3)])
    assert np.array_equal(first, truth[0])
    late.close()
    plain.close()


def test_motors_change_no_faster_than_they_can() -> None:
    task = disturbed(rate_limit=10.0)
    environment = task.make()
    signals = Signals(task, Spaces.of(environment), 0.008, 0)
    signals.begin(np.zeros(11))
    done = [signals.command(environment, np.ones(3))[0] for _ in range(8)]
    np.testing.assert_allclose(done, np.minimum(1, 0.16 * np.arange(1, 9)))  # 10 ranges of 2 a second, in 8 ms
    environment.close()


def test_a_push_changes_the_speed_by_what_it_says() -> None:
    """Of a robot in the air, by impulse over mass."""
    task = dataclasses.replace(find_task("ant"), disturbances=Disturbances.of_values({"push": 0.0}))
    environment: Any = task.make()
    environment.reset(seed=0)
    environment.data.qpos[2] += 10
    signals = Signals(task, Spaces.of(environment), environment.dt, 0)
    signals.push_next(np.array([0.0, 0.7]))
    assert environment.model.body(root(environment)).name == "torso"
    before = environment.data.subtree_linvel[root(environment)].copy()
    for _ in range(2):
        environment.step(signals.command(environment, np.zeros(8)))
    mujoco.mj_subtreeVel(environment.model, environment.data)
    gained = environment.data.subtree_linvel[root(environment)] - before
    np.testing.assert_allclose(gained[:2], [0, 0.7], atol=0.1)
    assert not environment.data.xfrc_applied.any()
    environment.close()


def test_training_under_disturbed_signals_resumes_bit_equal(make: Make, tmp_path: Any) -> None:
    more = ("noise=0.02", "bias=0.01", "dropped=0.1", "observation_delay=0.02", "action_delay=0.01", "push=0.5")
    options = [f"disturbances.{item}" for item in more]
    whole, half = run_to(make("hype", *options), 200), run_to(make("hype", *options), 100)
    save_checkpoint(tmp_path, half.steps, half.state())
    resumed = make("hype", *options)
    resumed.set_state(load_checkpoint(tmp_path))
    assert same_state(run_to(resumed, 200).state(), whole.state())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dropped": 1.5}, "dropped=1.5: a probability"),
        ({"noise": -1}, "noise=-1: a number of at least 0"),
        ({"noise": {"position": 0.1}}, "no part 'position': did you mean positions"),
        ({"push": 1, "push_every": 0}, "leave out push"),
    ],
)
def test_what_signals_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TaskBatch(disturbed(**values), [0])


def test_features_have_names_and_units_in_order() -> None:
    observed, commanded = features_of(HOPPER)
    assert observed[0] == Feature("rootz.position", "m")
    assert observed[5:7] == (Feature("rootx.velocity", "m/s"), Feature("rootz.velocity", "m/s"))
    assert commanded[-1] == Feature("foot_joint", "200 N m")
    observed, commanded = features_of(find_task("ant"))
    assert [feature.name for feature in observed[:3]] == ["root.z", "root.qw", "root.qx"]
    assert len(observed) == 27
    assert len(commanded) == 8


def test_packets_say_what_was_said_or_nothing() -> None:
    numbers = np.array([1.5, -2, np.pi])
    whole = packed(Kind.ACTION, 7, 9, 1.25, numbers.astype("<f8").tobytes(), 3)
    packet = unpacked(whole)
    assert packet is not None
    assert (packet.kind, packet.session, packet.number, packet.time, packet.flags) == (Kind.ACTION, 7, 9, 1.25, 3)
    assert np.array_equal(packet.numbers(), numbers)
    random = np.random.default_rng(0)
    for _ in range(300):
        spoiled = bytearray(whole)
        spoiled[random.integers(len(whole))] ^= 1 << int(random.integers(8))
        assert unpacked(bytes(spoiled)) is None
        assert unpacked(whole[: random.integers(len(whole))]) is None
    found = unpacked(packed(Kind.HELLO, 0, 0, 0.0, [1]))
    assert found is not None
    with pytest.raises(ValueError, match="not a JSON object"):
        found.values()


def observation(**changes: Any) -> Observation:
    return Observation(**{"values": np.zeros(2, np.float32), "time": 0.0, "number": 1, **changes})


def safety(**changes: Any) -> Safety:
    features = (Feature("height", "m"), Feature("speed", "m/s"))
    return Safety(SafetyConfig(**changes), features, np.array([-1.0]), np.array([1.0]), 0.01)


def test_trouble_is_held_then_damped_then_stopped_and_forgotten_when_it_passes() -> None:
    guard = safety(stale_after=0.1, damp_after=0.2, stop_after=0.5)
    assert guard.look(observation(), 0.05) is None
    stale = guard.look(observation(), 0.11)
    assert stale == "observation older than 0.1 s"
    states = [guard.judge(now, stale) for now in (0.0, 0.1, 0.2, 0.3)]
    assert states == [State.HOLD, State.HOLD, State.DAMP, State.DAMP]
    assert guard.judge(0.4, None) == State.RUN
    assert [guard.judge(now, stale) for now in (0.5, 0.6, 0.9, 1.0)] == [
        State.HOLD, State.HOLD, State.DAMP, State.STOP,
    ]  # fmt: skip
    assert guard.why == "observation older than 0.1 s, for 0.5 s"
    assert guard.judge(2.0, None) == State.STOP  # for good
    assert guard.reasons == {stale: 8}


def test_falls_and_limits_stop_at_once() -> None:
    guard = safety(limits={"speed": (-1.0, 1.0)})
    guard.look(observation(values=np.array([0, 1.5], np.float32)), 0.0)
    assert guard.judge(0.0, None) == State.STOP
    assert guard.why == "speed is 1.5, and its limits are -1 and 1"
    guard = safety()
    guard.look(observation(terminated=True), 0.0)
    assert guard.state == State.STOP
    guard = safety(falls=False)
    guard.look(observation(terminated=True), 0.0)
    assert guard.state == State.RUN
    with pytest.raises(InputError, match="no feature 'hight': did you mean height"):
        safety(limits={"hight": (0, 1)})
    with pytest.raises(InputError, match="damped before it is stopped"):
        SafetyConfig(damp_after=1.0, stop_after=0.5)


def test_nan_is_no_observation_and_actions_keep_their_limits() -> None:
    guard = safety(action_rate=10.0)
    assert guard.look(observation(values=np.array([np.nan, 0], np.float32)), 0.0) is not None
    assert guard.look(None, 0.0) is not None
    assert guard.limited(np.array([0.0])) == 0
    assert guard.limited(np.array([5.0])) == pytest.approx(0.2)  # 10 ranges of 2 a second, in 10 ms
    assert safety().limited(np.array([5.0])) == 1


def test_deadlines_are_absolute_and_missed_ones_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    slept: list[float] = []
    looks = 0

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    def look() -> None:
        nonlocal now, looks
        looks += 1
        now += 1e-4

    monkeypatch.setattr("understudy.robots.timing.time.monotonic", lambda: now)
    monkeypatch.setattr("understudy.robots.timing.time.sleep", sleep)
    timing = Timing(0.01)
    timing.begin(100.0)
    timing.wait(look)
    timing.add(100.0, 100.004, 0.003, 0.001, 0.0035)  # in time
    now = 100.004
    timing.wait(look)
    assert slept == [pytest.approx(0.006 - 0.00025)]
    assert looks == 3  # a quarter of a millisecond of looking
    timing.add(100.011, 100.045, 0.03, 0.001, 0.031)  # 35 ms for a period of 10
    assert timing.missed == 1
    now = 100.045
    timing.wait(look)  # deadlines at 100.02 and 100.03 went by; that of 100.04 is late but still this period's
    assert timing.missed == 3
    timing.add(100.045, 100.046, 0.0, 0.0, 0.0)
    now = 100.046
    timing.wait(look)
    assert slept[1:] == [pytest.approx(0.004 - 0.00025)]  # at 100.05 again: nothing drifts
    report = timing.report(lockstep=False)
    assert report["policy"]["max"] == pytest.approx(30)
    assert report["overhead"]["max"] == pytest.approx(4)
    assert report["processor"]["max"] == pytest.approx(1)
    assert report["jitter"]["max"] == pytest.approx(5)
