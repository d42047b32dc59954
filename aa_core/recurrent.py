"""Self-play of recurrent actor-critics in two-player games: several seeds in one batch, every algorithm by one switch.

Actor and critic are two networks of the same kind, dense -> ReLU -> GRU -> linear. Both seats are one network unless
`share_parameters` is off; in a share of the games the second seat is a past snapshot of it (the agent buffer), whose
advantages come from its own critic and which is not trained. The algorithms differ only in the credit that multiplies
grad log pi; A1 and A2 are GAE advantages of the player and of its co-player:

| algorithm | credit of player 1 at step t |
|---|---|
| naive, ppo | A1_t |
| sum_of_rewards, ppo_sum_of_rewards | A1_t, where every reward is the sum of both players' |
| advantage_alignment, proximal_advantage_alignment | A1_t + beta gamma (sum_{k<t} gamma^(t-k) A1_k) A2_t |
| loqa | the same with each A1_k multiplied by 1 - pi2(b_k given s_k) (AA, Theorem 2) |
| lola_dice | none: V1 after one gradient step of the co-player is differentiated through DiCE |

Axes: parameters have a leading axis of networks G; activations are `(T, G, R, ...)`, time, networks and the rows (games
and seats) that a network plays, so that a step is one contiguous block. With shared parameters G is the number of seeds
S, otherwise 2 S: seat s of seed i at 2 i + s. Credit is computed time-last, `(S, 2, games, T)`.

Stacking seeds pays where batches are small; at 512 games a step of one seed fills the cache, and seeds trained one
after the other, or in processes of their own, are as fast or faster.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import huber_loss, pad, softplus
from tqdm.auto import tqdm

from aa_core.advantages import aligned_advantages, discounted_returns, gae, shaping_weights
from aa_core.checks import check_choice, check_count, check_positive, check_unit_interval
from aa_core.games.base import Game
from aa_core.objectives import dice_objective, entropy, policy_gradient_loss, proximal_loss
from aa_core.paths import HEADLESS

ALGORITHMS = (
    "naive",
    "sum_of_rewards",
    "ppo",
    "ppo_sum_of_rewards",
    "advantage_alignment",
    "proximal_advantage_alignment",
    "loqa",
    "lola_dice",
)
PROXIMAL = ("ppo", "ppo_sum_of_rewards", "proximal_advantage_alignment")
WEIGHTS = (
    "encoder_weight", "encoder_bias", "gates_input", "gates_hidden", "gates_bias", "candidate_input", "candidate_bias",
    "candidate_hidden", "reset_bias", "head_weight", "head_bias",
)  # fmt: skip

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class Recurrent:
    """Settings of recurrent self-play. The defaults train 3 x 3 coin agents within minutes on one CPU thread."""

    algorithm: str = "advantage_alignment"  # one of ALGORITHMS
    updates: int = 300
    games: int = 512  # per seed and update
    beta: float = 0.15  # strength of shaping (advantage_alignment, proximal_advantage_alignment, loqa)
    greedy_updates: int = 0  # first updates with beta 0: later the agent buffer holds greedy agents to meet
    restart: bool = False  # after those the learner begins anew, and the greedy agents live on in the buffer only
    credit: str = "discounted"  # as in the table above; "averaged": (1/t) sum_{k<t} A1_k, as AA's negotiation code has
    include_current: bool = False  # just-in-time alignment, for discounted credit
    gamma: float = 0.96  # discount of returns and of the alignment term
    lam: float = 0.95  # of GAE
    normalise: bool = True  # advantages of a seed to mean 0 and deviation 1, before they are combined
    entropy: float = 0.05  # weight of the entropy bonus, in nats per step
    learning_rate: float = 3e-3  # of Adam, actor
    critic_learning_rate: float = 3e-3  # of Adam, critic
    max_gradient_norm: float = 1.0  # per network, actor and critic apart; math.inf: no clipping
    hidden: int = 64  # width of the dense layer and of the GRU
    share_parameters: bool = True  # both seats are one network
    past_share: float = 0.0  # share of the games whose second seat is a past snapshot; 0: no agent buffer
    past_every: int = 10  # updates between two snapshots
    past_until: int | None = None  # updates after which no snapshot is taken; None: to the end
    past_capacity: int = 1000  # snapshots kept, the latest ones
    past_policies: int = 8  # snapshots drawn per update, which split those games evenly
    epochs: int = 2  # passes over a batch (proximal algorithms)
    clip: float = 0.2  # of the probability ratio (proximal algorithms)
    inner_learning_rate: float = 1.0  # the co-player's step (lola_dice)
    record_every: int = 10  # updates between two points of the history

    def __post_init__(self) -> None:
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        check_choice("credit", self.credit, ("averaged", "discounted"))
        for name in ("gamma", "lam", "past_share"):
            check_unit_interval(name, getattr(self, name))
        for name in (
            "updates", "games", "hidden", "past_every", "past_capacity", "past_policies", "epochs", "record_every",
        ):  # fmt: skip
            check_count(name, getattr(self, name))
        for name in ("learning_rate", "critic_learning_rate", "clip", "inner_learning_rate"):
            check_positive(name, getattr(self, name))
        for name in ("beta", "entropy"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0, got {getattr(self, name)!r}")
        if not isinstance(self.greedy_updates, int) or self.greedy_updates < 0:
            raise ValueError(f"greedy_updates must be an integer of at least 0, got {self.greedy_updates!r}")
        if self.past_until is not None and (not isinstance(self.past_until, int) or self.past_until < 1):
            raise ValueError(f"past_until must be a positive integer or None, got {self.past_until!r}")
        if not self.max_gradient_norm > 0:
            raise ValueError(f"max_gradient_norm must be a number above 0, got {self.max_gradient_norm!r}")
        if self.past_share > 0 and (not self.share_parameters or self.algorithm == "lola_dice"):
            raise ValueError(
                f"past_share must be 0 without shared parameters and for lola_dice, got {self.past_share!r}"
            )
        if self.restart and self.algorithm == "lola_dice":
            raise ValueError("restart must be False for lola_dice, got True")
        if self.past_share > 0 and self.past_games == 0:
            raise ValueError(
                f"past_share must give each of {self.past_policies} past_policies a game, got {self.past_share!r} of "
                f"{self.games} games"
            )
        if self.algorithm == "lola_dice" and not self.share_parameters:
            raise ValueError("share_parameters must be True for lola_dice, got False")
        if self.include_current and self.credit == "averaged":
            raise ValueError("include_current must be False for averaged credit, got True")

    @property
    def past_games(self) -> int:
        """Games per seed and update whose second seat is a past snapshot: a multiple of `past_policies`."""
        return int(self.past_share * self.games) // self.past_policies * self.past_policies


@dataclass(frozen=True)
class Policies:
    """Actor-critics with a leading axis of networks; keys are "actor.NAME" and "critic.NAME"."""

    parameters: Parameters
    bounds: tuple[float, float] | None = None  # of continuous actions; None: categorical ones

    def __len__(self) -> int:
        return len(self.parameters["actor.head_bias"])

    def select(self, indices: Sequence[int] | Tensor) -> Policies:
        """The networks of these indices, in this order."""
        indices = torch.as_tensor(indices)
        return Policies({name: tensor[indices] for name, tensor in self.parameters.items()}, self.bounds)


class History(NamedTuple):
    """What a run leaves behind, at K recorded updates; NaN where no such games were played."""

    updates: Tensor  # (K,)
    rewards: Tensor  # (K, S, 2) mean per step and seat, of the games between two live players
    past_rewards: Tensor  # (K, S, 2) the same of the games in which the second seat was a past snapshot
    measure: Tensor  # (K, S) of the games between two live players
    entropy: (
        Tensor  # (K, S) of the policy, nats per step; with continuous actions an estimate, before squashing + after
    )


class Trained(NamedTuple):
    """Result of `train`."""

    policies: Policies
    history: History


# --- networks


def initial_policies(game: Game, hidden: int, generators: Sequence[Generator]) -> Policies:
    """One untrained actor-critic per generator: uniform(+-1/sqrt(inputs)) as torch.nn, the actor's head 0.1 of it."""
    inputs, outputs = math.prod(game.obs_shape), game.num_actions or math.prod(game.action_shape)
    drawn: dict[str, list[Tensor]] = {}
    for generator in generators:
        for network, width, gain in (("actor", outputs, 0.1), ("critic", 1, 1.0)):
            shapes = {
                "encoder_weight": (inputs, hidden),
                "encoder_bias": (1, hidden),
                "gates_input": (hidden, 2 * hidden),  # of the reset and the update gate
                "gates_hidden": (hidden, 2 * hidden),
                "gates_bias": (1, 2 * hidden),
                "candidate_input": (hidden, hidden),
                "candidate_bias": (1, hidden),
                "candidate_hidden": (hidden, hidden),
                "reset_bias": (1, hidden),  # inside of what the reset gate lets through
                "head_weight": (hidden, width),
                "head_bias": (1, width),
            }
            for name, shape in shapes.items():
                scale = (gain if name.startswith("head") else 1.0) / math.sqrt(
                    inputs if name.startswith("encoder") else hidden
                )
                weight = scale * (2 * torch.rand(shape, generator=generator) - 1)
                drawn.setdefault(f"{network}.{name}", []).append(weight)
        if game.num_actions is None:
            drawn.setdefault("actor.log_std", []).append(torch.zeros(1, outputs))
    bounds = None if game.num_actions is not None else tuple(game.action_bounds)
    return Policies({name: torch.stack(weights) for name, weights in drawn.items()}, bounds)


