"""Robots that are not as in the textbook: what changes, what does not, and that it is seeded and recorded."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import HYBRID, SMALL, Make, run_to, same_state
from policies import make_policy

from understudy.datasets import load
from understudy.imitation import Policy
from understudy.imitation.checkpoint import load_checkpoint, save_checkpoint
from understudy.robots import Disturbances, InputError, Snapshot, Task, TaskBatch, find_task
from understudy.scripts.evaluate import main as evaluate
from understudy.scripts.record import main as record
from understudy.scripts.train import main as train


def disturbed(name: str, **values: Any) -> Task:
    return dataclasses.replace(find_task(name), disturbances=Disturbances.of_values(values))


def play(task: Task, steps: int, *, seeds: tuple[int, ...] = (0,), purpose: Any = "policy") -> np.ndarray:
    """Observations (T, R, O) under the same drawn actions."""
    tasks, random = TaskBatch(task, seeds), np.random.default_rng(0)
    tasks.reset()
    size = tasks.spaces.action_size
    seen = [
        tasks.step(np.tile(random.uniform(-1, 1, size), (len(seeds), 1)), purpose).next_observations
        for _ in range(steps)
    ]
    tasks.close()
    return np.stack(seen)


def test_nothing_differs_by_default() -> None:
    assert Disturbances().to_values() == {}
    assert np.array_equal(play(find_task("hopper"), 30), play(disturbed("hopper", tremble=0, frozen=[]), 30))


def test_a_hand_trembles_as_often_as_it_says_and_by_its_own_seed() -> None:
    still, trembling = find_task("halfcheetah"), disturbed("halfcheetah", tremble=0.3)
    steps, differ, tasks, other = 400, 0, TaskBatch(trembling, [5]), TaskBatch(still, [5])
    tasks.reset()
    other.reset()
    for _ in range(steps):
        before = tasks.capture()
        after = tasks.step(np.zeros((1, 6), np.float32), "policy").next_observations
        other.restore([dataclasses.replace(before[0], hand=None)])
        differ += int(not np.array_equal(after, other.step(np.zeros((1, 6), np.float32), "policy").next_observations))
    tasks.close()
    other.close()
    assert abs(differ / steps - 0.3) < 4 * np.sqrt(0.3 * 0.7 / steps)
    both = play(trembling, 60, seeds=(1, 2))
    assert np.array_equal(both[:, :1], play(trembling, 60, seeds=(1,)))
    assert not np.array_equal(both[:, 0], both[:, 1])


def test_the_hand_is_still_on_the_way_to_a_start() -> None:
    assert np.array_equal(
        play(disturbed("hopper", tremble=1), 20, purpose="reset"), play(find_task("hopper"), 20, purpose="reset")
    )


def test_a_training_under_a_trembling_hand_resumes_bit_equal(make: Make, tmp_path: Path) -> None:
    def tremble() -> Any:
        return make("hype", "disturbances.tremble=0.2")

    whole, half = run_to(tremble(), 200), run_to(tremble(), 100)
    save_checkpoint(tmp_path, half.steps, half.state())
    resumed = tremble()
    resumed.set_state(load_checkpoint(tmp_path))
    assert same_state(run_to(resumed, 200).state(), whole.state())
    assert not same_state(run_to(make("hype"), 200).state(), whole.state())


def test_factors_reach_the_model_and_only_what_they_name() -> None:
    plain = find_task("ant").make()
    changed = disturbed("ant", actuators={"hip_4": 0.5, "ankle_4": 0}, bodies={"torso": {"mass": 2}}).make()
    mass = changed.model.body_mass / plain.model.body_mass.clip(1e-9)
    torso = plain.model.body("torso").id
    assert mass[torso] == pytest.approx(2)
    assert np.delete(mass, [0, torso]) == pytest.approx(1)
    assert changed.model.body_subtreemass[0] > plain.model.body_subtreemass[0]  # worked out anew
    gears = changed.model.actuator_gear[:, 0] / plain.model.actuator_gear[:, 0]
    named = {plain.model.joint(plain.model.actuator_trnid[k, 0]).name: gear for k, gear in enumerate(gears)}
    assert named == {**dict.fromkeys(named, 1.0), "hip_4": 0.5, "ankle_4": 0.0}
    plain.close()
    changed.close()


@pytest.mark.parametrize("name", ["hopper", "walker2d", "halfcheetah", "ant"])
def test_less_friction_is_felt_whatever_the_floor_has(name: str) -> None:
    """MuJoCo takes the larger friction of two shapes, and the floor keeps its own."""
    model = find_task(name).make().model
    named = {model.body(index).name for index in range(1, model.nbody)} - {""}
    feet = {model.geom(index).name for index in range(model.ngeom) if model.geom_bodyid[index]} - {""}
    everything = named | feet  # a shape's name stands for its body
    plain, *slippery = (
        play(disturbed(name, bodies={body: {"friction": factor} for body in part}), 60)
        for part, factor in ((everything, 1.0), (everything, 0.5), (everything, 0.1))
    )
    assert np.array_equal(plain, play(find_task(name), 60))
    gaps = [np.abs(a - b).max() for a, b in ((plain, slippery[0]), (plain, slippery[1]), (slippery[0], slippery[1]))]
    assert min(gaps) > 0.1


@pytest.mark.parametrize(
    ("name", "joint"),
    [("hopper", "thigh_joint"), ("hopper", "leg_joint"), ("walker2d", "foot_left_joint"), ("ant", "ankle_1")],
)
def test_a_frozen_joint_does_not_throw_the_robot_as_an_episode_starts(name: str, joint: str) -> None:
    speeds = []
    for task in (find_task(name), disturbed(name, frozen=[joint])):
        tasks = TaskBatch(task, [3])
        tasks.reset()
        idle, robot = np.zeros((1, tasks.spaces.action_size), np.float32), tasks.environments[0]
        for _ in range(10):
            ended = tasks.step(idle, "policy").ended[0]
            assert not ended
            speeds.append(np.abs(robot.data.qvel).max())
        tasks.close()
    assert max(speeds[10:]) < 1.2 * max(speeds[:10])


def test_a_recorded_state_is_taken_with_frozen_joints_held() -> None:
    """Of a robot whose ankle bends: this one's does not, and does not spring back into place."""
    plain, task = TaskBatch(find_task("hopper"), [0]), disturbed("hopper", frozen=["foot_joint"])
    observation, random = plain.reset(), np.random.default_rng(0)
    for _ in range(12):
        observation = plain.step(random.uniform(-1, 1, (1, 3)).astype(np.float32), "policy").next_observations
    state = plain.environments[0]
    tasks = TaskBatch(task, [0])
    tasks.reset()
    snapshot = Snapshot(12, observation[0], qpos=state.data.qpos.copy(), qvel=state.data.qvel.copy())
    placed = tasks.place(0, snapshot)
    assert abs(observation[0, 4]) > 0.01
    assert placed[4] == placed[10] == 0  # the ankle's angle and speed
    others = [k for k in range(11) if k not in (4, 10)]
    np.testing.assert_allclose(placed[others], observation[0, others], atol=1e-6)
    moved = tasks.step(np.zeros((1, 3), np.float32), "policy").next_observations[0]
    assert abs(moved[4]) < 0.01
    assert tasks.elapsed[0] == 13
    plain.close()
    tasks.close()


