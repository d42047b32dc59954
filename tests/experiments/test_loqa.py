"""LOQA's loss against one that is differentiated through the co-player's softmax, with one-step errors for both."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from aa_core.actor_critic import ActorCritic, Network, Spaces
from aa_core.advantages import aligned_advantages
from aa_core.games.coin import CoinGame
from aa_core.games.harvest import HarvestGame
from aa_core.games.negotiation import NegotiationGame
from aa_core.objectives import magic_box
from aa_core.selfplay import Buffer, Trajectory, play
from experiments import loqa

GAMMA, FADE = 0.9, 0.8
GAME = CoinGame(horizon=6)
SETTINGS = loqa.Loqa(
    network=Network(hidden=8, feedback=True, shared=True), updates=4, games=4, gamma=GAMMA, lam=0.0, normalise=False,
    entropy=0.0, buffer=Buffer(drawn=2, every=1),
)  # fmt: skip
CREDIT = partial(aligned_advantages, beta=1 / FADE, gamma=FADE, loqa=True)


def minds(count: int, seed: int = 0) -> list[ActorCritic]:
    generator = torch.Generator().manual_seed(seed)
    made = [ActorCritic(Spaces.of(GAME), SETTINGS.network, generator) for _ in range(count)]
    with torch.no_grad():
        for mind in made:
            mind.policy.weight.mul_(10)
    return made


def stated(mind: ActorCritic, past: ActorCritic, who: Tensor, played: Trajectory, q: ActorCritic) -> Tensor:
    """-mean_t [log pi A + log softmax(Q of the co-player) A], game by game; only log pi moves."""
    total, count, horizon = torch.zeros(()), 0, GAME.horizon
    for game, seats in enumerate(who.tolist()):
        log_pis, values, action_values, actions = [], [], [], []
        for seat, holder in enumerate(seats):
            seen = played.seen.at(torch.tensor([2 * game + seat]), slice(horizon))
            taken = played.seen.actions[1:, game, seat]
            logits = [mind, past][holder].act(seen, None)[0][:, 0]
            q_values = q.act(seen, None)[0][:, 0].detach()
            log_pis.append(logits.log_softmax(-1)[torch.arange(horizon), taken])
            values.append((logits.softmax(-1) * q_values).sum(-1).detach())
            action_values.append(q_values)
            actions.append(taken)
        following = [torch.cat([value[1:], torch.zeros(1)]) for value in values]
        errors = [r + GAMMA * v1 - v for r, v, v1 in zip(played.rewards[game], values, following, strict=True)]
        for seat, holder in enumerate(seats):
            if holder:
                continue
            other, rewards = 1 - seat, played.rewards[game, 1 - seat]
            terms = log_pis[seat] * errors[seat]
            for t in range(horizon):
                later = range(t + 1, horizon)
                worth = sum(GAMMA ** (k - t) * rewards[k] for k in range(t, horizon))
                worth = worth + sum(
                    FADE ** (k - t) * (magic_box(log_pis[seat][k]) - 1) * errors[other][k] for k in later
                )
                entries = [worth if a == actions[other][t] else x for a, x in enumerate(action_values[other][t])]
                believed = torch.stack(entries).log_softmax(-1)[actions[other][t]]
                terms = terms + torch.nn.functional.one_hot(torch.tensor(t), horizon) * believed * errors[seat][t]
            total, count = total - terms.sum(), count + horizon
    return total / count


def gradients(loss: Tensor, mind: ActorCritic) -> list[Tensor]:
    used = [weight for name, weight in mind.named_parameters() if not name.startswith("value")]
    return list(torch.autograd.grad(loss, used))


def test_the_gradient_is_that_of_the_co_players_softmax() -> None:
    mind, past, q = minds(3)
    who = torch.tensor([[0, 0], [0, 1], [0, 0]])
    played = play(GAME, [mind, past], who, torch.Generator().manual_seed(1))
    assert (played.rewards != 0).any((1, 2)).sum() > 1
    ours = gradients(loqa.loqa_loss([mind, past], who, played, (q, q), SETTINGS, CREDIT), mind)
    expected = gradients(stated(mind, past, who, played, q), mind)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    assert max(gradient.abs().max() for gradient in ours) > 1e-3


def test_targets_are_the_reward_and_what_the_next_action_is_worth() -> None:
    mind, q, average = minds(3)
    who = torch.zeros(3, 2, dtype=torch.long)
    played = play(GAME, [mind], who, torch.Generator().manual_seed(0))
    _, targets, _, believed = loqa.action_values([mind], who, played, q, average, GAMMA)
    later = average.act(played.seen.at(slice(None), slice(GAME.horizon)), None)[0].detach()
    for row, (game, seat) in enumerate((game, seat) for game in range(3) for seat in range(2)):
        for t in range(GAME.horizon):
            last = t == GAME.horizon - 1
            worth = 0.0 if last else later[t + 1, row, played.seen.actions[t + 2, game, seat]].item()
            assert targets[game, seat, t].item() == pytest.approx(
                played.rewards[game, seat, t].item() + GAMMA * worth, abs=1e-6
            )
    assert ((believed > 0) & (believed < 1)).all()


def test_a_training_is_its_seeds_and_moves_actor_and_values() -> None:
    seen: list[int] = []
    one = loqa.train(GAME, SETTINGS, CREDIT, 3, on_update=lambda number, *_: seen.append(number), progress=False)
    again, other = (loqa.train(GAME, SETTINGS, CREDIT, seed, progress=False) for seed in (3, 4))
    assert seen == [0, 1, 2, 3]
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(one.policy.weight, other.policy.weight)
    stopped = loqa.train(GAME, SETTINGS, CREDIT, 3, on_update=lambda number, *_: number == 1, progress=False)
    assert not torch.equal(one.policy.weight, stopped.policy.weight)


def test_the_entropy_bonus_lowers_the_loss() -> None:
    mind, q = minds(2)
    with torch.no_grad():
        mind.policy.weight.zero_()
        mind.policy.bias.zero_()
    who = torch.zeros(3, 2, dtype=torch.long)
    played = play(GAME, [mind], who, torch.Generator().manual_seed(0))
    plain, bonus = (
        loqa.loqa_loss([mind], who, played, (q, q), replace(SETTINGS, entropy=weight), CREDIT) for weight in (0.0, 0.5)
    )
    assert (plain - bonus).item() == pytest.approx(0.5 * math.log(GAME.num_actions), rel=1e-4)


def test_after_the_last_update_of_the_buffer_no_snapshot_is_taken() -> None:
    settings = replace(SETTINGS, updates=3, learning_rate=0.1)
    stopped, seldom, often = (
        parameters_to_vector(loqa.train(GAME, replace(settings, buffer=buffer), CREDIT, 3).parameters())
        for buffer in (Buffer(drawn=2, every=1, until=1), Buffer(drawn=2, every=3), Buffer(drawn=2, every=1))
    )
    assert torch.equal(stopped, seldom)  # both hold the first mind alone
    assert not torch.equal(stopped, often)


def weights(settings: loqa.Loqa, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Those of the learner, the Q network and its moving average before each update of a training."""
    kept, loss = [], loqa.loqa_loss

    def watched(minds, who, played, networks, *rest):
        kept.append(tuple(parameters_to_vector(part.parameters()).detach() for part in (minds[0], *networks)))
        return loss(minds, who, played, networks, *rest)

    monkeypatch.setattr(loqa, "loqa_loss", watched)
    loqa.train(GAME, settings, CREDIT, 3)
    return kept


def test_targets_come_from_a_moving_average_that_keeps_a_share_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = weights(replace(SETTINGS, target_decay=0.9, critic_learning_rate=0.1), monkeypatch)
    for (_, _, before), (_, network, after) in pairwise(kept):
        torch.testing.assert_close(after, 0.9 * before + 0.1 * network)


def test_actor_and_q_network_learn_at_their_own_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *_ = weights(replace(SETTINGS, learning_rate=1e-2, critic_learning_rate=1e-3), monkeypatch)
    actor, network = ((after - before).abs().max().item() for before, after in zip(first[:2], second[:2], strict=True))
    assert (actor, network) == pytest.approx((1e-2, 1e-3), rel=0.01)  # the first step of Adam


@pytest.mark.parametrize("game", [HarvestGame(), NegotiationGame()])
def test_other_games_are_refused(game: HarvestGame | NegotiationGame) -> None:
    with pytest.raises(ValueError, match="game must have two players and discrete actions"):
        loqa.train(game, SETTINGS, CREDIT, 0)
