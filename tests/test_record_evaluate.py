"""Recording demonstrations, evaluating policies and filming them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from policies import assert_sentence, make_policy, make_run

from understudy.datasets import Demonstrations, read_d4rl
from understudy.imitation import recording, video
from understudy.imitation.evaluation import evaluate
from understudy.imitation.recording import measure_random_return, record
from understudy.robots import InputError, TaskBatch, find_task, set_physics_state
from understudy.scripts import cli
from understudy.scripts import evaluate as evaluate_command

HOPPER = find_task("hopper")


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def assert_executed(data: Demonstrations) -> None:
    """From each stored state, the stored action gives the stored next observation, reward and end."""
    assert data.states is not None
    tasks = TaskBatch(find_task(data.task_name), [0])
    tasks.reset()
    for row in range(len(data)):
        set_physics_state(tasks.environments[0], data.states[row])
        result = tasks.step(data.actions[row : row + 1], "policy")
        np.testing.assert_array_equal(result.next_observations[0], data.next_observations[row])
        np.testing.assert_allclose(result.rewards[0], data.rewards[row], rtol=1e-6)
        assert result.terminated[0] == data.terminated[row]


def test_random_actions() -> None:
    data = record(HOPPER, None, seed=5, episodes=20)
    assert_executed(data)
    assert len(data.starts) == 20
    np.testing.assert_array_equal(data.episode_seeds, np.arange(5, 25))
    # Uniform in [-1, 1]: mean 0, standard deviation 1/sqrt(3), and both ends reached.
    assert abs(data.actions.mean()) < 0.05
    np.testing.assert_allclose(data.actions.std(), 3**-0.5, rtol=0.05)
    assert np.abs(data.actions).max() > 0.99
    np.testing.assert_allclose(np.add.reduceat(data.rewards, data.starts), data.episode_returns, rtol=1e-5)
    assert data.expert_return == pytest.approx(data.episode_returns.mean())
    # Each episode begins as its seed says.
    tasks = TaskBatch(HOPPER, [5, 24])
    np.testing.assert_array_equal(tasks.reset(), data.observations[data.starts[[0, 19]]])


def test_episodes_end_at_the_horizon_too() -> None:
    task = find_task("reacher")
    data = record(task, None, seed=0, episodes=2)
    np.testing.assert_array_equal(data.episode_lengths, [50, 50])
    np.testing.assert_array_equal(np.flatnonzero(data.truncated), [49, 99])
    assert not data.terminated.any()


@pytest.mark.parametrize("deterministic", [True, False])
def test_an_episode_is_the_same_however_many_are_recorded(deterministic: bool) -> None:
    def recorded(episodes: int, seed: int = 3) -> Demonstrations:
        policy = make_policy()
        policy.seed(seed)
        act = functools.partial(policy.act, deterministic=deterministic)
        return record(HOPPER, act, seed=seed, episodes=episodes, noise=0.2)

    few, many, other = recorded(2), recorded(recording.TOGETHER + 2), recorded(2, seed=4)
    for name in ("observations", "actions", "rewards", "states"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[: len(few)])
    assert len(many.starts) == recording.TOGETHER + 2
    assert not np.array_equal(few.actions[:5], other.actions[:5])


def test_noise_is_of_the_given_size_and_what_is_executed_is_stored() -> None:
    policy = make_policy()
    with torch.no_grad():
        policy.net.weights[-1].mul_(0.2)
    data = record(HOPPER, policy.act, seed=0, episodes=20, noise=0.1)
    assert_executed(data)
    intended = policy.act(torch.tensor(data.observations)).numpy()
    inside = np.abs(intended) < 0.5  # where five deviations are not clipped
    difference = (data.actions - intended)[inside]
    assert inside.sum() > 500
    np.testing.assert_allclose(difference.std(), 0.1, rtol=0.1)
    assert abs(difference.mean()) < 0.01
    plain = record(HOPPER, policy.act, seed=0, episodes=2)
    np.testing.assert_allclose(plain.actions, policy.act(torch.tensor(plain.observations)).numpy(), atol=1e-6)


def test_recording_stops_after_the_episode_that_reaches_the_steps() -> None:
    counts: list[int] = []
    data = record(HOPPER, None, seed=0, steps=300, advance=counts.append)
    assert sum(counts) == len(data)
    assert len(data) >= 300 > data.starts[-1]
    both = record(HOPPER, None, seed=0, episodes=3, steps=300)
    assert len(both.starts) == 3


def test_the_random_return_is_a_mean_over_fresh_episodes() -> None:
    data = record(HOPPER, None, seed=recording.RANDOM_SEED, episodes=4)
    assert measure_random_return(HOPPER, 4) == pytest.approx(data.episode_returns.mean())


# The command `record`.


def test_record_writes_a_file_that_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_policy().save_pretrained(tmp_path / "policy")
    out = tmp_path / "demonstrations.hdf5"
    arguments = ("record", tmp_path / "policy", f"out={out}", "episodes=3", "noise=0.1", "seed=9", "quiet=true")
    assert run(*arguments) == 0
    (line,) = capsys.readouterr().out.splitlines()
    data, said = read_d4rl(out), json.loads(line)
    assert data.task_name == "hopper"
    assert data.random_return == HOPPER.random_return
    assert data.expert_return == pytest.approx(data.episode_returns.mean()) == said["return"]["mean"]
    assert data.metadata["action_noise"] == 0.1
    assert data.metadata["policy"] == "policy"
    assert (said["episodes"], said["rows"], said["file"]) == (3, len(data), str(out))
    assert_executed(data)
    # An existing file is kept, and with overwrite=true replaced by the same rows, made anew.
    before = out.read_bytes()
    assert run(*arguments) == 2
    assert "overwrite=true" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert run(*arguments, "overwrite=true", "compact=true", "random_episodes=2", "expert_return=77") == 0
    again = read_d4rl(out)
    np.testing.assert_array_equal(again.next_observations, data.next_observations)
    assert again.expert_return == 77
    assert again.random_return == pytest.approx(measure_random_return(HOPPER, 2))
    assert out.stat().st_size < len(before)


def test_random_actions_measure_their_own_reference(tmp_path: Path) -> None:
    out = tmp_path / "random.hdf5"
    assert run("record", "random", "task=hopper", "steps=100", f"out={out}", "quiet=true") == 0
    data = read_d4rl(out)
    assert data.random_return == pytest.approx(data.episode_returns.mean())
    assert data.expert_return == HOPPER.expert_return


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("random", "out=x.hdf5"), "task= is missing"),
        (("random", "task=hopper", "noise=0.1", "out=x.hdf5"), "noise="),
        (("random", "task=hoper", "out=x.hdf5"), "hopper"),
        (("random", "task=hopper", "out=nowhere/x.hdf5"), "nowhere"),
        (("random", "task=hopper", "out=x.hdf5", "episodes=0"), "at least 1"),
        (("random", "task=hopper"), "out= is missing"),
        (("missing", "task=hopper", "out=x.hdf5"), "missing does not exist"),
        (("policy", "out=x.hdf5", "deterministic=false"), "deterministic"),
        (("policy", "task=walker2d", "out=x.hdf5"), "walker2d"),
    ],
)
def test_record_says_what_is_wrong_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_policy(head="deterministic").save_pretrained(tmp_path / "policy")
    assert run("record", *arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert_sentence(error.strip())
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


# The command `evaluate`.


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert run("evaluate", *arguments, "quiet=true") == 0
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    assert captured.err == ""
    return json.loads(line)


def test_evaluate_a_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = make_policy(seed=1, training={"random_return": 10.0, "expert_return": 60.0})
    policy.save_pretrained(tmp_path / "policy")
    expected = evaluate(policy.act, HOPPER, 1, 7)  # the command rounds to five digits
    said = evaluated(capsys, tmp_path / "policy", "episodes=7")
    assert said["return"]["runs"] == pytest.approx([expected.returns.mean()], rel=1e-4)
    assert said["return"]["low"] < said["return"]["iqm"] < said["return"]["high"]
    assert said["over"] == "episodes"
    for key in ("iqm", "low", "high"):
        assert said["score"][key] == pytest.approx((said["return"][key] - 10) / 50, rel=1e-3)
    assert said["steps"] == {"evaluation": int(expected.lengths.sum())}
    assert said["policy"] == str(tmp_path / "policy")
    assert said["seconds"] >= 0
    other = evaluated(capsys, tmp_path / "policy", "episodes=7", "seed=5")
    expected = evaluate(policy.act, HOPPER, 1, 7, seed=5)
    assert other["return"]["runs"] == pytest.approx([expected.returns.mean()], rel=1e-4)
    assert other["return"]["runs"] != said["return"]["runs"]


def test_many_episodes_are_played_in_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_policy().save_pretrained(tmp_path / "policy")
    whole = evaluated(capsys, tmp_path / "policy", "episodes=5")
    monkeypatch.setattr(evaluate_command, "TOGETHER", 2)
    parts = evaluated(capsys, tmp_path / "policy", "episodes=5")
    assert parts["return"]["runs"] == pytest.approx(whole["return"]["runs"], rel=1e-3)
    assert parts["steps"] == whole["steps"]


def test_evaluate_a_run_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = make_run(tmp_path / "run", 4, random_return=None, expert_return=None)
    said = evaluated(capsys, directory, "episodes=3")
    means = [evaluate(make_policy(seed=run).act, HOPPER, 1, 3).returns.mean() for run in range(4)]
    assert said["return"]["runs"] == pytest.approx(means, rel=1e-4)
    assert said["over"] == "runs"
    # The interquartile mean of four: without the smallest and the largest.
    assert said["return"]["iqm"] == pytest.approx(np.mean(sorted(means)[1:3]), rel=1e-4)
    assert HOPPER.random_return is not None
    assert HOPPER.expert_return is not None
    width = HOPPER.expert_return - HOPPER.random_return
    assert said["score"]["runs"] == pytest.approx([(mean - HOPPER.random_return) / width for mean in means], rel=1e-3)
    assert run("evaluate", directory, "episodes=2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1])["return"]["runs"]
    assert sum(line.startswith("run-") for line in lines) == 4
    assert any(line.startswith("return: IQM") and "95 %" in line for line in lines)


def test_without_references_there_is_no_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_policy("InvertedPendulum-v5").save_pretrained(tmp_path / "policy")
    assert run("evaluate", tmp_path / "policy", "episodes=2") == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["score"] is None
    assert any("score: unknown" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "policy= is missing"),
        (("missing",), "missing does not exist"),
        (("policy", "task=ant"), "policy is a policy for hopper, not for ant"),
        (("policy", "video=film.avi"), "must end in .mp4"),
        (("broken",), "config.json"),
    ],
)
def test_evaluate_says_what_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_policy().save_pretrained(tmp_path / "policy")
    make_policy().save_pretrained(tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text("{")
    assert run("evaluate", *arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert_sentence(captured.err.strip())
    assert "{" not in captured.out


# Videos, with the renderer replaced: OpenGL is not everywhere.


def paint(environment: Any) -> Any:
    """A renderer of grey images."""
    return lambda: np.full((64, 80, 3), 128, np.uint8)


def test_a_video_runs_in_real_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "renderer", paint)
    make_policy("reacher").save_pretrained(tmp_path / "policy")
    film = tmp_path / "film.mp4"
    said = evaluated(capsys, tmp_path / "policy", "episodes=2", f"video={film}")
    assert said["video"] == str(film)
    assert said["steps"] == {"evaluation": 3 * 50}  # the film's are counted as well
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(film))
    assert frames == 51  # each of 50 steps, and what came of the last one
    assert seconds == pytest.approx(51 / find_task("reacher").spaces.control_rate, rel=0.05)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "policy"]


def test_a_fast_controller_is_filmed_at_a_part_of_its_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "renderer", paint)
    policy = make_policy()
    result = video.write_video(policy.act, HOPPER, tmp_path / "film.mp4", seed=4)
    expected = evaluate(policy.act, HOPPER, 1, 1, seed=4)
    np.testing.assert_allclose(result.returns, expected.returns)
    np.testing.assert_array_equal(result.lengths, expected.lengths)
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "film.mp4"))
    length = int(expected.lengths.item())
    assert frames == -(-length // 3) + 1  # 125 Hz, of which every third step is shown
    assert seconds == pytest.approx(length / 125, abs=0.05)


def test_a_video_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    act = make_policy().act
    (tmp_path / "file").touch()

    def refused(path: Path, said: str) -> None:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(InputError, match=said) as caught:
            video.write_video(act, HOPPER, path, seed=0)
        assert_sentence(caught.value)
        assert sorted(tmp_path.rglob("*")) == before

    monkeypatch.setattr(video.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    refused(tmp_path / "film.mp4", "MUJOCO_GL=egl")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setattr("gymnasium.envs.mujoco.mujoco_env.MujocoEnv.render", _broken)
    refused(tmp_path / "film.mp4", "MuJoCo cannot render here with MUJOCO_GL=osmesa")
    monkeypatch.setattr(video, "renderer", paint)
    refused(tmp_path / "file" / "film.mp4", "there is no folder")
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # as good as a full disk
    try:
        refused(tmp_path / "film.mp4", "cannot write")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _broken(environment: object) -> np.ndarray:
    raise AttributeError("'NoneType' object has no attribute 'glGetError'")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("record expert task=hopper out=x.hdf5", "hopper has no script of that name"),
        ("evaluate play", "scripts are for `understudy record`"),
        ("evaluate mine.hdf5", "is a recording, not a policy"),
        ("record random task=hopper out=README.md", "ends in .hdf5"),
        ("record random task=Hopper-v3 out=x.hdf5", "use Hopper-v5"),
    ],
)
def test_what_is_taken_for_something_else(
    command: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*command.split()) == 2
    errors = capsys.readouterr().err
    assert words in errors
    assert errors.count("\n") == 1


def test_an_older_version_is_answered_alike_once_gymnasium_robotics_has_registered_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It registers a Hopper-v3 with a horizon, which needs mujoco_py: the order of use must not change the way out."""
    pytest.importorskip("gymnasium_robotics")
    capsys.readouterr()  # it says on import what changed in it
    monkeypatch.chdir(tmp_path)
    assert run("record", "random", "task=Hopper-v3", "out=x.hdf5") == 2
    errors = capsys.readouterr().err
    assert "cannot make Hopper-v3" in errors
    assert errors.endswith("; use Hopper-v5\n")
    assert errors.count("\n") == 1