def test_demonstrations_of_the_whole_robot_do_not_fit_one_without_a_leg(tmp_path: Path) -> None:
    path = tmp_path / "whole.hdf5"
    assert record(["random", "task=ant", "episodes=1", f"out={path}", "quiet=true"]) == 0
    with pytest.raises(InputError, match=r"rows of 23 numbers for task ant .* without aux_4; .*frozen or limp keeps"):
        load(path, task=disturbed("ant", removed=["aux_4"]))


def test_removing_a_part_with_what_hangs_on_it_is_no_trouble() -> None:
    one, both = disturbed("ant", removed=["aux_4"]), disturbed("ant", removed=["aux_4", "fourth_ankle_geom"])
    assert one.spaces.action_size == both.spaces.action_size == 6


@pytest.mark.parametrize("body", ["right_ankle_geom", "back_leg"])
def test_a_body_goes_by_its_shapes_name_too(body: str) -> None:
    """An ant's shins have no names of their own."""
    environment = disturbed("ant", bodies={body: {"mass": 3, "length": 1.5}}).make()
    plain = find_task("ant").make()
    heavier = environment.model.body_mass / plain.model.body_mass.clip(1e-9)
    assert (heavier > 1.01).sum() == 1
    environment.close()
    plain.close()


@pytest.mark.parametrize(
    ("name", "bodies"),
    [("hopper", ["leg"]), ("walker2d", ["leg", "leg_left"]), ("humanoid", ["left_shin", "right_shin"])],
)
def test_longer_legs_do_not_start_in_the_floor(name: str, bodies: list[str]) -> None:
    tasks = TaskBatch(disturbed(name, bodies={body: {"length": 1.5} for body in bodies}), [0])
    tasks.reset()
    contacts = tasks.environments[0].data.contact
    assert min([contact.dist for contact in contacts], default=0.0) > -0.02
    size, ends = tasks.spaces.action_size, []
    ends = [tasks.step(np.zeros((1, size), np.float32), "policy").ended[0] for _ in range(5)]
    assert not any(ends)
    tasks.close()


