"""One trajectory, any credit rule: every trainer multiplies grad log pi by the same numbers.

The trainers differ in how they play and in how they estimate advantages. Here all are given the same games, with
advantages that they agree on (returns less the leave-one-out mean of the batch), and what is compared is the weight of
each player's grad log pi(a_t|s_t) in the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from aa_core.actor_critic import ActorCritic, Seen, Spaces
from aa_core.advantages import (
    CreditRule,
    aligned_advantages,
    discounted_returns,
    group_baseline,
    naive_advantages,
    shaping_weights,
    summed_advantages,
)
from aa_core.llm import trainer as llm
from aa_core.llm.players import ModelPlayer
from aa_core.llm.rollout import Transcript
from aa_core.selfplay import SelfPlay, Trajectory, learn
from aa_core.tabular import tabular_loss

GAMMA = 0.9


def only_a_good_past(advantages: Tensor, probabilities: Tensor | None = None) -> Tensor:
    """A rule that nobody here knows."""
    others = advantages.sum(-2, keepdim=True) - advantages
    return advantages + 0.5 * shaping_weights(advantages, GAMMA).clamp(min=0) * others


ALIGNED = partial(aligned_advantages, beta=0.7, gamma=GAMMA)
RULES: dict[str, CreditRule] = {
    "naive": naive_advantages,
    "summed": summed_advantages,
    "aligned": ALIGNED,
    "just in time": partial(ALIGNED, include_current=True),
    "averaged": partial(ALIGNED, past="averaged"),
    "regularised, mean": partial(ALIGNED, past="regularised", over="mean"),
    "product": partial(ALIGNED, over="product"),
    "loqa": partial(ALIGNED, loqa=True),
    "loqa, averaged, mean": partial(ALIGNED, loqa=True, past="averaged", over="mean"),
    "only a good past": only_a_good_past,
}


@dataclass
class Games:
    """What was played: every tensor `(games, players, time)`; the actions are 0 and 1."""

    rewards: Tensor
    logits: Tensor  # of action 0
    actions: Tensor

    @property
    def log_probs(self) -> Tensor:
        return nn.functional.logsigmoid(torch.where(self.actions == 0, self.logits, -self.logits))

    @property
    def baseline(self) -> Tensor:
        """Leave-one-out mean of the returns, a player's own, `(games, players, time)`."""
        returns = discounted_returns(self.rewards, GAMMA)
        return torch.stack([group_baseline(of_player) for of_player in returns.unbind(1)], 1)

    @property
    def advantages(self) -> Tensor:
        return discounted_returns(self.rewards, GAMMA) - self.baseline


def drawn(games: int, players: int, time: int, seed: int) -> Games:
    generator = torch.Generator().manual_seed(seed)
    rewards, logits = torch.randn(2, games, players, time, generator=generator, dtype=torch.float64)
    return Games(rewards, logits, torch.randint(2, rewards.shape, generator=generator))


def of_the_rule(played: Games, rule: CreditRule) -> Tensor:
    return rule(played.advantages, played.log_probs.exp())


def of_tables(played: Games, rule: CreditRule) -> Tensor:
    """Weights in the loss of tables, whose axes are seeds, players, games and time."""
    log_probs, advantages = (x.transpose(0, 1)[None] for x in (played.log_probs, played.advantages))
    log_probs = log_probs.clone().requires_grad_()
    loss = tabular_loss(log_probs, advantages, rule, normalise=False)
    mean = len(played.rewards) * played.rewards.shape[-1]  # over games and time
    return -torch.autograd.grad(loss, log_probs)[0][0].transpose(0, 1) * mean


