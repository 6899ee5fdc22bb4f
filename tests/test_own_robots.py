"""Our own robots: sound models, rewards by hand, scripts that do what they say, states that say everything."""

from __future__ import annotations

import dataclasses
from typing import Any

import mujoco
import numpy as np
import pytest

from understudy.imitation.recording import record
from understudy.imitation.resets.recorded import states_problem
from understudy.robots import Disturbances, InputError, Snapshot, Task, TaskBatch, find_task, observation_parts, place
from understudy.robots.arm_scripts import InverseKinematics
from understudy.robots.quadruped import CLEARANCE, FOOT_RADIUS, LEGS, SPEED, STANCE
from understudy.robots.quadruped_script import leg_angles, track

OURS = ("quadruped", "arm-reach", "arm-push")
TORQUES = {"quadruped": [24, 24, 36] * 4, "arm-reach": [150, 150, 100, 28, 28, 28]}  # Nm
MASSES = {"quadruped": (12.3, ("trunk",)), "arm-reach": (14.3, ("shoulder",))}  # kg of what moves
every_robot = pytest.mark.parametrize("name", OURS)


def made(task: Task | str, seed: int = 0) -> Any:
    environment = (find_task(task) if isinstance(task, str) else task).make()
    environment.reset(seed=seed)
    return environment


def scripted(task: Task, script: str, count: int) -> dict[str, np.ndarray]:
    """Returns (N,), last successes (N,) and last observations (N, O) of a script in N episodes."""
    controller, tasks = task.scripts[script](task), TaskBatch(task, range(count))
    observations, returns, succeeded = tasks.reset(), np.zeros(count), np.zeros(count, bool)
    controller.begin(range(count))
    for _ in range(task.horizon):
        result = tasks.step(controller.act(observations), "policy")
        assert not result.terminated.any()
        observations, succeeded = result.next_observations, result.succeeded
        returns += result.rewards
    tasks.close()
    return {"returns": returns, "succeeded": succeeded, "observations": observations}


@pytest.mark.parametrize("name", sorted(MASSES))
def test_masses_and_inertias_are_a_robots(name: str) -> None:
    model = made(name).model
    mass, (root,) = MASSES[name]
    assert model.body_subtreemass[model.body(root).id] == pytest.approx(mass, abs=0.05)
    moving = model.body_mass[model.body(root).id :]
    inertia = model.body_inertia[model.body(root).id :]
    with_mass = moving > 0
    assert (inertia[with_mass] > 0).all()
    # A body of a kilogram is between a fingertip and a metre wide; its inertias obey the triangle inequality.
    assert ((inertia[with_mass].T / moving[with_mass]) < 0.25).all()
    largest = inertia[with_mass].max(1)
    assert (largest <= inertia[with_mass].sum(1) - largest + 1e-9).all()


@every_robot
def test_it_stands_still_and_in_nothing(name: str) -> None:
    environment = made(name)
    model, data = environment.model, environment.data
    hold = STANCE if name == "quadruped" else np.zeros(6)
    for _ in range(12 * environment.metadata["render_fps"]):  # a stance on soft motors takes seconds to settle
        environment.step(hold)
    before = data.qpos.copy()
    for _ in range(environment.metadata["render_fps"]):
        environment.step(hold)
    assert np.abs(data.qvel).max() < 2e-3
    assert np.abs(data.qpos - before).max() < 1e-3
    assert all(contact.dist > -1e-3 for contact in data.contact)
    touching = {frozenset(model.geom(int(geom)).name for geom in contact.geom) for contact in data.contact}
    feet = {frozenset(("floor", f"{leg}_foot")) for leg in LEGS}
    assert touching == {"quadruped": feet, "arm-push": {frozenset(("table", "block"))}}.get(name, set())


@every_robot
def test_energy_only_leaves(name: str) -> None:
    """Without its motors a robot that is let go loses energy and never gains any."""
    environment = made(name)
    model, data = environment.model, environment.data
    model.opt.enableflags |= int(mujoco.mjtEnableBit.mjENBL_ENERGY)
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ACTUATION)
    if name == "quadruped":
        data.qpos[2] += 0.2
    energies = []
    for _ in range(1000):
        mujoco.mj_step(model, data)
        energies.append(float(data.energy.sum()))
    scale = np.ptp(energies)
    assert scale > 1
    assert np.diff(energies).max() < 0.005 * scale  # a contact's spring gives a little back, a step later
    assert np.isfinite(data.qpos).all()