def test_a_frozen_joint_stays_and_the_others_move() -> None:
    seen = play(disturbed("ant", frozen=["ankle_1"]), 60)[:, 0]
    names = ["hip_1", "ankle_1", "hip_2", "ankle_2", "hip_3", "ankle_3", "hip_4", "ankle_4"]
    angles = dict(zip(names, seen[:, 5:13].T, strict=True))
    assert np.abs(angles["ankle_1"] - np.deg2rad(50)).max() < 0.05  # the middle of its range
    assert np.ptp(angles["ankle_2"]) > 0.3


def test_a_longer_thigh_is_longer_and_a_removed_leg_is_gone() -> None:
    plain, longer = find_task("walker2d").make(), disturbed("walker2d", bodies={"thigh": {"length": 1.5}}).make()
    thigh, leg = (plain.model.body(name).id for name in ("thigh", "leg"))
    geom = plain.model.body_geomadr[thigh]
    assert longer.model.geom_size[geom, 1] == pytest.approx(1.5 * plain.model.geom_size[geom, 1])
    assert longer.model.body_pos[leg] == pytest.approx(1.5 * plain.model.body_pos[leg])
    plain.close()
    longer.close()
    three_legged = disturbed("ant", removed=["front_left_leg"])
    assert (three_legged.spaces.observation_size, three_legged.spaces.action_size) == (23, 6)
    assert np.isfinite(play(three_legged, 30)).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trembel": 0.1}, "no 'trembel'.*tremble"),
        ({"tremble": 1.5}, "at most 1"),
        ({"tremble": True}, "a number of at least 0"),
        ({"actuators": {"hip": 0.5}}, "no joint .hip.: did you mean hip_"),
        ({"actuators": {"root": 0.5}}, "'root' has no motor"),
        ({"actuators": [1]}, "names and factors"),
        ({"frozen": ["root"]}, "cannot be held"),
        ({"bodies": {"torso": {"length": 0}}}, "removed"),
        ({"frozen": "ankle_1"}, "a list of names"),
        ({"bodies": {"torso": {"weight": 2}}}, "has no .weight.: "),
        ({"bodies": {"torso": {"mass": 0}}}, "removed"),
        ({"bodies": {"leg": {"length": 2}}}, "no body 'leg'"),
        ({"bodies": {"right_ankle": {"mass": 2}}}, "did you mean right_ankle_geom"),
        ({"removed": ["tail"]}, "no body 'tail'"),
    ],
)
def test_what_cannot_be_meant_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        disturbed("ant", **values).make()