class Stored(ActorCritic):
    """An actor-critic that says what it was told: logits, which it learns, and the baseline as values."""

    def __init__(self, played: Games) -> None:
        nn.Module.__init__(self)
        self.spaces = Spaces((), 2, None)
        self.logits = nn.Parameter(played.logits.flatten(0, 1).T.float())  # (T, rows)
        self.baseline = played.baseline.flatten(0, 1).T.float()

    def forward(self, seen: Seen, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return torch.stack([self.logits, torch.zeros_like(self.logits)], -1), self.baseline


def of_actor_critics(played: Games, rule: CreditRule) -> Tensor:
    """Weights in an update of self-play in which one mind holds all seats, by the step that it takes."""
    mind, (games, players, time) = Stored(played), played.rewards.shape
    actions = nn.functional.pad(played.actions.permute(2, 0, 1), (0, 0, 0, 0, 1, 0))  # those of step t at t + 1
    nothing = torch.zeros(time + 1, games, players)
    trajectory = Trajectory(
        played.rewards.float(), played.log_probs.float(), None, Seen(nothing, actions, nothing), None
    )
    settings = SelfPlay(gamma=GAMMA, lam=1.0, normalise=False, entropy=0.0, max_gradient_norm=float("inf"))
    before = mind.logits.detach().clone()
    optimizer = torch.optim.SGD([{"params": [mind.logits]}], lr=1.0)
    learn([mind], torch.zeros(games, players, dtype=torch.long), trajectory, optimizer, settings, rule)
    slope = (before - mind.logits.detach()).T.unflatten(0, (games, players)).double()
    by_logit = torch.where(played.actions == 0, 1.0, -1.0) * (1 - played.log_probs.exp())  # d log pi / d logit
    return -slope * played.rewards.numel() / by_logit


class Chats(ModelPlayer):
    """A model that has written one token a round, with the log-probabilities that it was told."""

    def __init__(self, log_probs: Tensor) -> None:
        self.log_probs = log_probs

    def transcript(self, game: SimpleNamespace, player: int) -> Transcript:
        chat = Transcript()
        for index, log_prob in enumerate(self.log_probs[game.number, player].tolist()):
            chat.add([7, 7], index)  # what the game says
            chat.add([1], index, log_prob)
        return chat


def of_language_models(played: Games, rule: CreditRule, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Weights of the tokens that are sampled, in a batch of the language-model trainer, which has played already."""
    monkeypatch.setattr(llm, "play", lambda games, players: None)
    learner = Chats(played.log_probs)
    games = [
        SimpleNamespace(number=number, seed=0, rounds=rewards.shape[-1], rewards=rewards.T.tolist())
        for number, rewards in enumerate(played.rewards)
    ]

    def deal(seeds: Sequence[int], player: ModelPlayer) -> list[llm.Table]:
        return [llm.Table(game, (player, player), (0, 1)) for game in games]

    class Trainer(llm.AdvantageAlignmentTrainer):
        __init__ = object.__init__

    trainer = Trainer()
    trainer.args = SimpleNamespace(
        learning_seats="both", baseline="batch", gamma=GAMMA, reward_scale=1.0, num_generations=2, seed=0
    )
    trainer.rng, trainer.generator, trainer.state = Random(), torch.Generator(), SimpleNamespace(global_step=0)
    trainer.accelerator = SimpleNamespace(device="cpu", gather=lambda x: x, process_index=0)
    trainer.credit, trainer.use_vllm = rule, False
    trainer._deal, trainer._record = deal, lambda tables: None
    trainer._player = lambda adapter=None, engine=None: learner
    samples = trainer.play_batch([0] * 2 * len(games))
    rows = [[c for c, m in zip(s.credits, s.chat.mask, strict=True) if m] for s in samples]
    assert all(c == 0 for s in samples for c, m in zip(s.credits, s.chat.mask, strict=True) if not m)
    return torch.tensor(rows, dtype=torch.float64).view_as(played.rewards)


def agree(one: Tensor, other: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


every_trajectory = given(st.sampled_from(list(RULES)), st.integers(2, 4), st.integers(1, 6), st.integers(0, 1000))


@every_trajectory
def test_two_players_have_the_credit_of_the_rule_in_every_trainer(name: str, games: int, time: int, seed: int) -> None:
    played, rule = drawn(games, 2, time, seed), RULES[name]
    expected = of_the_rule(played, rule)
    agree(of_tables(played, rule), expected, 1e-10)
    agree(of_actor_critics(played, rule), expected, 1e-3)  # in single precision
    with pytest.MonkeyPatch.context() as monkeypatch:
        agree(of_language_models(played, rule, monkeypatch), expected, 1e-10)


@every_trajectory
def test_seven_players_have_the_credit_of_the_rule_in_every_trainer(
    name: str, games: int, time: int, seed: int
) -> None:
    played, rule = drawn(games, 7, time, seed), RULES[name]
    expected = of_the_rule(played, rule)
    agree(of_tables(played, rule), expected, 1e-10)
    agree(of_actor_critics(played, rule), expected, 1e-3)


@pytest.mark.parametrize("of_trainer", [of_tables, of_actor_critics])
def test_rules_differ(of_trainer: Callable[[Games, CreditRule], Tensor]) -> None:
    played = drawn(4, 7, 6, seed=0)
    weights = [of_trainer(played, rule) for rule in RULES.values()]
    assert all(not torch.allclose(x, y, atol=0.01) for i, x in enumerate(weights) for y in weights[:i])