@every_robot
def test_random_actions_stay_within_limits(name: str) -> None:
    tasks, generator = TaskBatch(find_task(name), [0]), np.random.default_rng(0)
    tasks.reset()
    environment: Any = tasks.environments[0]
    model, data = environment.model, environment.data
    hinges = np.flatnonzero(model.jnt_limited)
    low, high = model.jnt_range[hinges].T
    where, speeds = model.jnt_qposadr[hinges], model.jnt_dofadr[hinges]
    torques = np.array(TORQUES["quadruped" if name == "quadruped" else "arm-reach"])
    for _ in range(600):
        result = tasks.step(generator.choice([-1.0, 1.0], (1, tasks.spaces.action_size)), "policy")
        assert np.isfinite(result.next_observations).all()
        assert np.isfinite(result.rewards).all()
        assert (np.abs(data.qfrc_actuator[speeds]) <= torques + 1e-9).all()
        assert (data.qpos[where] > low - 0.05).all()
        assert (data.qpos[where] < high + 0.05).all()
        if result.ended.any():
            tasks.reset(result.ended)
    tasks.close()


@every_robot
def test_every_number_has_a_name_and_a_unit(name: str) -> None:
    environment = made(name)
    assert len(environment.observation_features) == environment.observation_space.shape[0]
    assert len(environment.action_features) == environment.action_space.shape[0]
    joints = [environment.model.actuator(index).name for index in range(environment.model.nu)]
    assert [feature.partition(".")[0] for feature in environment.action_features] == joints
    parts, names = observation_parts(find_task(name)), list(environment.observation_features)
    positions = environment.data.qpos[-12:] - STANCE if name == "quadruped" else environment.data.qpos[:6]
    assert np.array_equal(environment._get_obs()[parts["joint_positions"]], positions)
    assert names[parts["joint_positions"]] == [f"{joint}.position" for joint in joints]


@every_robot
def test_a_seed_decides_everything(name: str) -> None:
    task, script = find_task(name), "trot" if name == "quadruped" else "expert"
    task = dataclasses.replace(task, horizon=20)
    one, other, another = (record(task, task.scripts[script](task), seed=seed, episodes=1) for seed in (3, 3, 4))
    assert np.array_equal(one.next_observations, other.next_observations)
    assert not np.array_equal(one.observations[0], another.observations[0])


@every_robot
def test_recorded_states_are_starts_with_and_without_what_only_the_simulator_keeps(name: str) -> None:
    task = dataclasses.replace(find_task(name), horizon=40)
    recorded = record(task, None, seed=0, episodes=2)
    assert states_problem(task, recorded) is None
    environment, tasks = made(name, 9), TaskBatch(task, [0])
    for row in (5, 63):
        snapshot = recorded.snapshot(row)
        assert snapshot is not None
        assert np.array_equal(place(environment, snapshot), recorded.observations[row])
        positions, velocities = environment.data.qpos.copy(), environment.data.qvel.copy()
        tasks.reset()
        seen = tasks.place(0, Snapshot(3, recorded.observations[row], qpos=positions, qvel=velocities))
        np.testing.assert_allclose(seen, recorded.observations[row], atol=1e-5)
        result = tasks.step(recorded.actions[row][None], "policy")
        np.testing.assert_allclose(result.next_observations[0], recorded.next_observations[row], atol=1e-4)
    tasks.close()


def test_a_quadrupeds_reward_by_hand() -> None:
    environment = made("quadruped")
    data = environment.data
    data.qpos[:] = environment.init_qpos
    data.qvel[:] = 0
    mujoco.mj_forward(environment.model, data)
    data.time = 0.125 - 0.04  # at the end of the step the clock is a quarter on: swing feet are to be at the top
    action = STANCE + 0.05
    observation, reward, fallen, _, about = environment.step(action)
    parts = about["reward_parts"]
    assert reward == pytest.approx(sum(parts.values()))
    assert not fallen
    assert parts["speed"] == pytest.approx(1 - abs(observation[0] - SPEED) / SPEED)
    assert parts["haste"] == pytest.approx(-0.02 * 0.25)
    heights = np.array([data.geom(f"{leg}_foot").xpos[2] - 0.022 for leg in LEGS])
    assert (np.abs(heights) < 0.01).all()
    off = np.abs(heights - [CLEARANCE, 0, 0, CLEARANCE]).mean() / CLEARANCE
    assert 0.4 < off < 0.6
    assert parts["gait"] == pytest.approx(-off)


def test_feet_stay_on_the_floor_however_hard_they_step() -> None:
    environment, generator = made("quadruped"), np.random.default_rng(0)
    floor, deepest = environment.model.geom("floor").id, 0.0
    for _ in range(600):
        fallen = environment.step(generator.uniform(environment.action_space.low, environment.action_space.high))[2]
        deepest = max([deepest, *(-contact.dist for contact in environment.data.contact if floor in contact.geom)])
        if fallen:
            environment.reset()
    assert 0 < deepest < 0.6 * FOOT_RADIUS


