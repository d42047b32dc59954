"""Self-play of many players in a commons: PPO, PPO with summed rewards and Proximal Advantage Alignment.

One network plays every seat: convolution -> dense -> GRU, with a head for the policy and one for the value, as in the
Melting Pot experiments of Advantage Alignment (AA, arXiv 2406.14662; there a transformer over 15 steps is the memory).
It sees the player's window, its own last action and its own last reward. Worlds live on from one update to the next:
an update plays `chunk` steps in each, and only then does a world whose `lifetime` is over begin anew, the worlds in
turn, so that every batch holds full and exhausted ones. Some seats can be held by a past snapshot of the network (the
agent buffer), which is not trained. The algorithms differ in the credit only, that of `aligned_advantages_n` or plain
GAE; sums over the past begin anew with every chunk, as in the authors' code.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import huber_loss, one_hot
from tqdm.auto import tqdm

from aa_core.advantages import aligned_advantages_n, gae
from aa_core.checks import check_choice, check_count, check_positive, check_unit_interval
from aa_core.games.harvest import HarvestGame, HarvestState, free_harvester
from aa_core.objectives import entropy, proximal_loss
from aa_core.paths import HEADLESS

ALGORITHMS = ("ppo", "ppo_sum_of_rewards", "proximal_advantage_alignment")


@dataclass(frozen=True)
class Commons:
    """Settings of self-play in a commons."""

    algorithm: str = "proximal_advantage_alignment"  # one of ALGORITHMS
    updates: int = 200
    worlds: int = 64
    chunk: int = 50  # steps per update
    lifetime: int = 500  # steps of a world, a multiple of `chunk`
    beta: float = 0.1  # strength of shaping
    past: str = "discounted"  # of `aligned_advantages_n`
    over: str | tuple[tuple[float, ...], ...] = "sum"  # of `aligned_advantages_n`, weights as rows
    gamma: float = 0.99  # discount of returns and of the alignment term
    lam: float = 0.95  # of GAE
    entropy: float = 0.01  # weight of the entropy bonus, in nats per step
    value_weight: float = 0.5  # weight of the critic's Huber loss
    learning_rate: float = 1e-3  # of Adam
    clip: float = 0.2  # of the probability ratio
    epochs: int = 2  # passes over a batch
    max_gradient_norm: float = 0.5
    filters: int = 16  # of the convolution, 3 x 3
    hidden: int = 64  # width of the dense layer and of the GRU
    past_seats: int = 0  # last seats of every world, held by a past snapshot; 0: no agent buffer
    past_every: int = 10  # updates between two snapshots
    past_capacity: int = 200  # snapshots kept, the latest ones
    free_riders: int = 0  # last seats of every world, held by scripted free harvesters who never cooperate

    def __post_init__(self) -> None:
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        for name in ("updates", "worlds", "chunk", "lifetime", "epochs", "filters", "hidden", "past_every"):
            check_count(name, getattr(self, name))
        for name in ("learning_rate", "clip", "max_gradient_norm", "value_weight"):
            check_positive(name, getattr(self, name))
        for name in ("gamma", "lam"):
            check_unit_interval(name, getattr(self, name))
        check_choice("past", self.past, ("averaged", "discounted"))
        if isinstance(self.over, str):
            check_choice("over", self.over, ("mean", "product", "sum"))
        for name in ("beta", "entropy"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0, got {getattr(self, name)!r}")
        for name in ("past_seats", "free_riders"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 0:
                raise ValueError(f"{name} must be an integer of at least 0, got {getattr(self, name)!r}")
        if self.lifetime % self.chunk:
            raise ValueError(f"lifetime must be a multiple of chunk, {self.chunk}, got {self.lifetime!r}")


class Seen(NamedTuple):
    """What a row sees: its window, and the action and reward of its step before."""

    windows: Tensor  # (T, R, channels, rows, columns) uint8
    actions: Tensor  # (T, R)
    rewards: Tensor  # (T, R)


class Network(nn.Module):
    """Actor-critic with memory, for one seat; seats and worlds are rows R."""

    def __init__(self, game: HarvestGame, filters: int, hidden: int, generator: Generator) -> None:
        super().__init__()
        channels, rows, columns = game.obs_shape
        self.convolution = nn.Conv2d(channels, filters, 3)
        self.dense = nn.Linear(filters * (rows - 2) * (columns - 2), hidden)
        self.memory = nn.GRU(hidden + game.num_actions + 1, hidden)
        self.policy = nn.Linear(hidden, game.num_actions)
        self.value = nn.Linear(hidden, 1)
        for name, weight in self.named_parameters():  # as torch.nn would, but from the caller's generator
            inputs = hidden if weight.dim() < 2 else weight[0].numel()
            scale = (0.1 if name.startswith("policy") else 1.0) / math.sqrt(inputs)
            nn.init.uniform_(weight, -scale, scale, generator=generator)

    def forward(self, seen: Seen, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits `(T, R, actions)`, values `(T, R)` and the last hidden state `(R, H)` after T steps from `hidden`."""
        time, rows = seen.rewards.shape
        encoded = self.convolution(seen.windows.flatten(0, 1).float()).relu_().flatten(1)
        encoded = self.dense(encoded).relu_().view(time, rows, -1)
        actions = one_hot(seen.actions, self.policy.out_features).float()
        remembered, hidden = self.memory(torch.cat((encoded, actions, seen.rewards[..., None]), -1), hidden[None])
        return self.policy(remembered), self.value(remembered)[..., 0], hidden[0]


