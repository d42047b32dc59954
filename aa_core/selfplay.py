"""Self-play of actor-critics: any number of players, past selves, scripts, one loop.

An update plays games and learns from them once (or `epochs` times). Every seat is held by a mind: the network that
learns, a past snapshot of it (the agent buffer) or a script. Only the learner's seats are trained, but everybody's
advantages, each by its own critic, enter the credit. What makes an algorithm is the credit, an argument.

Games either begin anew with every update, or they live on: then an update plays a chunk of steps in each, and only then
does a game whose horizon is over begin anew, the games in turn, so that every batch holds young and old ones. Sums over
the past begin anew with every chunk, as in the authors' code for Melting Pot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import huber_loss
from torch.optim import Adam
from tqdm.auto import tqdm

from aa_core import HEADLESS
from aa_core.actor_critic import ActorCritic, Network, Seen, Spaces
from aa_core.advantages import CreditRule, gae, group_relative_advantages, naive_advantages
from aa_core.checks import check, check_fields, check_shape, check_that
from aa_core.games.base import Game
from aa_core.objectives import policy_gradient_loss, proximal_loss

Mind = ActorCritic | Callable[[Game, Tensor, Generator], Tensor]  # a network, or a script


@dataclass(frozen=True)
class Buffer:
    """Past snapshots of the learner as co-players: the agent buffer of AA and LOQA."""

    share: float = 0.5  # of the games in which they play, the last ones
    seats: int = 1  # which they hold there, the last ones that no script holds
    drawn: int = 8  # snapshots drawn per update, which split those games evenly
    every: int = 10  # updates between two snapshots
    until: int | None = None  # updates after which none is taken; None: to the end
    capacity: int = 1000  # snapshots kept, the latest ones

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class SelfPlay:
    """Settings of self-play. The defaults train agents of the 3 x 3 Coin Game within minutes on one CPU thread."""

    network: Network = field(default_factory=Network)
    updates: int = 300
    games: int = 256  # per update
    chunk: int | None = None  # steps per update of games that live on; None: whole games, which begin with the update
    gamma: float = 0.96  # discount of returns
    lam: float = 0.95  # of the advantages' GAE
    critic_lam: float = 1.0  # of the critic's targets, values + GAE; 1: discounted returns
    batch_baseline: bool = False  # advantages without the critic: returns minus their mean over the seats of a mind
    normalise: bool = True  # advantages to mean 0 and deviation 1, before they are combined
    greedy_updates: int = 0  # first updates with naive credit, so that the agent buffer holds greedy agents to meet
    entropy: float = 0.05  # weight of the entropy bonus, in nats per step
    clip: float | None = None  # of the probability ratio (PPO); None: the plain policy gradient
    epochs: int = 1  # passes over a batch
    learning_rate: float = 3e-3  # of Adam, actor
    critic_learning_rate: float = 3e-3  # of Adam, critic; of its head only if the trunk is shared
    critic_weight: float = 1.0  # of the critic's Huber loss
    max_gradient_norm: float = 1.0  # actor and critic apart; math.inf: no clipping
    buffer: Buffer | None = None
    scripts: tuple[Callable[[Game, Tensor, Generator], Tensor], ...] = ()  # hold the last seats
    script_share: float = 1.0  # of the games in which they do, the first ones; the buffer plays as if it were 1

    def __post_init__(self) -> None:
        check_fields(self)
        able = self.chunk is None or self.network.shared  # a critic's own trunk remembers no former chunk
        check_that(able, "network", "of a shared trunk if games live on", self.network)


@dataclass
class Stage:
    """Where a batch of games stands between two calls of `play`, which moves it on."""

    steps: int  # that a call plays
    state: Any
    observations: Tensor  # (games, players, *obs_shape)
    actions: Tensor  # (games, players), or (games, players, items) before squashing, of the step before; first 0
    rewards: Tensor  # (games, players) of the step before; first 0
    hidden: Tensor | None = None  # (games, players, H) of the seats of the first mind; None: zeros
    age: Tensor | None = None  # (games,) steps played


class Trajectory(NamedTuple):
    """What was played in T steps."""

    rewards: Tensor  # (games, players, T)
    log_probs: Tensor  # (games, players, T) of the actions taken; 0 for scripts, who are sure of what they do
    active: Tensor | None  # (games, players, T) bool: whose actions count; None: everybody's
    seen: Seen  # (T + 1, games, players, ...) time first; the actions of step t are its `actions[t + 1]`
    hidden: Tensor | None  # (rows, H) of the first mind's seats before the first step


OnUpdate = Callable[[int, ActorCritic, Trajectory], bool | None] | None


def begin(game: Game, games: int, generator: Generator | None, steps: int | None = None) -> Stage:
    """New games, of which `play` plays so many steps (None: all)."""
    check(game=game)
    steps = game.horizon if steps is None else steps
    check(games=games, generator=generator, steps=steps)
    state, observations = game.reset(games, generator)
    rewards = torch.zeros(observations.shape[:2])
    actions = rewards.long() if game.num_actions is not None else rewards.new_zeros(*rewards.shape, *game.action_shape)
    return Stage(steps, state, observations, actions, rewards)


def seats_of(who: Tensor, minds: int) -> dict[int, Tensor | slice]:
    """The seats of each mind that holds any, as indices into (games, players) flattened; a slice if it holds all."""
    check_that(isinstance(minds, int) and minds > 0, "minds", "a positive integer", minds)
    check_shape((None, None), (0, minds - 1), True, who=who)
    held = {mind: (who.flatten() == mind).nonzero()[:, 0] for mind in who.unique().tolist()}
    return held if len(held) > 1 else {mind: slice(None) for mind in held}


@torch.no_grad()
def play(
    game: Game, minds: Sequence[Mind], who: Tensor, generator: Generator | None, on_step: Callable[[Any, Tensor, Tensor,
    Any], None] | None = None, stage: Stage | None = None,
) -> Trajectory:  # fmt: skip
    """Play a batch of games with any minds in any seats: `who` `(games, players)` are indices into `minds`.

    Args:
        game: any game of tensors; its method `active(state)`, if it has one, tells whose actions count.
        minds: networks, and scripts (game, observations `(seats, *obs_shape)`, generator) -> actions `(seats, ...)`.
        who: whose mind holds a seat; ValueError for a mind that is not there.
        generator: of games and actions.
        on_step: called after every step with the state before it, the actions `(games, players, ...)` as the game was
            told, the rewards `(games, players)` and the state after it.
        stage: games to go on with, which is changed; the first mind remembers what it has seen before, the others begin
            with this call. None: new games, to their horizon.
    """
    check(game=game, minds=minds, on_step=on_step)
    check_shape((None, game.num_players), (0, len(minds) - 1), True, who=who)
    stage = begin(game, len(who), generator) if stage is None else stage
    check(stage=stage)
    spaces, shape, seats = Spaces.of(game), who.shape, seats_of(who, len(minds))
    scripts = [index for index in seats if not isinstance(minds[index], ActorCritic)]
    outputs = torch.zeros(stage.steps, who.numel(), spaces.choices * (1 if spaces.bounds is None else 2))
    memories = {} if stage.hidden is None else {0: stage.hidden.flatten(0, 1)[seats[0]]}
    start, active, seen = memories.get(0), [], [(stage.observations, stage.actions, stage.rewards)]
    for step in range(stage.steps):
        now = Seen(*(x[None] for x in seen[-1]))
        for index in seats.keys() - scripts:
            looks = now.at(seats[index])
            outputs[step, seats[index]], memories[index] = minds[index].act(looks, memories.get(index))
        drawn = spaces.draw(outputs[step], generator)
        told = spaces.to_game(drawn)
        for index in scripts:
            looks = now.at(seats[index]).observations[0]
            drawn[seats[index]] = told[seats[index]] = minds[index](game, looks, generator)
        before, told = stage.state, told.unflatten(0, shape)
        if hasattr(game, "active"):
            active.append(game.active(before))
        stage.state, observations, rewards, _ = game.step(before, told, generator)
        seen.append((observations, drawn.unflatten(0, shape), rewards))
        if on_step is not None:
            on_step(before, told, rewards, stage.state)
    stage.observations, stage.actions, stage.rewards = seen[-1]
    if stage.hidden is not None:
        stage.hidden = torch.zeros_like(stage.hidden)  # not in place: the record's may be a view of the former one
        stage.hidden.flatten(0, 1)[seats[0]] = memories[0]
    record = Seen(*(torch.stack(column) for column in zip(*seen, strict=True)))
    log_probs = spaces.log_probs(outputs, record.actions[1:].flatten(1, 2))
    for index in scripts:
        log_probs[:, seats[index]] = 0.0
    rewards, log_probs = record.rewards[1:].permute(1, 2, 0), log_probs.unflatten(1, shape).permute(1, 2, 0)
    return Trajectory(rewards.contiguous(), log_probs, torch.stack(active, -1) if active else None, record, start)


def begin_anew(game: Game, stage: Stage, generator: Generator | None) -> None:
    """Replace the games whose horizon is over, in place."""
    check(game=game, generator=generator, stage=stage)
    over = stage.age >= game.horizon
    if not over.any():
        return
    fresh, stage.observations[over] = game.reset(int(over.sum()), generator)
    began = {name: new for name, new in vars(fresh).items() if isinstance(new, Tensor)}
    tensors = {name: getattr(stage.state, name).index_put((over,), new) for name, new in began.items()}
    stage.state = replace(fresh, **tensors)
    for held in (stage.actions, stage.rewards, stage.hidden, stage.age):
        held[over] = 0


def seating(game: Game, settings: SelfPlay) -> Tensor:
    """`who` of a training: 0 the learner, then the snapshots drawn from the buffer, then the scripts.

    ValueError if no seat is left to the learner, or if there are more snapshots than games that they could split.
    """
    check(game=game, settings=settings)
    who = torch.zeros(settings.games, game.num_players, dtype=torch.long)
    buffer, scripts, players = settings.buffer, len(settings.scripts), game.num_players
    free, held, drawn = players - scripts, buffer.seats if buffer else 0, buffer.drawn if buffer else 0
    check_that(held < free, "buffer and scripts", f"such that the learner has a seat of {players}", (held, scripts))
    if buffer is not None:
        each, share = int(buffer.share * settings.games) // drawn, buffer.share
        check_that(each, "share", f"enough for a game of {settings.games} for each of {drawn} snapshots", share)
        who[-each * drawn :, free - held : free] = 1 + torch.arange(drawn).repeat_interleave(each)[:, None]
    who[: round(settings.script_share * settings.games), free:] = 1 + drawn + torch.arange(scripts)
    return who


@torch.no_grad()
def credits(
    minds: Sequence[Mind], who: Tensor, played: Trajectory, values: Tensor, settings: SelfPlay, credit: CreditRule
) -> tuple[Tensor, Tensor]:
    """Credits and the critics' targets, both `(games, players, T)`, of what `minds` and `who` played.

    `values` `(T, seats)`, or `(T + 1, seats)` if something comes after, are those of the first mind's seats by its
    critic; snapshots are valued by their own critics, scripts by that of the first mind.
    """
    check(minds=minds, credit=credit, settings=settings, played=played)
    check_shape(played.rewards.shape[:2], (0, len(minds) - 1), True, who=who)
    check_shape((None, int((who == 0).sum())), values=values)
    known, everybody = len(values), torch.zeros(played.rewards.shape[-1] + 1, who.numel())
    for index, held in seats_of(who, len(minds)).items():
        critic = minds[index] if isinstance(minds[index], ActorCritic) else minds[0]
        everybody[:known, held] = critic.values(played.seen.at(held, slice(known))) if index else values
    everybody = everybody.T.unflatten(0, who.shape)
    advantages = gae(played.rewards, everybody, settings.gamma, settings.lam)
    if settings.batch_baseline:
        rewards = played.rewards.flatten(0, 1)
        advantages = group_relative_advantages(rewards, settings.gamma, who.flatten()).view_as(advantages)
    targets = everybody[..., :-1] + gae(played.rewards, everybody, settings.gamma, settings.critic_lam)
    if settings.normalise:
        advantages = (advantages - advantages.mean()) / advantages.std(correction=0).clamp(min=1e-6)
    discrete = minds[0].spaces.bounds is None  # densities are no probabilities
    return credit(advantages, played.log_probs.exp() if discrete else None), targets


def learn(
    minds: Sequence[Mind], who: Tensor, played: Trajectory, optimizer: Adam, settings: SelfPlay, credit: CreditRule
) -> None:
    """Train the first mind, an actor-critic, on what was played; `optimizer` has its `parts` as groups."""
    check(minds=minds, credit=credit, settings=settings, played=played)
    check_shape(played.rewards.shape[:2], (0, len(minds) - 1), True, who=who)
    mind, time, own = minds[0], played.rewards.shape[-1], seats_of(who, len(minds))[0]

    def of_rows(x: Tensor) -> Tensor:
        """`(games, players, T)` to `(T, rows)`."""
        return x.flatten(0, 1)[own].T

    rows = played.seen.at(own, slice(time if settings.chunk is None else time + 1))  # nothing comes after an end
    actions = played.seen.at(own, slice(1, None)).actions
    active = None if played.active is None else of_rows(played.active)
    for epoch in range(settings.epochs):
        outputs, values = mind(rows, played.hidden)  # type: ignore[arg-type, call-arg]
        if epoch == 0:
            credit_of_rows, targets = map(of_rows, credits(minds, who, played, values, settings, credit))
        log_probs = mind.spaces.log_probs(outputs[:time], actions)
        if settings.clip is None:
            loss = policy_gradient_loss(log_probs, credit_of_rows, active)
        else:
            loss = proximal_loss(log_probs, of_rows(played.log_probs), credit_of_rows, settings.clip, active)
        loss = loss + settings.critic_weight * huber_loss(values[:time], targets)
        (loss - settings.entropy * mind.spaces.entropies(outputs[:time], actions).mean()).backward()
        step(optimizer, settings.max_gradient_norm)


def adam(mind: ActorCritic, learning_rate: float, critic_learning_rate: float) -> Adam:
    """Adam with the actor's and the critic's parameters as its groups."""
    check(mind=mind, learning_rate=learning_rate, critic_learning_rate=critic_learning_rate)
    rates = zip(mind.parts(), (learning_rate, critic_learning_rate), strict=True)
    return Adam([{"params": part, "lr": rate} for part, rate in rates], fused=True)


def step(optimizer: Adam, max_gradient_norm: float) -> None:
    """Clip the gradient of each group of parameters, and apply it."""
    check(max_gradient_norm=max_gradient_norm, optimizer=optimizer)
    for group in optimizer.param_groups:
        nn.utils.clip_grad_norm_(group["params"], max_gradient_norm)
    optimizer.step()
    optimizer.zero_grad()


def train(
    game: Game, settings: SelfPlay, credit: CreditRule, seed: int, on_update: OnUpdate = None, progress: bool = True
) -> ActorCritic:
    """Train one agent by self-play in a game of any number of players, all randomness from `seed`.

    `credit` makes the algorithm (see `advantages.CreditRule`), `settings` are all the rest; ValueError if they do not
    fit the game. In every update, when its games are played and before they are learned from, `on_update` is called
    with its number from 0, the learner that played them and what was played; if it returns True, training is over.
    """
    check(game=game, credit=credit, seed=seed, on_update=on_update, settings=settings)
    fits = settings.chunk is None or not game.horizon % settings.chunk
    check_that(fits, "chunk", f"a divisor of the horizon {game.horizon}", settings.chunk)
    who = seating(game, settings)
    generator = torch.Generator().manual_seed(seed)
    mind = ActorCritic(Spaces.of(game), settings.network, generator)
    optimizer = adam(mind, settings.learning_rate, settings.critic_learning_rate)
    snapshots: deque[dict[str, Tensor]] = deque(maxlen=settings.buffer.capacity if settings.buffer else 0)
    past = [deepcopy(mind) for _ in range(settings.buffer.drawn if settings.buffer else 0)]
    minds, stage, buffer = [mind, *past, *settings.scripts], None, settings.buffer
    if settings.chunk is not None:
        stage = begin(game, settings.games, generator, settings.chunk)
        stage.hidden = torch.zeros(*who.shape, settings.network.hidden)
        stage.age = settings.chunk * (torch.arange(settings.games) % (game.horizon // settings.chunk))  # end in turn
    for number in tqdm(range(settings.updates), disable=HEADLESS or not progress, leave=False):
        if past:
            if number % buffer.every == 0 and (buffer.until is None or number < buffer.until):
                snapshots.append(deepcopy(mind.state_dict()))
            for one, drawn in zip(past, torch.randint(len(snapshots), (len(past),), generator=generator), strict=True):
                one.load_state_dict(snapshots[drawn])
        played = play(game, minds, who, generator, stage=stage)
        if stage is not None:
            stage.age += settings.chunk
            begin_anew(game, stage, generator)
        if on_update is not None and on_update(number, mind, played):
            break
        learn(minds, who, played, optimizer, settings, naive_advantages if number < settings.greedy_updates else credit)  # type: ignore[arg-type]
    return mind
