"""Seconds per update of self-play, and game steps per second, on one and on two threads.

A game step moves all players; an update plays a batch of games and trains on the learner's seats. Torch's threads are a
parameter here, and are put back afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from aa_core.actor_critic import ActorCritic, Network, Spaces
from aa_core.advantages import aligned_advantages
from aa_core.games.base import Game
from aa_core.games.coin import CoinGame
from aa_core.games.harvest import HarvestGame
from aa_core.games.negotiation import NegotiationGame
from aa_core.selfplay import Buffer, SelfPlay, adam, begin, learn, play, seating, step
from experiments.lola import Lola, lola_loss

PLAIN = SelfPlay()
COMMONS = SelfPlay(
    Network(64, feedback=True, shared=True), games=32, chunk=50, gamma=0.99, clip=0.2, epochs=2,
    buffer=Buffer(share=1.0, seats=2, drawn=1),
)  # fmt: skip
UPDATES: dict[str, tuple[Game, SelfPlay]] = {
    "coin, 256 games, 64 wide": (CoinGame(), PLAIN),
    "coin, 512 games, 128 wide": (CoinGame(), replace(PLAIN, games=512, network=Network(128))),
    "coin, 8 snapshots": (CoinGame(), replace(PLAIN, buffer=Buffer(drawn=8))),
    "coin, 2 snapshots": (CoinGame(), replace(PLAIN, buffer=Buffer(drawn=2))),
    "coin, PPO": (CoinGame(), replace(PLAIN, clip=0.2, epochs=2)),
    "negotiation": (NegotiationGame(), PLAIN),
    "harvest, orchard": (HarvestGame("orchard", 7, 1000, (5, 1, 3)), COMMONS),
}


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", UPDATES)
def test_update(benchmark: BenchmarkFixture, threads: int, name: str) -> None:
    game, settings = UPDATES[name]
    generator, who = torch.Generator().manual_seed(0), seating(game, settings)
    minds = [ActorCritic(Spaces.of(game), settings.network, generator) for _ in range(int(who.max()) + 1)]
    optimizer, stage = adam(minds[0], settings.learning_rate, settings.critic_learning_rate), None
    if settings.chunk is not None:
        stage = begin(game, settings.games, generator, settings.chunk)
        stage.hidden = torch.zeros(*who.shape, settings.network.hidden)
    credit = partial(aligned_advantages, beta=0.1, gamma=settings.gamma)

    def update() -> None:
        learn(minds, who, play(game, minds, who, generator, stage=stage), optimizer, settings, credit)

    benchmark.pedantic(update, rounds=5, warmup_rounds=1)
    steps = settings.games * (settings.chunk or game.horizon)
    benchmark.extra_info["game_steps_per_second"] = steps / benchmark.stats["median"]


def test_lola_update(benchmark: BenchmarkFixture, threads: int) -> None:
    game, settings, generator = CoinGame(), Lola(), torch.Generator().manual_seed(0)
    mind = ActorCritic(Spaces.of(game), settings.network, generator)
    optimizer = adam(mind, settings.learning_rate, settings.critic_learning_rate)

    def update() -> None:
        lola_loss(game, mind, settings, generator)[0].backward()
        step(optimizer, settings.max_gradient_norm)

    benchmark.pedantic(update, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("game", [CoinGame(), NegotiationGame()], ids=["coin", "negotiation"])
def test_play_without_networks(benchmark: BenchmarkFixture, threads: int, game: Game) -> None:
    batch, generator = 4096, torch.Generator().manual_seed(0)
    low, high = (0, game.num_actions) if game.num_actions is not None else game.action_bounds

    def stroll(game: Game, observations: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        shape = (len(observations), *(game.action_shape if game.num_actions is None else ()))
        drawn = low + (high - low) * torch.rand(shape, generator=generator)
        return drawn if game.num_actions is None else drawn.long()

    who = torch.zeros(batch, 2, dtype=torch.long)
    benchmark.pedantic(play, (game, [stroll], who, generator), rounds=5, warmup_rounds=1)
    benchmark.extra_info["game_steps_per_second"] = batch * game.horizon / benchmark.stats["median"]