def sample(logits: Tensor, generator: Generator) -> Tensor:
    """Actions `(...)` from logits `(..., actions)`."""
    noise = torch.empty_like(logits).exponential_(generator=generator).log_()
    return (logits - noise).argmax(-1)


@dataclass
class Stage:
    """Where the worlds of a training stand between two chunks."""

    state: HarvestState
    observations: Tensor  # (W, P, channels, rows, columns)
    actions: Tensor  # (W, P) of the step before
    rewards: Tensor  # (W, P) of the step before
    hidden: Tensor  # (W, P, H)
    age: Tensor  # (W,) steps played


class Played(NamedTuple):
    """A chunk of play in all worlds; rows are learners, `(W, learners)` flattened."""

    seen: Seen
    hidden: Tensor  # (R, H) before the first step
    actions: Tensor  # (T, R)
    in_play: Tensor  # (T, R) bool
    rewards: Tensor  # (W, P, T), those who are not trained too
    values: Tensor  # (W, P, T + 1), each by its own critic; the last one bootstraps


def begin(game: HarvestGame, settings: Commons, generator: Generator) -> Stage:
    """New worlds, of ages that differ by chunks, so that they do not all end at once."""
    state, observations = game.reset(settings.worlds, generator)
    shape = observations.shape[:2]
    age = settings.chunk * (torch.arange(settings.worlds) % (settings.lifetime // settings.chunk))
    zeros = torch.zeros(shape)
    return Stage(state, observations, zeros.long(), zeros, torch.zeros(*shape, settings.hidden), age)


def begin_anew(game: HarvestGame, stage: Stage, lifetime: int, generator: Generator) -> None:
    """Replace the worlds whose lifetime is over."""
    over = stage.age >= lifetime
    count = int(over.sum())
    if not count:
        return
    fresh, observations = game.reset(count, generator)
    changed = {"time": 0}
    for field in fields(HarvestState):
        old = getattr(stage.state, field.name)
        if isinstance(old, Tensor):
            changed[field.name] = old.masked_scatter(over[:, None].expand_as(old), getattr(fresh, field.name))
    stage.state = replace(stage.state, **changed)
    stage.observations[over] = observations
    for held in (stage.actions, stage.rewards, stage.hidden, stage.age):
        held[over] = 0


@torch.no_grad()
def play_chunk(
    game: HarvestGame, network: Network, past: Network | None, stage: Stage, settings: Commons, generator: Generator
) -> Played:
    """Play `settings.chunk` steps in every world, and move the stage on."""
    worlds, players = stage.actions.shape
    free = players - settings.free_riders
    learners = free - settings.past_seats
    # free riders have a script's actions and the network's values: what its critic thinks of their seats
    seats_of = ((network, slice(0, learners)), (past, slice(learners, free)), (network, slice(free, players)))
    sides = [(mind, seats) for mind, seats in seats_of if seats.start < seats.stop]
    stage.hidden[:, learners:free] = 0  # another mind than in the chunk before
    start = stage.hidden[:, :learners].flatten(0, 1).clone()
    windows, last_actions, last_rewards, actions, in_play, rewards, values = ([] for _ in range(7))
    for t in range(settings.chunk + 1):
        now, value = torch.empty(worlds, players, dtype=torch.long), torch.empty(worlds, players)
        hidden = stage.hidden if t < settings.chunk else stage.hidden.clone()  # the last look is not remembered
        for mind, seats in sides:
            seen = Seen(
                stage.observations[:, seats].flatten(0, 1)[None],
                stage.actions[:, seats].flatten()[None],
                stage.rewards[:, seats].flatten()[None],
            )
            logits, found, remembered = mind(seen, hidden[:, seats].flatten(0, 1))
            now[:, seats] = sample(logits, generator).view(worlds, -1)
            value[:, seats] = found.view(worlds, -1)
            if seats.start == free:
                now[:, seats] = free_harvester(game, stage.observations[:, seats], generator, zap=False)
            hidden[:, seats] = remembered.view(worlds, -1, hidden.shape[-1])
            if seats.start == 0 and t < settings.chunk:
                windows.append(seen.windows)
                last_actions.append(seen.actions)
                last_rewards.append(seen.rewards)
        values.append(value)
        if t == settings.chunk:
            break
        actions.append(now[:, :learners].flatten())
        in_play.append(stage.state.out[:, :learners].flatten() == 0)
        stage.state, stage.observations, stage.rewards, _ = game.step(stage.state, now, generator)
        stage.actions = now
        rewards.append(stage.rewards)
    stage.age += settings.chunk
    return Played(
        Seen(torch.cat(windows), torch.cat(last_actions), torch.cat(last_rewards)),
        start,
        torch.stack(actions),
        torch.stack(in_play),
        torch.stack(rewards, -1),
        torch.stack(values, -1),
    )


def credits(settings: Commons, advantages: Tensor) -> Tensor:
    """Credit of every player and step, `(W, P, T)`, from advantages, which are normalised over all of them first."""
    advantages = (advantages - advantages.mean()) / advantages.std().clamp(min=1e-6)
    if settings.algorithm != "proximal_advantage_alignment":
        return advantages
    over = settings.over if isinstance(settings.over, str) else torch.tensor(settings.over)
    return aligned_advantages_n(advantages, settings.beta, settings.gamma, past=settings.past, over=over)


def update(network: Network, optimizer: torch.optim.Optimizer, played: Played, settings: Commons) -> float:
    """Train on a chunk; returns the mean entropy of the policy in nats."""
    rewards = played.rewards
    if settings.algorithm == "ppo_sum_of_rewards":
        rewards = rewards.sum(1, keepdim=True).expand_as(rewards)
    advantages = gae(rewards, played.values, settings.gamma, settings.lam)
    learners = len(played.hidden) // len(rewards)
    rows = (credits(settings, advantages), advantages + played.values[..., :-1])
    credit, targets = (x[:, :learners].flatten(0, 1).T for x in rows)  # (T, R)
    old_log_probs = None
    for _ in range(settings.epochs):
        logits, values, _ = network(played.seen, played.hidden)
        log_probs = logits.log_softmax(-1).gather(-1, played.actions[..., None])[..., 0]
        old_log_probs = log_probs.detach() if old_log_probs is None else old_log_probs
        entropies = entropy(logits)
        loss = proximal_loss(log_probs, old_log_probs, credit, settings.clip, played.in_play)
        loss = loss + settings.value_weight * huber_loss(values, targets) - settings.entropy * entropies.mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), settings.max_gradient_norm)
        optimizer.step()
    return entropies.mean().item()


