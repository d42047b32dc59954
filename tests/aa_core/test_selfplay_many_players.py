from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Generator, Tensor
from torch.nn.functional import huber_loss

from aa_core.actor_critic import ActorCritic, Network, Seen, Spaces
from aa_core.advantages import aligned_advantages, naive_advantages
from aa_core.games.base import Game
from aa_core.games.harvest import ZAP, HarvestGame, collective_return, free_harvester, random_player
from aa_core.selfplay import Buffer, SelfPlay, Stage, Trajectory, begin, begin_anew, learn, play, seating, train

GAME = HarvestGame("orchard", horizon=10, window=(3, 1, 2))
NETWORK = Network(8, filters=4, feedback=True, shared=True)
SMALL = SelfPlay(NETWORK, updates=3, games=6, chunk=5, gamma=0.99, critic_lam=0.95, clip=0.2, max_gradient_norm=1e9)
PEACEFUL = partial(free_harvester, zap=False)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def mind_of(seed: int = 0) -> ActorCritic:
    return ActorCritic(Spaces.of(GAME), NETWORK, seeded(seed))


def stage_of(settings: SelfPlay = SMALL) -> Stage:
    stage = begin(GAME, settings.games, seeded(), settings.chunk)
    stage.hidden = torch.zeros(settings.games, GAME.num_players, NETWORK.hidden)
    stage.age = 5 * (torch.arange(settings.games) % 2)
    return stage


def rows_of(played: Trajectory) -> Seen:
    return Seen(*(x.flatten(1, 2) for x in played.seen))


def plain_sgd(mind: ActorCritic) -> torch.optim.SGD:
    return torch.optim.SGD([{"params": part} for part in mind.parts()], lr=1.0)


# --- worlds that live on


@torch.no_grad()
def test_chunks_of_a_game_are_the_game() -> None:
    # two chunks that follow each other are one play of twice the length, memory included
    mind, who = mind_of(), torch.zeros(6, 4).long()
    whole, generator, stage = play(GAME, [mind], who, seeded(5)), seeded(5), None
    stage = begin(GAME, 6, generator, 5)
    stage.hidden = torch.zeros(6, 4, NETWORK.hidden)
    parts = [play(GAME, [mind], who, generator, stage=stage) for _ in range(2)]
    torch.testing.assert_close(torch.cat([part.rewards for part in parts], -1), whole.rewards)
    torch.testing.assert_close(torch.cat([part.log_probs for part in parts], -1), whole.log_probs)
    for name in ("observations", "actions", "rewards"):
        first, second, all_of_it = (getattr(one.seen, name) for one in (*parts, whole))
        assert first[-1].equal(second[0])
        assert torch.cat([first[:-1], second]).equal(all_of_it)
    # the learning pass begins with what is remembered, and its last value is that of the next chunk's first look
    _, values = mind(rows_of(parts[0]), parts[0].hidden)
    _, following = mind(rows_of(parts[1]), parts[1].hidden)
    torch.testing.assert_close(values[-1], following[0])


def test_games_end_in_turn_and_begin_anew() -> None:
    stage, generator = stage_of(), seeded()
    play(GAME, [mind_of()], torch.zeros(6, 4).long(), generator, stage=stage)
    stage.age += 5
    stage.state = replace(stage.state, apples=torch.zeros_like(stage.state.apples))
    stage.hidden += 1
    stage.actions += 1
    before, old = stage.state.cell.clone(), stage.state
    begin_anew(GAME, stage, generator)
    assert stage.age.tolist() == [5, 0, 5, 0, 5, 0]
    for world in range(6):
        fresh = world % 2 == 1
        assert stage.state.apples[world].all() == fresh
        assert (stage.hidden[world] == 0).all() == fresh
        assert (stage.actions[world] == 0).all() == fresh
        assert fresh or stage.state.cell[world].equal(before[world])
    assert GAME.observe(stage.state)[1::2].equal(stage.observations[1::2])
    assert old.cell.equal(before)  # states are not changed in place


def test_training_plays_every_game_to_its_horizon_and_starts_it_anew() -> None:
    starts, states = [], []

    class Watched(HarvestGame):
        def reset(self, batch: int, generator: Generator | None = None) -> tuple:
            starts.append(batch)
            return super().reset(batch, generator)

    game = Watched("orchard", horizon=10, window=(3, 1, 2))
    train(game, replace(SMALL, updates=4), naive_advantages, 0, lambda n, mind, played: states.append(played.hidden))
    assert starts == [6, 3, 3, 3, 3]
    assert not states[0].any()
    # half of the games, in turn, begin with a memory of nothing
    assert [hidden.view(6, -1).any(1).tolist() for hidden in states[1:3]] == [[True, False] * 3, [False, True] * 3]
    with pytest.raises(ValueError, match="chunk must be a divisor of the horizon 10, got 4"):
        train(game, replace(SMALL, chunk=4), naive_advantages, 0)


# --- seats


def test_seats_of_the_past_are_played_by_the_past_and_seats_of_scripts_by_scripts() -> None:
    settings = replace(SMALL, buffer=Buffer(share=1.0, drawn=1), scripts=(PEACEFUL,))
    mind, past, stage, who = mind_of(), mind_of(1), stage_of(settings), seating(GAME, settings)
    with torch.no_grad():
        past.policy.bias[ZAP] += 50.0  # a past that only zaps
    played = play(GAME, [mind, past, PEACEFUL], who, seeded(), stage=stage)
    assert played.hidden.shape == (6 * 2, NETWORK.hidden)  # two learners
    assert (stage.actions[:, 2] == ZAP).all()
    assert not (stage.actions[:, 3] == ZAP).any()
    assert (stage.hidden[:, :2] != 0).any()
    assert not stage.hidden[:, 2:].any()  # other minds may sit there next time
    assert not played.log_probs[:, 3].any()