def test_a_quadruped_that_lies_has_fallen_and_facing_elsewhere_changes_nothing() -> None:
    environment = made("quadruped")
    forward = environment.step(STANCE)[0]
    turned = made("quadruped")
    state, spun, quarter = turned.data.qpos.copy(), np.zeros(4), np.sqrt([0.5, 0, 0, 0.5])
    # A quarter, for the pyramid that stands for friction does not notice that.
    mujoco.mju_mulQuat(spun, quarter, state[3:7])
    velocity = turned.data.qvel.copy()
    velocity[:2] = [-velocity[1], velocity[0]]
    turned.set_state(np.concatenate((state[:3], spun, state[7:])), velocity)
    np.testing.assert_allclose(turned.step(STANCE)[0], forward, atol=1e-5)
    environment.data.qpos[3:7] = [np.cos(np.pi / 4), np.sin(np.pi / 4), 0, 0]  # on its side
    assert environment.step(STANCE)[2]


def test_legs_reach_where_a_track_is() -> None:
    x, z = track(np.pi / 2, 0.2)
    np.testing.assert_allclose(x, [0, 0, 0, 0], atol=1e-9)
    height = 2 * 0.21 * np.cos(0.8)
    np.testing.assert_allclose(z, [-height + CLEARANCE, -height, -height, -height + CLEARANCE])
    pitch, knee = leg_angles(np.array([0.05]), np.array([-0.25]))
    thigh, shank = pitch[0], pitch[0] + knee[0]
    assert -0.21 * (np.sin(thigh) + np.sin(shank)) == pytest.approx(0.05)
    assert -0.21 * (np.cos(thigh) + np.cos(shank)) == pytest.approx(-0.25)


def test_the_script_trots() -> None:
    played = scripted(dataclasses.replace(find_task("quadruped"), horizon=100), "trot", 1)
    assert 0.35 < played["observations"][0, 0] < 0.7


@pytest.mark.parametrize(("name", "count"), [("arm-reach", 6), ("arm-push", 3)])
def test_the_arms_scripts_succeed(name: str, count: int) -> None:
    task = find_task(name)
    played = scripted(task, "expert", count)
    assert played["succeeded"].all()
    assert task.expert_return is not None
    assert played["returns"].mean() == pytest.approx(task.expert_return, rel=0.2)


def test_an_arms_reward_by_hand() -> None:
    environment = made("arm-reach")
    tool = environment._get_obs()[:3]
    environment.data.mocap_pos[0] = tool + np.array([0.2, 0, 0])
    _, reward, *_, about = environment.step(np.zeros(6))
    assert reward == pytest.approx(1 - np.tanh(1), abs=0.01)
    assert not about["success"]
    environment.data.mocap_pos[0] = tool + np.array([0.01, 0, 0])
    _, reward, *_, about = environment.step(np.full(6, 0.1))
    assert about["success"]
    assert 1.85 < reward < 2 - 0.02 * 0.01


def test_joint_velocities_move_the_tool_as_asked() -> None:
    """Against differences of the simulator's own positions."""
    environment = made("arm-reach")
    asked = np.array([0.1, -0.2, 0.05])
    before = environment._get_obs()
    action = InverseKinematics(environment).action(before[3:9], asked, down=False)
    environment.set_state(environment.data.qpos + 1e-4 * 1.5 * action, np.zeros(6))
    moved = (environment._get_obs()[:3] - before[:3]) / 1e-4
    np.testing.assert_allclose(moved, asked, atol=0.01)


@pytest.mark.parametrize(("name", "joint"), [("quadruped", "front_left_knee"), ("arm-reach", "elbow")])
def test_a_weak_motor_gives_its_share_of_the_force(name: str, joint: str) -> None:
    task = find_task(name)
    forces = []
    for factor in (1.0, 0.5, 0.0):
        environment = made(dataclasses.replace(task, disturbances=Disturbances(actuators={joint: factor})))
        environment.set_state(environment.init_qpos, np.zeros(environment.model.nv))
        motor = environment.model.actuator(joint).id
        environment.data.ctrl[motor] = environment.action_space.high[motor] / 4
        mujoco.mj_forward(environment.model, environment.data)
        forces.append(float(environment.data.actuator_force[motor]))
    assert abs(forces[0]) > 1
    assert forces[1:] == pytest.approx([forces[0] / 2, 0])


def test_a_quadruped_may_weigh_more_on_longer_legs_but_not_lose_one() -> None:
    task = find_task("quadruped")
    changes = Disturbances(
        bodies={"trunk": {"mass": 1.5}, "front_left_shank": {"length": 1.1}}, removed=("rear_left_shank",)
    )
    environment = made(dataclasses.replace(task, disturbances=Disturbances(bodies=changes.bodies)))
    assert environment.model.body("trunk").mass[0] == pytest.approx(1.5 * 5.1)
    for _ in range(10):
        assert not environment.step(STANCE)[2]
    environment.close()
    with pytest.raises(InputError, match="place for every joint"):
        made(dataclasses.replace(task, disturbances=changes))