def _part(parameters: Parameters, network: str) -> dict[str, Tensor]:
    """The parameters of "actor" or "critic" by their short names."""
    return {name.split(".")[1]: weight for name, weight in parameters.items() if name.startswith(network)}


class Tape:
    """Activations of G networks over T steps of R rows, allocated once and overwritten by every batch."""

    def __init__(self, time: int, groups: int, rows: int, inputs: int, hidden: int, outputs: int) -> None:
        size = (time, groups, rows)
        self.observations = torch.empty(*size, inputs)
        self.encoded = torch.empty(*size, hidden)
        self.gates = torch.empty(*size, 2 * hidden)
        self.recurrent = torch.empty(*size, hidden)  # what the reset gate lets through
        self.candidate = torch.empty(*size, hidden)
        self.hidden = torch.zeros(time + 1, groups, rows, hidden)
        self.outputs = torch.empty(*size, outputs)

    def step(self, weights: Parameters, t: int) -> Tensor:
        """Write step t, whose observations are there already; returns its outputs `(G, R, outputs)`.

        The GRU is that of torch.nn: reset after the product, so that no product waits for a gate.
        """
        encoded, gates, hidden = self.encoded[t], self.gates[t], self.hidden[t]
        recurrent, candidate = self.recurrent[t], self.candidate[t]
        torch.baddbmm(weights["encoder_bias"], self.observations[t], weights["encoder_weight"], out=encoded).relu_()
        torch.baddbmm(weights["gates_bias"], encoded, weights["gates_input"], out=gates)
        gates.baddbmm_(hidden, weights["gates_hidden"]).sigmoid_()
        torch.baddbmm(weights["reset_bias"], hidden, weights["candidate_hidden"], out=recurrent)
        torch.baddbmm(weights["candidate_bias"], encoded, weights["candidate_input"], out=candidate)
        reset, update = gates.chunk(2, -1)
        candidate.addcmul_(reset, recurrent).tanh_()
        torch.lerp(candidate, hidden, update, out=self.hidden[t + 1])
        return torch.baddbmm(weights["head_bias"], self.hidden[t + 1], weights["head_weight"], out=self.outputs[t])