def test_free_riders_harvest_as_their_script() -> None:
    who = torch.tensor([[0, 0, 1, 1]] * 6)
    eaten = play(GAME, [mind_of(), PEACEFUL], who, seeded()).rewards.sum((0, 2))
    assert eaten[2:].min() > 2 * eaten[:2].max()  # who goes for apples gets more than who walks at random


def test_whoever_is_out_of_play_is_marked() -> None:
    states = []
    played = play(GAME, [random_player], torch.zeros(6, 4).long(), seeded(), lambda before, *_: states.append(before))
    assert played.active.equal(torch.stack([state.out == 0 for state in states], -1))
    assert not played.active.all()


# --- learning


@pytest.mark.parametrize("credit", [naive_advantages, partial(aligned_advantages, beta=0.4, gamma=0.9)])
def test_an_update_follows_the_clipped_gradient_of_those_in_play(credit: object) -> None:
    settings = replace(SMALL, entropy=0.02, critic_weight=0.5, scripts=(PEACEFUL,))
    mind, stage, who = mind_of(), stage_of(settings), seating(GAME, settings)
    play(GAME, [mind, PEACEFUL], who, seeded(), stage=stage)  # so that there is something to remember
    played = play(GAME, [mind, PEACEFUL], who, seeded(1), stage=stage)
    played = played._replace(active=torch.rand(6, 4, 5, generator=seeded()) < 0.5)

    expected, learners = deepcopy(mind), [world * 4 + seat for world in range(6) for seat in range(3)]
    hidden = torch.zeros(24, NETWORK.hidden)
    hidden[learners] = played.hidden
    logits, values = expected(rows_of(played), hidden)  # scripts' seats are valued by the learner's critic
    everybody = values.detach().T.view(6, 4, 6)
    advantages, targets = torch.zeros(6, 4, 5), torch.zeros(6, 4, 5)
    running = running_target = torch.zeros(6, 4)
    for t in reversed(range(5)):
        error = played.rewards[..., t] + 0.99 * everybody[..., t + 1] - everybody[..., t]
        running, running_target = error + 0.99 * 0.95 * running, error + 0.99 * 0.95 * running_target
        advantages[..., t], targets[..., t] = running, everybody[..., t] + running_target
    normal = (advantages - advantages.mean()) / advantages.std(correction=0)
    if credit is not naive_advantages:
        plain = normal.clone()
        for i in range(4):
            for t in range(5):
                past = sum(0.9 ** (t - k) * plain[:, i, k] for k in range(t))
                normal[:, i, t] = plain[:, i, t] + 0.4 * 0.9 * past * sum(plain[:, j, t] for j in range(4) if j != i)
    log_p = logits[:-1] - logits[:-1].logsumexp(-1, keepdim=True)
    taken = log_p.gather(-1, played.seen.actions[1:].flatten(1, 2)[..., None])[..., 0][:, learners]
    mask = played.active.flatten(0, 1).T[:, learners]
    policy = -(normal.flatten(0, 1).T[:, learners] * taken)[mask].mean()
    entropy = -(log_p.exp() * log_p).sum(-1)[:, learners].mean()
    critic = huber_loss(values[:-1, learners], targets.flatten(0, 1).T[:, learners])
    (policy + 0.5 * critic - 0.02 * entropy).backward()

    before = deepcopy(mind)
    learn([mind, PEACEFUL], who, played, plain_sgd(mind), settings, credit)
    for old, weight, reference in zip(before.parameters(), mind.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(old - weight, reference.grad, atol=1e-5, rtol=1e-3)


def test_the_same_seed_gives_the_same_agent_whatever_the_global_generator() -> None:
    settings = replace(SMALL, buffer=Buffer(share=1.0, drawn=1, every=1), scripts=(PEACEFUL,), epochs=2)
    runs = []
    for seed in (3, 3, 4):
        torch.rand(len(runs))
        runs.append(train(GAME, settings, naive_advantages, seed).state_dict())
    assert all(runs[0][name].equal(runs[1][name]) for name in runs[0])
    assert not all(runs[0][name].equal(runs[2][name]) for name in runs[0])


def test_trained_players_eat_more_than_random_ones() -> None:
    game = HarvestGame("pond", window=(3, 1, 2), horizon=20)
    network = Network(32, filters=8, feedback=True, shared=True)
    settings = replace(SMALL, network=network, updates=30, games=32, chunk=20, epochs=2, max_gradient_norm=0.5)
    mind = train(game, settings, naive_advantages, 0)

    def eaten(player: ActorCritic | object) -> float:
        return collective_return(play(game, [player], torch.zeros(64, 2).long(), seeded()).rewards).mean().item()

    assert eaten(mind) > 1.3 * eaten(random_player)


def test_everybody_can_be_somebody_else() -> None:
    def idle(game: Game, observations: Tensor, generator: Generator) -> Tensor:
        return torch.zeros(len(observations), dtype=torch.long)

    who = torch.tensor([[0, 1, 0, 2]] * 8)
    eaten = play(replace(GAME, horizon=15), [idle, free_harvester, mind_of()], who, seeded()).rewards.sum((0, 2))
    assert eaten[0] == eaten[2] == 0 < eaten[1]
