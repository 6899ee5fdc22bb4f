"""What every agent is to the loop, and what the actor-critics share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from ...robots import InputError, view_mask
from ..networks import Initialisation, Normaliser, StackedMLP, load_networks
from ..optimisers import Adam, Optimiser, OptimisticAdam
from ..parts import Setting
from ..policy import Head
from ..randomness import Generators
from ..replay import Batch


class ActingAgent(Protocol):
    """A policy for R runs that acts in their tasks and that something improves."""

    has_density: bool
    implies_reward: bool
    on_policy: bool

    @property
    def policy_normaliser(self) -> Normaliser:
        """What the policy's observations go through, parts that it may not see hidden."""
        ...

    def to(self, device: torch.device | str) -> object:
        """Move everything to a device, before :meth:`initialise`."""
        ...

    def initialise(self, generators: Generators) -> None:
        """Draw the parameters and make the optimisers."""
        ...

    def act(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Exploring actions for observations (R, ..., O), made with standard normal noise (R, ..., A).

        In [−1, 1], or beyond where the task is to cut them there.
        """
        ...

    def best_actions(self, observations: Tensor, net: StackedMLP | None = None) -> Tensor:
        """The modes (R, ..., A) in [−1, 1] of :meth:`deployed`'s network, or of an earlier one, for (R, ..., O)."""
        ...

    def log_prob(self, batch: Batch) -> Tensor:
        """log π(a|s) (R, B) of a batch under the current policy.

        Errors: :class:`~understudy.robots.InputError` when the policy has no density.
        """
        ...

    def deployed(self) -> tuple[StackedMLP, Head]:
        """The network of the policy to deploy, and how its output becomes an action."""
        ...

    def training_state(self) -> dict[str, Tensor]:
        """All that updates read and write."""
        ...

    def set_training_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`training_state`."""
        ...


class OnPolicyAgent(ActingAgent, Protocol):
    """A policy optimiser for R runs that learns from what its present policy has just done, a round at a time."""

    def updates_of(self, rows: int) -> int:
        """How many updates a round of so many rows makes."""
        ...

    def learn(self, rows: Batch, ended: Tensor, generators: Generators) -> Mapping[str, Tensor]:
        """Improve the policy by one round's rows (R, T) in the order of time; returns metrics (R,).

        ``ended`` (R, T) is 1 after the steps with which an episode was over, for whichever reason.
        """
        ...


class Agent(ActingAgent, Protocol):
    """A policy optimiser for R runs that learns from batches of whatever policy's rows.

    Updates are pure functions of tensors: no files, loggers, syncs or draws.
    """

    @property
    def noise_rows(self) -> int:
        """How many sets of (B, A) standard normal numbers one update takes."""
        ...

    def follow_ends(self, expert: Tensor, learner: Tensor) -> None:
        """Take note of the shares of time (R,) that both sides spend after early ends, before updates."""
        ...

    @property
    def wants_expert_rows(self) -> bool:
        """Whether updates take expert rows of their own."""
        ...

    @property
    def learning_rate(self) -> float:
        """The rate that schedules scale."""
        ...

    @property
    def recordable(self) -> bool:
        """Whether updates can be recorded as CUDA graphs: they then change tensors in place, and nothing else."""
        ...

    def phase(self, updates: int) -> int:
        """The kind of the update after ``updates`` earlier ones; each kind is recorded once on a GPU."""
        ...

    def update(self, batch: Batch, noise: Tensor, expert: Batch | None = None, phase: int = 0) -> Mapping[str, Tensor]:
        """One step on a batch (R, B) and noise (R, noise_rows, B, A), of the kind ``phase``; returns metrics (R,)."""
        ...

    def set_learning_rate(self, value: float) -> None:
        """For schedules."""
        ...


@dataclasses.dataclass(frozen=True)
class ActorCriticConfig:
    """Sizes and rates that SAC and TD3 share.

    ``layer_norm`` normalises the critics' hidden layers. ``cloning_weight`` is that of a squared error between the
    actor's actions and the expert's, on expert rows. With ``averaging`` the policy that is evaluated and deployed
    has an average of the actor's parameters (:class:`Average`); acting to collect data is always the actor's.
    ``policy_view`` and ``critic_view`` name the parts of the observation that actor and critics may see
    (:func:`understudy.robots.view_mask`); all of it when they are empty.
    """

    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 3e-4
    discount: float = 0.99
    target_rate: float = 0.005
    layer_norm: bool = False
    optimiser: Optimiser = "adam"
    initialisation: Initialisation = "linear"
    cloning_weight: float = 0.0
    averaging: float | None = None
    policy_view: tuple[str, ...] = ()
    critic_view: tuple[str, ...] = ()


class ActorCritic(nn.Module):
    """What SAC and TD3 share: rows in and out, and the state of networks and optimisers.

    Subclasses fill ``optimisers`` (by the name that a checkpoint uses) in their ``initialise``, and call
    :meth:`compute_with` there.
    """

    has_density = True  # whether log π(a|s) exists
    implies_reward = False  # whether the critic's loss takes the place of a reward
    on_policy = False  # whether only what its present policy has just done can improve it
    optimisers: dict[str, Adam | OptimisticAdam]

    @classmethod
    def create(cls, config: Any, setting: Setting) -> Self:
        """For a setting. Errors: :class:`InputError` for a cloning term without demonstrations."""
        if config.cloning_weight and setting.demonstrations is None:
            raise InputError("agent.cloning_weight needs demonstrations: give data=<bundled name or file>")
        runs, observation_size, action_size, normaliser, precision = setting.sizes
        critics = normaliser.showing(view_mask(setting.task, config.critic_view, "agent.critic_view"))
        agent = cls(config, runs, observation_size, action_size, critics, precision)
        if config.policy_view or config.critic_view:
            policy = normaliser.hiding(view_mask(setting.task, config.policy_view, "agent.policy_view"))
            agent.set_policy_normaliser(policy)
        return agent

    def __init__(
        self,
        config: ActorCriticConfig,
        runs: int,
        observation_size: int,
        action_size: int,
        normaliser: Normaliser,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.config = config
        self.runs = runs
        self.normaliser = normaliser
        self.action_size = action_size
        self.precision = precision
        self._computing: list[StackedMLP] = []
        self._policy_normaliser: Normaliser | None = None

    @property
    def policy_normaliser(self) -> Normaliser:
        """What the policy's observations go through: the critics' normaliser, unless it has one of its own."""
        return self.normaliser if self._policy_normaliser is None else self._policy_normaliser

    def set_policy_normaliser(self, normaliser: Normaliser) -> None:
        """Let the policy see through another normaliser than the critics."""
        self._policy_normaliser = normaliser

    def seen_by_policy(self, observations: Tensor, normalised: Tensor) -> Tensor:
        """The policy's view of observations whose view by the critics is ``normalised`` already."""
        return normalised if self._policy_normaliser is None else self._policy_normaliser(observations)

    def follow_ends(self, expert: Tensor, learner: Tensor) -> None:
        """Nothing: what an early end is worth is the reward's to say."""

    @property
    def wants_expert_rows(self) -> bool:
        """For the cloning term."""
        return self.config.cloning_weight > 0

    @property
    def learning_rate(self) -> float:
        """The rate of every optimiser."""
        return self.config.learning_rate

    @property
    def recordable(self) -> bool:
        """Unless an optimiser counts on the processor, as the optimistic one does."""
        return all(isinstance(optimiser, Adam) for optimiser in self.optimisers.values())

    def phase(self, updates: int) -> int:
        """Every update is of the same kind."""
        return 0

    def optimiser_of(self, network: StackedMLP) -> Adam | OptimisticAdam:
        """The configured optimiser over one network."""
        make = {"adam": Adam, "oadam": OptimisticAdam}[self.config.optimiser]
        return make([network], self.config.learning_rate)

    def compute_with(self, *networks: StackedMLP) -> None:
        """Multiply the matrices of these networks in the agent's precision."""
        self._computing = list(networks)
        for network in networks:
            network.set_precision(self.precision)

    def rows(self, observations: Tensor) -> Tensor:
        """The policy's view of observations (R, ..., O), as (R, B, O)."""
        return rows_of(observations, self.policy_normaliser)

    def deployed(self) -> tuple[StackedMLP, Head]:
        """The averaged actor."""
        raise TypeError(f"{type(self).__name__} has no actor")

    @torch.no_grad()
    def best_actions(self, observations: Tensor, net: StackedMLP | None = None) -> Tensor:
        """The modes (R, ..., A) in [−1, 1] of the averaged policy, or of an earlier ``net`` of it, for (R, ..., O)."""
        outputs = (self.deployed()[0] if net is None else net)(self.rows(observations), exact=True)
        # A Gaussian's mean comes before its deviation; both kinds of actor squash by tanh.
        return outputs[..., : self.action_size].tanh().view(*observations.shape[:-1], self.action_size)

    def set_learning_rate(self, value: float) -> None:
        """For schedules: the rate of every optimiser."""
        for optimiser in self.optimisers.values():
            optimiser.set_learning_rate(value)

    def training_state(self) -> dict[str, Tensor]:
        """Parameters and optimiser moments: all that an update reads and writes."""
        state = {f"network.{name}": value for name, value in self.state_dict().items()}
        for label, optimiser in self.optimisers.items():
            state |= {f"{label}.{name}": value for name, value in optimiser.state().items()}
        return state

    def set_training_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`training_state`. Errors: see :func:`~..networks.load_networks`."""
        prefixed = len("network.")
        load_networks(self, {k[prefixed:]: v for k, v in state.items() if k.startswith("network.")}, "agent")
        for label, optimiser in self.optimisers.items():
            start = len(label) + 1
            optimiser.set_state({k[start:]: v for k, v in state.items() if k.startswith(f"{label}.")})
        for network in self._computing:
            network.refresh()


def rows_of(observations: Tensor, normaliser: Normaliser) -> Tensor:
    """Observations (R, ..., O) through a normaliser, as (R, B, O)."""
    return normaliser(observations.flatten(1, -2) if observations.dim() > 2 else observations.unsqueeze(1))


class Average(nn.Module):
    """How a network of averaged parameters follows an actor: polynomial-decay averaging (Shamir and Zhang 2013,
    arXiv 1212.1824), in which the actor after update t has a weight that grows as t^power.

    The average forgets the beginning, lags by 1 / (power + 2) of the training so far, and grows steadier as the
    training goes on, without a time scale to choose. Without a power it is the actor itself.
    """

    updates: Tensor

    def __init__(self, power: float | None) -> None:
        super().__init__()
        self._power = power
        self.register_buffer("updates", torch.zeros(()))  # a tensor, so that it counts inside a CUDA graph

    @torch.no_grad()
    def follow(self, average: StackedMLP, actor: StackedMLP) -> None:
        """After one more update of the actor."""
        self.updates += 1
        rate = torch.ones_like(self.updates)
        if self._power is not None:
            rate = (self._power + 1) / (self.updates + self._power)
        for mine, theirs in zip(average.master(), actor.master(), strict=True):
            mine.lerp_(theirs, rate)
        average.refresh()


def follow(follower: StackedMLP, leader: StackedMLP, rate: float) -> None:
    """Move the follower's parameters towards the leader's: p ← p + rate · (p_leader − p)."""
    with torch.no_grad():
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
            list(follower.master()), list(leader.master()), rate
        )
    follower.refresh()