class _Unroll(torch.autograd.Function):
    """Outputs of a tape as a differentiable function of the WEIGHTS.

    Written by hand because autograd's graph of a GRU holds a dozen nodes a step, each of which allocates its result and
    adds it up; here the products accumulate the weights' gradients themselves, while a step's activations are in cache.
    """

    @staticmethod
    def forward(ctx, tape: Tape, filled: bool, *weights: Tensor) -> Tensor:
        if not filled:
            named = dict(zip(WEIGHTS, weights, strict=True))
            for t in range(len(tape.outputs)):
                tape.step(named, t)
        ctx.tape = tape
        ctx.save_for_backward(*weights)
        return tape.outputs.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        tape, grad_outputs = ctx.tape, grad_outputs.contiguous()
        weights = dict(zip(WEIGHTS, ctx.saved_tensors, strict=True))
        grads = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        back = {name: weight.mT for name, weight in weights.items()}
        tanh_backward, sigmoid_backward = torch.ops.aten.tanh_backward, torch.ops.aten.sigmoid_backward
        carry = torch.zeros_like(tape.hidden[0])
        passed, d_candidate, d_recurrent, d_encoded = (torch.empty_like(carry) for _ in range(4))
        d_gates = torch.empty_like(tape.gates[0])
        d_reset, d_update = d_gates.chunk(2, -1)
        ones = carry.new_ones(carry.shape[0], 1, carry.shape[1])  # a product with it sums over rows, faster than `sum`
        for t in reversed(range(len(tape.outputs))):
            encoded, hidden, candidate = tape.encoded[t], tape.hidden[t], tape.candidate[t]
            reset, update = tape.gates[t].chunk(2, -1)
            carry.baddbmm_(grad_outputs[t], back["head_weight"])  # d loss / d hidden[t + 1]
            torch.mul(carry, torch.sub(hidden, candidate, out=d_encoded), out=d_update)
            torch.mul(carry, update, out=passed)
            tanh_backward.grad_input(carry.sub_(passed), candidate, grad_input=d_candidate)
            torch.mul(d_candidate, tape.recurrent[t], out=d_reset)
            sigmoid_backward.grad_input(d_gates, tape.gates[t], grad_input=d_gates)
            torch.mul(d_candidate, reset, out=d_recurrent)
            passed.baddbmm_(d_gates, back["gates_hidden"]).baddbmm_(d_recurrent, back["candidate_hidden"])
            torch.bmm(d_gates, back["gates_input"], out=d_encoded).baddbmm_(d_candidate, back["candidate_input"])
            torch.ops.aten.threshold_backward.grad_input(d_encoded, encoded, 0, grad_input=d_encoded)
            for name, inputs, d_product in (
                ("head_weight", tape.hidden[t + 1], grad_outputs[t]),
                ("gates_hidden", hidden, d_gates),
                ("candidate_hidden", hidden, d_recurrent),
                ("gates_input", encoded, d_gates),
                ("candidate_input", encoded, d_candidate),
                ("encoder_weight", tape.observations[t], d_encoded),
            ):
                grads[name].baddbmm_(inputs.mT, d_product)
            for name, d_sum in (
                ("head_bias", grad_outputs[t]),
                ("gates_bias", d_gates),
                ("reset_bias", d_recurrent),
                ("candidate_bias", d_candidate),
                ("encoder_bias", d_encoded),
            ):
                grads[name].baddbmm_(ones, d_sum)
            carry, passed = passed, carry
        return None, None, *grads.values()