def test_a_file_of_four_lines_goes_from_training_to_evaluation(
    data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "heavy.yaml"
    path.write_text("tremble: 0.1\nactuators: {foot_joint: 0.5}\nbodies:\n  torso: {mass: 1.5}\n")
    run, written = tmp_path / "run", yaml.safe_load(path.read_text())
    arguments = ["learner=hype", *SMALL, *HYBRID, f"data={data_file}", f"directory={run}", f"disturbances={path}"]
    assert train([*arguments, "disturbances.tremble=0.2"]) == 0
    path.unlink()
    stored = yaml.safe_load((run / "config.yaml").read_text())["disturbances"]
    assert stored["file"] is None
    assert {**written, "tremble": 0.2} == {name: value for name, value in stored.items() if value}
    policy = Policy.from_pretrained(run / "policy")
    assert policy.config.training["disturbances"] == {**written, "tremble": 0.2}
    assert policy.task.disturbances.tremble == 0.2
    assert any("tremble" in note for note in json.loads((run / "run.json").read_text())["notes"])
    assert train([f"resume={run}", "steps=220"]) == 0
    capsys.readouterr()
    returns = []
    for more in ([], ["disturbances=off"]):
        assert evaluate([str(run), "episodes=3", "quiet=true", *more]) == 0
        returns.append(json.loads(capsys.readouterr().out)["return"]["runs"])
    assert returns[0] != returns[1]


def test_an_explicit_zero_undoes_what_the_file_says(make: Make, tmp_path: Path) -> None:
    (tmp_path / "weak.yaml").write_text("tremble: 0.5\nfrozen: [foot_joint]")
    training = make("hype", f"disturbances={tmp_path / 'weak.yaml'}", "disturbances.tremble=0")
    assert training.task.disturbances.to_values() == {"frozen": ["foot_joint"]}
    training.close()


def test_what_a_policy_was_trained_under_is_kept_when_its_task_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {"disturbances": {"actuators": {"thigh_joint": 0.0}}}
    make_policy(seed=1, training=training).save_pretrained(tmp_path / "policy")
    arguments = [str(tmp_path / "policy"), "episodes=1", "quiet=true", "task=hopper"]
    assert record([*arguments, f"out={tmp_path / 'limp.hdf5'}"]) == 0
    assert load(tmp_path / "limp.hdf5").metadata["disturbances"] == '{"actuators": {"thigh_joint": 0.0}}'
    capsys.readouterr()
    make_policy(training={"disturbances": 5}).save_pretrained(tmp_path / "damaged")
    assert evaluate([str(tmp_path / "damaged"), "episodes=1"]) == 2
    assert "disturbances=5" in capsys.readouterr().err


def test_demonstrations_are_recorded_under_disturbances(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_policy(seed=1).save_pretrained(tmp_path / "policy")
    (tmp_path / "limp.yaml").write_text("actuators: {thigh_joint: 0}")
    returns = []
    for name in ("off", str(tmp_path / "limp.yaml")):
        out = tmp_path / f"{len(returns)}.hdf5"
        assert record([str(tmp_path / "policy"), "episodes=2", f"out={out}", "quiet=true", f"disturbances={name}"]) == 0
        returns.append(json.loads(capsys.readouterr().out)["return"]["mean"])
    assert returns[0] != returns[1]
    said = [load(tmp_path / f"{index}.hdf5").metadata.get("disturbances") for index in (0, 1)]
    assert said == [None, '{"actuators": {"thigh_joint": 0.0}}']
    assert record([str(tmp_path / "policy"), "out=x.hdf5", f"disturbances={tmp_path / 'nothing.yaml'}"]) == 2
    assert "nothing.yaml" in capsys.readouterr().err
