"""The control loop: a fixed rate on a monotonic clock, the newest observation, a policy, and safety around it."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Protocol

import numpy as np

from .errors import InputError
from .robot import Observation, Robot, RobotError
from .robot_log import RobotLog
from .safety import Safety, SafetyConfig, State
from .timing import Timing


class Policy(Protocol):
    """Whatever acts: the newest observation (O,) to an action (A,) in the robot's units."""

    def reset(self, seed: int) -> None:
        """An episode begins."""
        ...

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action of this period."""
        ...


class PolicyTooSlow(Exception):
    """The policy has not answered for as long as the robot may go without being told anything."""


@dataclasses.dataclass(frozen=True)
class ControllerConfig:
    """``rate`` in Hz is how often the robot is told what to do, ``policy_rate`` how often the policy is asked (as
    often, unless given; it must divide the rate), and its action stands in between. An episode lasts ``seconds`` at
    most; these and all other times are the robot's, whose time passes ``factor`` times as fast as ours.
    """

    rate: float
    seconds: float
    policy_rate: float | None = None
    factor: float = 1.0
    lockstep: bool = False
    safety: SafetyConfig = dataclasses.field(default_factory=SafetyConfig)

    @property
    def policy_every(self) -> int:
        """Periods between questions. Errors: :class:`InputError` when that is no whole number."""
        every = self.rate / (self.policy_rate or self.rate)
        if every < 1 - 1e-6 or abs(every - round(every)) > 0.01 * every:
            raise InputError(f"a rate of {self.rate:g} Hz is no multiple of the policy's {self.policy_rate:g} Hz")
        return max(1, round(every))


@dataclasses.dataclass(frozen=True)
class Episode:
    """How an episode went: ``ended`` says why it is over, ``stopped`` whether safety or the operator ended it."""

    seed: int
    ended: str
    stopped: bool
    seconds: float
    periods: int
    returned: float
    succeeded: bool
    damped: bool
    missed: int
    states: dict[str, int]
    reasons: dict[str, int]


class StopButton:
    """SIGINT asks for a stop; a second one is Python's own. Outside the main thread only :meth:`press` works."""

    def __init__(self) -> None:
        self.pressed = ""

    def press(self, why: str) -> None:
        """Stop at the next period."""
        self.pressed = self.pressed or why

    @contextlib.contextmanager
    def on_signal(self) -> Generator[None]:
        """Listen to SIGINT."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: Any) -> None:
            if self.pressed:
                raise KeyboardInterrupt
            self.press("stopped by the operator (SIGINT)")

        before = signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


class Controller:
    """Drives a robot with a policy; one episode at a time.

    ``observe`` is told every period's observation and state, for whoever shows them. The robot is damped whenever an
    episode is over, for whichever reason.
    """

    def __init__(
        self,
        robot: Robot,
        policy: Policy,
        config: ControllerConfig,
        log: RobotLog | None = None,
        button: StopButton | None = None,
        observe: Callable[[Observation | None, State, Timing], None] | None = None,
    ) -> None:
        self.robot, self.policy, self.config, self.log = robot, policy, config, log
        self.button = button or StopButton()
        self.timing = Timing(1 / (config.rate * config.factor))
        self._observe = observe
        self._every = config.policy_every
        self._episodes = 0

    def play(self, seed: int) -> Episode:
        """One episode from the start of a seed; it ends as the task does, when its time is up, or by a stop."""
        config, timing = self.config, self.timing
        low, high = self.robot.action_bounds
        safety = Safety(config.safety, self.robot.observation_features, low, high, 1 / config.rate)
        seen: Observation | None = None
        periods, missed, over = 0, timing.missed, ""
        self._episodes += 1
        with self.button.on_signal(), _alarm(self._patience):
            try:
                self.policy.reset(seed)
                self.robot.reset(seed)
                seen = self.robot.get_observation()
                timing.begin(time.monotonic())
                while not over and safety.state != State.STOP:
                    if self.button.pressed:
                        safety.stop(self.button.pressed)
                        break
                    if not config.lockstep:
                        timing.wait(self.robot.get_observation)
                    seen = self._period(safety, periods)
                    periods += 1
                    over = self._over(seen, periods)
            except RobotError as error:
                safety.stop(str(error))
            except PolicyTooSlow:
                safety.stop(f"the policy has not answered for {config.safety.stop_after:g} s")
            finally:
                damped = self._damp()
        if self.log is not None and config.lockstep:  # what the last action led to; with a clock nobody has looked
            self._log(seen, None, 0.0, State.STOP)
        return Episode(
            seed=seed,
            ended=over or safety.why,
            stopped=not over,
            seconds=0.0 if seen is None else seen.elapsed,
            periods=periods,
            returned=float("nan") if seen is None else seen.returned,
            succeeded=seen is not None and seen.succeeded,
            damped=damped,
            missed=timing.missed - missed,
            states={state.name.lower(): safety.counts[state] for state in State if state != State.STOP},
            reasons=safety.reasons,
        )

    def _period(self, safety: Safety, period: int) -> Observation | None:
        """See, think, act; returns what was seen after the step in lockstep, and before it otherwise."""
        config, robot, timing = self.config, self.robot, self.timing
        woken, ran = time.monotonic(), time.thread_time()
        seen = robot.get_observation()
        age = 0.0 if seen is None or config.lockstep else (woken - seen.time) * config.factor
        reason = safety.look(seen, age)
        action, thought = None, 0.0
        if reason is None and safety.state != State.STOP:
            assert seen is not None
            if period % self._every == 0 or safety.last is None:
                action, reason, thought = self._ask(seen, safety)
            else:
                action = safety.last
        state = safety.judge(period / config.rate if config.lockstep else woken * config.factor, reason)
        if state == State.HOLD:
            action = safety.last
        if state in (State.RUN, State.HOLD) and action is not None:
            robot.send_action(action)
        else:
            action = None
            robot.damp()
        safety.counts[state] += 1
        timing.add(woken, time.monotonic(), thought, age / config.factor, time.thread_time() - ran)
        if self.log is not None:
            self._log(seen, action, thought, state)
        if self._observe is not None:
            self._observe(seen, state, timing)
        return robot.get_observation() if config.lockstep and state != State.STOP else seen

    def _ask(self, seen: Observation, safety: Safety) -> tuple[np.ndarray | None, str | None, float]:
        """The policy's action within its limits, or why there is none; and the seconds that it took."""
        begun = time.perf_counter()
        _set_alarm(self._patience)
        try:
            action = np.asarray(self.policy.act(seen.values), np.float64)
        except PolicyTooSlow:
            raise
        except Exception as error:  # whatever it is, the robot has to be stopped, and the report to say why
            safety.stop(f"the policy failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
            return None, None, time.perf_counter() - begun
        finally:
            _set_alarm(0.0)
        took = time.perf_counter() - begun
        if action.shape != self.robot.action_bounds[0].shape:
            safety.stop(f"the policy failed: it gives an action of shape {action.shape}")
            return None, None, took
        if not np.isfinite(action).all():
            return None, "action with NaN or infinite numbers", took
        return safety.limited(action), None, took

    @property
    def _patience(self) -> float:
        """Seconds of ours after which a policy that does not answer is given up."""
        return self.config.safety.stop_after / self.config.factor

    def _over(self, seen: Observation | None, periods: int) -> str:
        """Why the episode is over in good order, or nothing."""
        if seen is None:
            return ""
        if self.config.lockstep and seen.terminated:
            return "the task ended it"
        if self.config.lockstep and seen.truncated:
            return "its time is up"
        elapsed = periods / self.config.rate if self.config.lockstep else seen.elapsed
        return f"{self.config.seconds:g} s are over" if elapsed >= self.config.seconds - 1e-9 else ""

    def _damp(self) -> bool:
        """Damp the robot, and see that it is; false when it no longer answers."""
        try:
            for _ in range(10):
                self.robot.damp()
                seen = self.robot.get_observation(0.05)
                if seen is not None and seen.damped:
                    return True
        except RobotError:
            pass
        return False

    def _log(self, seen: Observation | None, action: np.ndarray | None, thought: float, state: State) -> None:
        assert self.log is not None
        if seen is None:
            return
        age = time.monotonic() - seen.time
        facts = (self._episodes - 1, seen.elapsed, seen.number, age, thought, state, seen.returned)
        self.log.add((*facts, seen.terminated, seen.succeeded), seen.values, action)


@contextlib.contextmanager
def _alarm(seconds: float) -> Generator[None]:
    """Have SIGALRM interrupt a policy that hangs; without effect elsewhere than in the main thread."""
    if not _has_alarm():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        raise PolicyTooSlow

    before = signal.signal(signal.SIGALRM, handle)
    try:
        yield
    finally:
        _set_alarm(0.0)
        signal.signal(signal.SIGALRM, before)


def _set_alarm(seconds: float) -> None:
    if _has_alarm():
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _has_alarm() -> bool:
    return threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