def outputs_of(weights: Parameters, tape: Tape, filled: bool = False) -> Tensor:
    """Outputs `(T, G, R, outputs)` of actors or critics along a tape; differentiable once, in the weights only.

    Args:
        weights: of the networks, by short names.
        tape: holds the observations.
        filled: a roll-out has computed the tape with these weights already.
    """
    return _Unroll.apply(tape, filled, *(weights[name] for name in WEIGHTS))


def network_step(weights: Parameters, observations: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs `(G, R, outputs)` and hidden state `(G, R, H)` of one step, by plain operations.

    The same numbers as on a tape; without its buffers, and differentiable any number of times.
    """
    w = weights
    encoded = torch.baddbmm(w["encoder_bias"], observations, w["encoder_weight"]).relu()
    entering = torch.baddbmm(w["gates_bias"], encoded, w["gates_input"])
    reset, update = torch.baddbmm(entering, hidden, w["gates_hidden"]).sigmoid().chunk(2, -1)
    recurrent = torch.baddbmm(w["reset_bias"], hidden, w["candidate_hidden"])
    candidate = (torch.baddbmm(w["candidate_bias"], encoded, w["candidate_input"]) + reset * recurrent).tanh()
    hidden = torch.lerp(candidate, hidden, update)
    return torch.baddbmm(w["head_bias"], hidden, w["head_weight"]), hidden


def plain_outputs_of(weights: Parameters, observations: Tensor) -> Tensor:
    """`outputs_of` for observations `(T, G, R, inputs)` by plain operations."""
    hidden, outputs = observations.new_zeros(*observations.shape[1:3], weights["reset_bias"].shape[-1]), []
    for observation in observations:
        output, hidden = network_step(weights, observation, hidden)
        outputs.append(output)
    return torch.stack(outputs)


# --- actions: indices, or reals before squashing, for which the heads give means


def squash(x: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Action in [low, high] of a real x: low + (high - low) (tanh(x) + 1) / 2."""
    low, high = bounds
    return (x.tanh() * ((high - low) / 2) + (high + low) / 2).clamp(low, high)


def _log_slope(x: Tensor, bounds: tuple[float, float]) -> Tensor:
    """log d squash(x) / dx; log(1 - tanh(x)^2) in a form that does not cancel."""
    return math.log((bounds[1] - bounds[0]) / 2) + 2 * (math.log(2) - x - softplus(-2 * x))


def squashed_gaussian_log_prob(x: Tensor, mean: Tensor, log_std: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Log density `(...)` of the actions squash(x), x ~ N(mean, std), summed over items.

    Args:
        x: `(..., items)`, before squashing.
        mean: same shape.
        log_std: broadcasts to it.
        bounds: (low, high) of the action.
    """
    normal = -0.5 * ((x - mean) * (-log_std).exp()).square() - log_std - 0.5 * math.log(2 * math.pi)
    return (normal - _log_slope(x, bounds)).sum(-1)


def _gaussian(weights: Parameters, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log standard deviation of outputs `([T,] G, R, items)`; ranges as in the AA repository."""
    return 2.0 * outputs.tanh(), weights["log_std"].clamp(-2.0, 10.0)


def _log_probs(weights: Parameters, outputs: Tensor, actions: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    """log pi `([T,] G, R)` of the actions."""
    if bounds is None:
        return outputs.log_softmax(-1).gather(-1, actions[..., None])[..., 0]
    return squashed_gaussian_log_prob(actions, *_gaussian(weights, outputs), bounds)


def _entropies(weights: Parameters, outputs: Tensor, actions: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    """Entropy `([T,] G, R)` in nats; of a squashed Gaussian by one sample, the taken action as a function of its noise.

    (-log pi of the taken action would be an estimate too, but at a fixed action its gradient has mean 0.)
    """
    if bounds is None:
        return entropy(outputs)
    mean, log_std = _gaussian(weights, outputs)
    noise = ((actions - mean) * (-log_std).exp()).detach()
    gaussian = 0.5 * math.log(2 * math.pi * math.e) + log_std
    return (gaussian + _log_slope(mean + log_std.exp() * noise, bounds)).sum(-1)


def _noise(shape: Sequence[int], categorical: bool, generator: Generator | None) -> Tensor:
    """Gumbel noise for categorical actions, standard normal for continuous ones."""
    if categorical:
        return torch.empty(*shape).exponential_(generator=generator).log_().neg_()
    return torch.randn(*shape, generator=generator)


def _choose(weights: Parameters, outputs: Tensor, noise: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    """Actions sampled with the noise, of the shape of the outputs."""
    if bounds is None:
        return (outputs + noise).argmax(-1)
    mean, log_std = _gaussian(weights, outputs)
    return mean + log_std.exp() * noise


@torch.no_grad()
def act(
    policies: Policies, observations: Tensor, hidden: Tensor | None = None, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Sampled actions of one step of play.

    Args:
        policies: G networks.
        observations: `(G, R, *obs_shape)`, R rows for each network.
        hidden: as returned for the step before; None at the start of a game.
        generator: of the actions.

    Returns:
        Actions `(G, R)`, or `(G, R, items)` within the bounds, and the hidden state `(G, R, H)`.

    Raises:
        ValueError: observations for another number of networks, or of another size.
    """
    weights = _part(policies.parameters, "actor")
    inputs = weights["encoder_weight"].shape[1]
    if observations.dim() < 3 or len(observations) != len(policies) or math.prod(observations.shape[2:]) != inputs:
        raise ValueError(
            f"observations must be ({len(policies)}, rows, {inputs} numbers in all), got {tuple(observations.shape)}"
        )
    if hidden is None:
        hidden = observations.new_zeros(*observations.shape[:2], weights["reset_bias"].shape[-1])
    outputs, hidden = network_step(weights, observations.flatten(2), hidden)
    noise = _noise(outputs.shape, policies.bounds is None, generator)
    actions = _choose(weights, outputs, noise, policies.bounds)
    return actions if policies.bounds is None else squash(actions, policies.bounds), hidden


def save(policies: Policies, path: str | Path) -> None:
    """Write policies as safetensors."""
    from safetensors.torch import save_file

    tensors = {name: tensor.contiguous() for name, tensor in policies.parameters.items()}
    save_file(tensors, path, metadata={"bounds": json.dumps(policies.bounds)})


def load(path: str | Path) -> Policies:
    """Read policies that `save` has written."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        bounds = json.loads(file.metadata()["bounds"])
        parameters = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    return Policies(parameters, None if bounds is None else tuple(bounds))


# --- play


class Seats(NamedTuple):
    """Which rows of which network play which seat of which game.

    Shared parameters: a network's rows are the first seats of all games, then the second seats of the first
    `games - past`; in the last `past` games the second seat is a past snapshot. Otherwise each seat has its network.
    """

    seeds: int
    games: int
    past: int = 0
    shared: bool = True

    @property
    def groups(self) -> int:
        """Number of networks."""
        return self.seeds if self.shared else 2 * self.seeds

    @property
    def rows(self) -> int:
        """Rows per network."""
        return 2 * self.games - self.past if self.shared else self.games

    def to_rows(self, x: Tensor) -> Tensor:
        """`(S, 2, games, ...)` to `(G, R, ...)`, without the past snapshots."""
        if not self.shared:
            return x.flatten(0, 1)
        return torch.cat([x[:, 0], x[:, 1, : self.games - self.past]], 1)

    def to_games(self, rows: Tensor, past: Tensor | None = None) -> Tensor:
        """`(G, R, ...)` and, of the past snapshots, `(S, past, ...)` to `(S, 2, games, ...)`."""
        if not self.shared:
            return rows.unflatten(0, (self.seeds, 2))
        if past is not None:
            rows = torch.cat([rows, past], 1)
        return rows.unflatten(1, (2, self.games))

    def write(self, seed: int, x: Tensor, rows: Tensor, past: Tensor | None) -> None:
        """Copy `(games, 2, ...)` of a seed into rows `(G, R, ...)` and past rows `(S, past, ...)`."""
        if not self.shared:
            rows[2 * seed : 2 * seed + 2] = x.transpose(0, 1)
            return
        live = self.games - self.past
        rows[seed, : self.games] = x[:, 0]
        rows[seed, self.games :] = x[:live, 1]
        if past is not None:
            past[seed] = x[live:, 1]


class Played(NamedTuple):
    """A batch of games; the live players' observations are on the tape."""

    actions: Tensor  # (T, G, R), or before squashing (T, G, R, items)
    rewards: Tensor  # (S, 2, games, T)
    past_observations: Tensor  # (T, S K, past / K, inputs)
    past_log_probs: Tensor  # (S, past, T)


@torch.no_grad()
def play(
    game: Game, policies: Policies, past: Policies | None, seats: Seats, tape: Tape, generators: Sequence[Generator]
) -> Played:
    """Play `seats.games` games per seed, seed s with random numbers of generators[s] only; fills the actors' tape.

    Args:
        game: two players.
        policies: `seats.groups` networks.
        past: K past snapshots per seed, `(S K)` networks; snapshot k of a seed plays its k-th share of the past games.
        seats: who plays where.
        tape: for `seats.groups` networks and `seats.rows` rows.
        generators: one per seed.
    """
    time, seeds = game.horizon, seats.seeds
    weights, bounds, width = _part(policies.parameters, "actor"), policies.bounds, tape.outputs.shape[-1]
    noise = [_noise((time, 2 * seats.games, width), bounds is None, generator) for generator in generators]
    noise = torch.stack(noise, 1)  # (T, S, rows of both seats, outputs)
    if not seats.shared:
        noise = noise.view(time, seats.groups, seats.rows, width)
    snapshots = 1 if past is None else len(past) // seeds
    past_size = (seeds * snapshots, seats.past // snapshots)
    past_observations = tape.observations.new_empty(time, *past_size, tape.observations.shape[-1])
    past_log_probs = torch.empty(time, *past_size)
    past_hidden = torch.zeros(*past_size, tape.hidden.shape[-1])
    past_weights = {} if past is None else _part(past.parameters, "actor")
    rewards = torch.empty(time, seeds, seats.games, 2)
    taken, past_actions = [], None

    states, observations = map(list, zip(*(game.reset(seats.games, g) for g in generators), strict=True))
    for t in range(time):
        for seed, observation in enumerate(observations):
            past_rows = past_observations[t].view(seeds, seats.past, -1) if seats.past else None
            seats.write(seed, observation.flatten(2), tape.observations[t], past_rows)
        actions = _choose(weights, tape.step(weights, t), noise[t, :, : seats.rows], bounds)
        taken.append(actions)
        if past is not None:
            outputs, past_hidden = network_step(past_weights, past_observations[t], past_hidden)
            past_actions = _choose(past_weights, outputs, noise[t, :, seats.rows :].reshape(outputs.shape), bounds)
            past_log_probs[t] = _log_probs(past_weights, outputs, past_actions, bounds)
            past_actions = past_actions.view(seeds, seats.past, *actions.shape[2:])
        joint = seats.to_games(actions, past_actions).transpose(1, 2)  # (S, games, 2, ...)
        joint = joint if bounds is None else squash(joint, bounds)
        for seed, generator in enumerate(generators):
            states[seed], observations[seed], rewards[t, seed], _ = game.step(states[seed], joint[seed], generator)
    return Played(
        torch.stack(taken),
        rewards.permute(1, 3, 2, 0).contiguous(),
        past_observations,
        past_log_probs.view(time, seeds, -1).permute(1, 2, 0),
    )


# --- credit and updates


def credits(settings: Recurrent, advantages: Tensor, taken_probabilities: Tensor | None = None) -> Tensor:
    """Credit of every player and step by algorithm, `(S, 2, games, T)`, from advantages of the same shape.

    Args:
        settings: which algorithm, and whether advantages are normalised first, over all games of a seed.
        advantages: of both seats.
        taken_probabilities: pi(a_t|s_t) of each player's taken action, same shape; used by loqa.

    Raises:
        ValueError: loqa without `taken_probabilities`.
    """
    if settings.normalise:
        centred = advantages - advantages.mean((1, 2, 3), keepdim=True)
        advantages = centred / centred.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)
    if settings.algorithm not in ("advantage_alignment", "proximal_advantage_alignment", "loqa"):
        return advantages
    other, past_factor = advantages.flip(1), None
    if settings.algorithm == "loqa":
        if taken_probabilities is None:
            raise ValueError("taken_probabilities must be given for loqa, got None")
        past_factor = 1 - taken_probabilities.flip(1)
    if settings.credit == "discounted":
        return aligned_advantages(
            advantages, other, settings.beta, settings.gamma, settings.include_current, past_factor
        )
    past = shaping_weights(advantages if past_factor is None else advantages * past_factor, 1.0)
    steps = torch.arange(advantages.shape[-1], dtype=advantages.dtype).clamp(min=1)
    return advantages + settings.beta * past / steps * other


def _clip_gradients(parameters: Sequence[Tensor], limit: float) -> None:
    """Scale each network's gradient down to norm `limit`; networks are on the first axis."""
    if math.isinf(limit) or not parameters:
        return
    norms = torch.stack([p.grad.flatten(1).square().sum(1) for p in parameters]).sum(0).sqrt()
    scales = (limit / norms.clamp(min=1e-12)).clamp(max=1.0)
    for parameter in parameters:
        parameter.grad *= scales.view(-1, *[1] * (parameter.dim() - 1))


class Learner:
    """Parameters, optimiser and work space of one training run."""

    def __init__(self, game: Game, settings: Recurrent, policies: Policies, seats: Seats) -> None:
        self.game, self.settings, self.seats, self.bounds = game, settings, seats, policies.bounds
        self.parameters = {name: x.detach().clone().requires_grad_() for name, x in policies.parameters.items()}
        self.actor, self.critic = _part(self.parameters, "actor"), _part(self.parameters, "critic")
        rates = ((self.actor, settings.learning_rate), (self.critic, settings.critic_learning_rate))
        self.optimizer = torch.optim.Adam(
            [{"params": [*part.values()], "lr": rate} for part, rate in rates], fused=True
        )
        # LOLA's second seat is a copy that takes a step, hence another network
        self.players = seats._replace(shared=False) if settings.algorithm == "lola_dice" else seats
        inputs, hidden = self.actor["encoder_weight"].shape[1:]
        outputs = self.actor["head_bias"].shape[-1]
        self.tape = Tape(game.horizon, self.players.groups, self.players.rows, inputs, hidden, outputs)
        self.critic_tape = Tape(game.horizon, seats.groups, seats.rows, inputs, hidden, 1)
        if self.players == seats:
            self.critic_tape.observations = self.tape.observations

    def policies(self) -> Policies:
        """A copy of the present parameters."""
        return Policies({name: x.detach().clone() for name, x in self.parameters.items()}, self.bounds)

    def values(self) -> Tensor:
        """Critics' values `(G, R, T)` of what is on the critics' tape."""
        return outputs_of(self.critic, self.critic_tape)[..., 0].permute(1, 2, 0)

    def fit_critic(self, values: Tensor, rewards: Tensor) -> None:
        """Gradient of the Huber loss to the discounted returns, a mean for each network."""
        returns = self.seats.to_rows(discounted_returns(rewards, self.settings.gamma))
        (huber_loss(values, returns) * self.seats.groups).backward()

    def step(self) -> None:
        """Clip and apply the gradients."""
        for part in (self.actor, self.critic):
            _clip_gradients([x for x in part.values() if x.grad is not None], self.settings.max_gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def advantages(self, played: Played, rewards: Tensor, past: Policies | None, values: Tensor) -> Tensor:
        """GAE `(S, 2, games, T)` of both seats, each by its own critic; nothing comes after the horizon."""
        past_values = None
        if past is not None:
            with torch.no_grad():
                past_values = plain_outputs_of(_part(past.parameters, "critic"), played.past_observations)
            past_values = past_values.view(len(past_values), self.seats.seeds, -1).permute(1, 2, 0)
        both = self.seats.to_games(values.detach(), past_values)
        return gae(rewards, pad(both, (0, 1)), self.settings.gamma, self.settings.lam)

    def update(self, past: Policies | None, generators: Sequence[Generator]) -> tuple[Tensor, Tensor]:
        """Play and train once; returns rewards `(S, 2, games, T)` and the mean entropy `(G,)`."""
        settings, seats = self.settings, self.seats
        played = play(self.game, Policies(self.parameters, self.bounds), past, seats, self.tape, generators)
        rewards = played.rewards
        if settings.algorithm.endswith("sum_of_rewards"):
            rewards = rewards.sum(1, keepdim=True).expand_as(rewards)
        values = self.values()
        advantages = self.advantages(played, rewards, past, values)
        self.fit_critic(values, rewards)
        for epoch in range(settings.epochs if settings.algorithm in PROXIMAL else 1):
            outputs = outputs_of(self.actor, self.tape, filled=epoch == 0)
            log_probs = _log_probs(self.actor, outputs, played.actions, self.bounds).permute(1, 2, 0)  # (G, R, T)
            entropies = _entropies(self.actor, outputs, played.actions, self.bounds)
            if epoch == 0:
                old_log_probs, mean_entropy = log_probs.detach(), entropies.detach().mean((0, 2))
                taken = seats.to_games(old_log_probs, played.past_log_probs if seats.past else None).exp()
                credit = seats.to_rows(credits(settings, advantages, taken))
            if settings.algorithm in PROXIMAL:
                loss = proximal_loss(log_probs, old_log_probs, credit, settings.clip)
            else:
                loss = policy_gradient_loss(log_probs, credit)
            # a mean over networks, times their number: each gets the gradient of its own mean
            ((loss - settings.entropy * entropies.mean()) * seats.groups).backward()
            self.step()
        return played.rewards, mean_entropy

    def lola_update(self, past: None, generators: Sequence[Generator]) -> tuple[Tensor, Tensor]:
        """LOLA-DiCE with one inner step, for the first seat; see `update`."""
        settings, own = self.settings, self.actor
        other = {name: x.detach().clone().requires_grad_() for name, x in own.items()}

        def objective(other: Parameters, player: int) -> tuple[Tensor, Tensor, Tensor, Played]:
            """DiCE value `(S,)` of a player, mean entropy of the first one, critics' values and the games."""
            pair = {name: torch.stack([own[name], other[name]], 1).flatten(0, 1) for name in own}
            actors = Policies({f"actor.{name}": x.detach() for name, x in pair.items()}, self.bounds)
            played = play(self.game, actors, None, self.players, self.tape, generators)
            observations = self.tape.observations.clone()  # the second batch of games overwrites the tape
            outputs = plain_outputs_of(pair, observations)
            log_probs = _log_probs(pair, outputs, played.actions, self.bounds).permute(1, 2, 0)
            log_probs = self.players.to_games(log_probs).sum(1)
            self.critic_tape.observations.view_as(observations).copy_(observations)
            values = self.values()
            baseline = self.seats.to_games(values.detach())[:, player]
            value = dice_objective(log_probs, played.rewards[:, player], baseline, settings.gamma).mean(1)
            return value, _entropies(pair, outputs, played.actions, self.bounds)[:, ::2].mean((0, 2)), values, played

        co_value, entropies, values, played = objective(other, 1)
        self.fit_critic(values, played.rewards)
        steps = torch.autograd.grad(co_value.sum(), [*other.values()], create_graph=True)
        rate = settings.inner_learning_rate
        moved = {name: other[name] + rate * step for name, step in zip(other, steps, strict=True)}
        value, *_ = objective(moved, 0)
        # the value sums over steps, the entropy bonus is per step
        (-value.sum() / self.game.horizon - settings.entropy * entropies.sum()).backward(inputs=[*own.values()])
        self.step()
        return played.rewards, entropies.detach()


def _draw_past(buffer: Sequence[Policies], count: int, generators: Sequence[Generator]) -> Policies:
    """`count` snapshots for each seed, drawn uniformly with replacement: `(S count)` networks."""
    drawn = [torch.randint(len(buffer), (count,), generator=generator).tolist() for generator in generators]
    names, bounds = buffer[0].parameters, buffer[0].bounds
    return Policies(
        {
            name: torch.stack([buffer[i].parameters[name][seed] for seed, picks in enumerate(drawn) for i in picks])
            for name in names
        },
        bounds,
    )


def train(
    game: Game,
    settings: Recurrent,
    seeds: Sequence[int],
    on_update: Callable[[int, Policies, Tensor], None] | None = None,
    measure: Callable[[Tensor], float | Tensor] | None = None,
    initial: Policies | None = None,
    progress: bool = True,
) -> Trained:
    """Train one self-play agent per seed (two, one for each seat, without shared parameters).

    Args:
        game: two players, discrete or bounded continuous actions.
        settings: algorithm and hyperparameters.
        seeds: one integer per independent run; a seed's random numbers do not depend on the other seeds.
        on_update: called after every update with its number, a copy of the policies before it and the rewards
            `(S, 2, games, T)` of the games that those played; the last games, if any, against past snapshots.
        measure: (rewards `(games, 2, T)` of a seed's games between live players) -> a number for the history.
        initial: policies to start from; None draws them.
        progress: show a progress bar.

    Raises:
        ValueError: bad seeds, a game without two players, loqa with continuous actions, or `initial` of another size.
    """
    if len(seeds) == 0 or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be different integers, at least one, got {list(seeds)!r}")
    if game.num_players != 2:
        raise ValueError(f"game must have two players, got {game.num_players}")
    if settings.algorithm == "loqa" and game.num_actions is None:
        raise ValueError("algorithm must not be loqa with continuous actions, where 1 - pi is not a probability")
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    seats = Seats(len(seeds), settings.games, settings.past_games, settings.share_parameters)
    first = initial_policies(game, settings.hidden, [g for g in generators for _ in range(seats.groups // len(seeds))])
    if initial is not None:
        if len(initial) != seats.groups:
            raise ValueError(f"initial must hold {seats.groups} networks, got {len(initial)}")
        first = initial
    learner = Learner(game, settings, first, seats)
    update = learner.lola_update if settings.algorithm == "lola_dice" else learner.update
    buffer: deque[Policies] = deque(maxlen=settings.past_capacity)
    recorded = []
    greedy = replace(settings, beta=0.0)
    for number in tqdm(range(settings.updates), desc=settings.algorithm, disable=HEADLESS or not progress, leave=False):
        if number == settings.greedy_updates and settings.restart:
            learner = Learner(game, settings, first, seats)
            update = learner.update
        learner.settings = greedy if number < settings.greedy_updates else settings
        past = None
        if seats.past:
            if number % settings.past_every == 0 and (settings.past_until is None or number < settings.past_until):
                buffer.append(learner.policies())
            past = _draw_past(buffer, settings.past_policies, generators)
        playing = learner.policies() if on_update is not None else None
        rewards, entropies = update(past, generators)
        if on_update is not None:
            on_update(number, playing, rewards)
        if number % settings.record_every == 0 or number == settings.updates - 1:
            live, against_past = rewards.split([seats.games - seats.past, seats.past], 2)
            nothing = torch.full((len(seeds),), math.nan)
            measured = nothing
            if measure is not None and live.shape[2]:
                measured = torch.stack([torch.as_tensor(measure(games.transpose(0, 1))).float() for games in live])
            recorded.append(
                (
                    torch.tensor(number),
                    live.mean((2, 3)),
                    against_past.mean((2, 3)),
                    measured,
                    entropies.view(len(seeds), -1).mean(1),
                )
            )
    return Trained(learner.policies(), History(*(torch.stack(column) for column in zip(*recorded, strict=True))))