def train(
    game: HarvestGame,
    settings: Commons,
    seed: int,
    on_update: Callable[[int, Network, Played], None] | None = None,
    progress: bool = True,
) -> Network:
    """Train one agent; `on_update` is called after every update with its number, the network and what was played."""
    if settings.past_seats + settings.free_riders >= game.num_players:
        raise ValueError(
            f"past_seats and free_riders must leave a seat of {game.num_players} to the learner, got "
            f"{settings.past_seats} and {settings.free_riders}"
        )
    generator = torch.Generator().manual_seed(seed)
    network = Network(game, settings.filters, settings.hidden, generator)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
    stage = begin(game, settings, generator)
    past = deepcopy(network) if settings.past_seats else None
    buffer: deque[dict[str, Tensor]] = deque(maxlen=settings.past_capacity)
    for number in tqdm(range(settings.updates), desc=settings.algorithm, disable=HEADLESS or not progress, leave=False):
        if past is not None:
            if number % settings.past_every == 0:
                buffer.append({name: x.clone() for name, x in network.state_dict().items()})
            past.load_state_dict(buffer[int(torch.randint(len(buffer), (), generator=generator))])
        played = play_chunk(game, network, past, stage, settings, generator)
        begin_anew(game, stage, settings.lifetime, generator)
        update(network, optimizer, played, settings)
        if on_update is not None:
            on_update(number, network, played)
    return network


Player = Network | Callable[..., Tensor]  # a network, or a script (game, observations, generator) -> actions


class Episode(NamedTuple):
    """Whole episodes of W worlds."""

    rewards: Tensor  # (W, P, T)
    out: Tensor  # (W, P, T) bool
    apples: Tensor  # (W, T) alive after each step


@torch.no_grad()
def play_episode(
    game: HarvestGame,
    players: list[Player],
    worlds: int,
    generator: Generator,
    on_step: Callable[[int, HarvestState], None] | None = None,
) -> Episode:
    """Play `game.horizon` steps with one player for each seat; seats of the same network are played together."""
    state, observations = game.reset(worlds, generator)
    minds = list({id(player): player for player in players}.values())
    seats = [[seat for seat, player in enumerate(players) if player is mind] for mind in minds]
    actions, rewards = torch.zeros(worlds, len(players), dtype=torch.long), torch.zeros(worlds, len(players))
    hidden = [
        torch.zeros(worlds * len(places), mind.memory.hidden_size) if isinstance(mind, Network) else None
        for mind, places in zip(minds, seats, strict=True)
    ]
    record = Episode([], [], [])
    for step in range(game.horizon):
        if on_step is not None:
            on_step(step, state)
        chosen = torch.empty_like(actions)
        for index, (mind, places) in enumerate(zip(minds, seats, strict=True)):
            view = observations[:, places]
            if isinstance(mind, Network):
                seen = Seen(view.flatten(0, 1)[None], actions[:, places].view(1, -1), rewards[:, places].view(1, -1))
                logits, _, hidden[index] = mind(seen, hidden[index])
                chosen[:, places] = sample(logits, generator).view(worlds, -1)
            else:
                chosen[:, places] = mind(game, view, generator)
        record.out.append(state.out > 0)
        state, observations, rewards, _ = game.step(state, chosen, generator)
        actions = chosen
        record.rewards.append(rewards)
        record.apples.append(state.apples.sum(1))
    return Episode(*(torch.stack(column, -1) for column in record))
