"""Every public function refuses odd input by the argument's name; see `odd_input`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from odd_input import Call, fresh, generator, listed, modules, public_names, rng, walk

import aa_core
from aa_core import (
    actor_critic,
    advantages,
    estimates,
    exact,
    games,
    league,
    objectives,
    policies,
    selfplay,
    tabular,
)  # fmt: skip
from aa_core.actor_critic import ActorCritic, Network, Spaces
from aa_core.games import base, coin, harvest, matrix, negotiation, pettingzoo, text
from aa_core.games.text import ipd, split, trust_and_split

EXEMPT = {
    "checks.*": "the vocabulary itself",
    "files.write_whole": "called with paths that were checked",
    "games.base.Game*": "the protocol of games",
    "games.coin.CoinState": (
        record := "a record that holds what a function returns; of one that is handed on, such as the state of another "
        "game, only an attribute is looked at until the next training"
    ),
    "games.harvest.HarvestState": record,
    "games.matrix.MatrixState": record,
    "games.negotiation.NegotiationState": record,
    "games.text.base.Turn": record,
    "games.text.base.ParseError*": record,
    "estimates.Estimate": record,
    "estimates.Statistic": record,
    "exact.Chain": record,
    "selfplay.Stage": record,
    "selfplay.Trajectory": record,
    "tabular.History": record,
    "tabular.Trajectories": record,
    "actor_critic.Seen*": record,
    "actor_critic.Spaces": "made by `Spaces.of`",
    "actor_critic.Trunk*": (inner := "called in every step of play and learn, which check what they are given"),
    "actor_critic.Spaces.draw": inner,
    "actor_critic.Spaces.to_game": inner,
    "actor_critic.Spaces.log_probs": inner,
    "actor_critic.Spaces.entropies": inner,
    "actor_critic.ActorCritic.act": inner,
    "actor_critic.ActorCritic.values": inner,
    "actor_critic.ActorCritic.forward": inner,
    "actor_critic.ActorCritic.parts": (nothing := "takes nothing"),
    "estimates.Statistic.interval": nothing,
    "games.matrix.MatrixGame.swapped": nothing,
    "games.matrix_names": nothing,
    "games.names": nothing,
    "games.text.base.TextGame.turns": nothing,
    "games.text.base.TextGame": "abstract; its games are tried",
    "games.text.*.parse": "read by submit and problem, which check the reply",
    "games.text.*.parse_*": "the same",
    "games.text.*.recap": "told by news, which checks the player",
    "games.text.*.upper": "reads a list of rounds, as Python does",
    "games.text.*.cooperate": (script := "a TextScript: called for the awaited players of the game that it is for"),
    "games.text.*.defect": script,
    "games.text.*.tit_for_tat": script,
    "games.text.*.at_random": script,
    "games.text.*.greedy": script,
    "games.text.*.welfare": script,
    "games.text.*.proposal": "what such a script writes",
    "games.text.*.message": "the same",
    "games.text.*.hands_named": "the same",
    "games.text.*.heard_hands": "the same",
}
LEGAL = {
    "advantages.*=cut": "as many steps as there are",
    "advantages.*=more axes": "any axes before",
    "advantages.group_*(groups)=*": "any integers are names of groups",
    "advantages.naive_advantages(probabilities)=*": "which the rule does not look at",
    "advantages.summed_advantages(probabilities)=*": "the same",
    "objectives.*(mask)=integers": "0 and 1",
    "objectives.magic_box(log_probs)=*": "of any shape",
    "tabular.tabular_log_prob(logits)=cut": "a table of fewer states, which these players do not leave",
    "selfplay.*(max_gradient_norm)=infinite": "no clipping",
    "*(scripts)=empty": "there may be none",
    "selfplay.seats_of(who)=cut": "a game of one player",
    "league.play_pair(generator)=none": "torch's own",
    "games.coin.pickups(rewards)=cut": "fewer steps",
    "games.*(observations)=nan": "games make them; they are not looked at in every step",
    "games.*(observations)=integers": "the same",
    "games.*(observations)=reals": "the same",
    "games.*(observations)=negative": "the same",
    "games.*(observations)=high": "the same",
    "games.*(observations)=empty": "no seats, no actions",
    "games.harvest.*=cut": "fewer steps",
    "games.harvest.*=more axes": "any axes before",
    "games.harvest.HarvestGame(num_players)=none": "the map's own number",
    "games.matrix.MatrixGame*(name)=unknown": "any title",
    "games.pettingzoo.TensorGameEnv(name)=unknown": "any title",
    "games.matrix.MatrixGame.step(generator)=*": "which draws nothing",
    "games.negotiation.always_defect(generator)=*": "the same",
    "estimates.mean_of(population)=*": "any label",
    "games.text.mean_metric(seats)=empty": "there is nothing to average: None",
    "games.text.base.TextGame.record(index)=negative": "counted from the end",
    "games.text.base.TextGame.submit(replies)=wrong element": "a reply that cannot be read, which `on_error` scores",
    "games.text.*(seed)=high": "Python draws from any integer",
    "*=other dtype": "any floating point type; torch promotes where two meet",
    "exact.*=above one": "rows need not sum to 1",
    "league.*(scripts)=wrong element": "an agent that is not in the table",
}
WORDED = {  # refused, in other words than "<argument> must"
    "games.*(generator)=*": (drawn := "torch names it; steps and scripts are called too often to look at it first"),
    "selfplay.play(generator)=*": drawn,
    "exact.lola_shaping(*)=other dtype": "refused as the co_player that is made of them",
    "games.matrix.MatrixGame.symmetric([RSTP])=*": "refused as the payoffs that are made of them",
    "games.pettingzoo.TensorGameEnv(game)=anything": "a game of one's own that does not keep to the protocol",
    "games.text.base.TextGame.record(index)=high": "IndexError, as of a list",
    "league.league(agents)=wrong element": "row must be minds or a script",
    "actor_critic.save(path)=missing": "the path and the system's words",
}
LATER = {  # gaps; to close one means to train again, so they wait for a training that is due anyway
    "advantages.*(include_current)=text": (flag := "a flag is what Python takes for true or false"),
    "advantages.*(loqa)=text": flag,
    "tabular.*(normalise)=text": flag,
    "*(progress)=text": flag,
    "selfplay.SelfPlay(batch_baseline)=text": flag,
    "selfplay.SelfPlay(normalise)=text": flag,
    "actor_critic.Network(feedback)=text": flag,
    "actor_critic.Network(shared)=text": flag,
    "games.coin.chase(flee)=text": flag,
    "games.harvest.free_harvester(zap)=text": flag,
    "games.text.*(show_rules)=text": flag,
    "tabular.*(game)=anything": (one := "an object is known by one attribute"),
    "tabular.*(settings)=anything": one,
    "selfplay.*(game)=anything": one,
    "selfplay.*(settings)=anything": one,
    "selfplay.*(played)=anything": one,
    "selfplay.*(stage)=anything": one,
    "selfplay.*(optimizer)=anything": one,
    "selfplay.adam(mind)=anything": one,
    "selfplay.SelfPlay(buffer)=anything": one,
    "league.play_pair(game)=anything": one,
    "actor_critic.*(game)=anything": one,
    "actor_critic.*(mind)=anything": one,
    "actor_critic.*(network)=anything": one,
    "actor_critic.*(spaces)=anything": one,
    "games.base.*(game)=anything": one,
    "games.coin.chase(game)=anything": one,
    "games.harvest.free_harvester(game)=anything": one,
    "games.negotiation.*(game)=anything": one,
    "games.*(state)=anything": one,
    "tabular.*(generators)=wrong element": (element := "what a list holds is not looked at"),
    "tabular.*(seeds)=wrong element": element,
    "tabular.*(seeds)=half": "rounded down, to a seed that may be there already",
    "selfplay.*(minds)=wrong element": element,
    "selfplay.SelfPlay(scripts)=wrong element": element,
    "league.play_pair(row)=wrong element": element,
    "games.text.mean_metric(seats)=wrong element": element,
    "selfplay.train(seed)=high": (seed := "torch has no such seed, and does not say whose it is"),
    "league.league(seed)=high": seed,
    "advantages.aligned_advantages(probabilities)=above one": "no probabilities",
    "games.coin.chase(observations)=nan": "IndexError",
    "games.text.base.proportional_split([fs]*)=negative": "a negative share",
}
SERIES = torch.linspace(-1, 1, 24, dtype=torch.float64).view(3, 2, 4)
IPD = matrix.MatrixGame.symmetric(3, 0, 5, 1, horizon=4)
COIN, HARVEST, DEAL = coin.CoinGame(horizon=4), harvest.HarvestGame("pond", horizon=4), negotiation.NegotiationGame(4)
LOGITS = torch.linspace(-1, 1, 10, dtype=torch.float64).view(2, 5)
ROWS = exact.action_probabilities
TABLE = ROWS(LOGITS)
SMALL = Network(hidden=4)
MASK = torch.ones(3, 2, 4)
SETTINGS = selfplay.SelfPlay(SMALL, updates=1, games=2)
TABULAR = tabular.Tabular(updates=1, games=2)
CREDIT = advantages.naive_advantages


def mind() -> ActorCritic:
    return ActorCritic(Spaces.of(COIN), SMALL, generator())


WHO = torch.zeros(2, 2, dtype=torch.long)


def played(stage: selfplay.Stage | None = None) -> selfplay.Trajectory:
    return selfplay.play(COIN, [mind()], WHO, generator(), stage=stage)


def stage() -> selfplay.Stage:
    begun = selfplay.begin(COIN, 2, generator(), 2)
    begun.age = torch.zeros(2, dtype=torch.long)
    begun.hidden = torch.zeros(2, 2, 4)
    return begun


def league_table() -> pd.DataFrame:
    return league.league(COIN, {"one": [mind(), mind()], "random": base.random_player}, 1)


def over(game: text.TextGame) -> text.TextGame:
    text.play_scripted(game, "random", "random", rng())
    return game


def of_game(game: Any) -> dict[str, tuple]:
    """Methods of a tensor game."""
    name = f"{type(game).__module__.partition('.')[2]}.{type(game).__name__}"
    step = dict(state=lambda: game.reset(2, generator())[0], actions=lambda: base.random_player(game, game.reset(2)[1]))
    methods = {
        f"{name}.reset": (game.reset, dict(batch=2, generator=generator)),
        f"{name}.step": (game.step, dict(**step, generator=generator)),
    }
    for method in ("observe", "active"):
        if hasattr(game, method):
            methods[f"{name}.{method}"] = (getattr(game, method), dict(state=step["state"]))
    return methods


def script(function: Callable, game: Any, **options: Any) -> tuple:
    return function, dict(game=game, observations=lambda: game.reset(2, generator())[1], generator=generator, **options)


def text_game(kind: type[text.TextGame]) -> dict[str, tuple]:
    name = f"{kind.__module__.partition('.')[2]}.{kind.__name__}"
    return {name: (kind, dict(seed=0, rounds=2, on_error="raise", show_rules=True))}


def table_games() -> dict[str, tuple]:
    made = lambda: text.make_text_game("ipd", 0, rounds=2)  # noqa: E731
    return {
        "games.text.make_text_game": (text.make_text_game, dict(name="ipd", seed=0)),
        "games.text.play_scripted": (text.play_scripted, dict(game=made, first="random", second="random", rng=rng)),
        "games.text.mean_metric": (text.mean_metric, dict(name="reward", seats=[(over(made()), 0)])),
        "games.text.base.one_line": (text.base.one_line, dict(text="a")),
        "games.text.base.proportional_split": (text.proportional_split, dict(first=1.0, second=2.0, quantity=10.0)),
        "games.text.base.need_rng": (text.base.need_rng, dict(rng=rng)),
        "games.text.base.TextGame.submit": (ipd.IPDTextGame(0, 2).submit, dict(replies={0: "<A>", 1: "<B>"})),
        "games.text.base.TextGame.record": (over(ipd.IPDTextGame(0, 2)).record, dict(index=0)),
        "games.text.base.TextGame.news": (over(ipd.IPDTextGame(0, 2)).news, dict(player=0)),
        "games.text.base.TextGame.problem": (ipd.IPDTextGame(0, 2).problem, dict(reply="<A>")),
        **text_game(ipd.IPDTextGame),
        **text_game(split.SplitTextGame),
        **text_game(trust_and_split.TrustAndSplitTextGame),
    }  # fmt: skip


def tables_of_policies() -> dict[str, tuple]:
    fields = dict(logits=LOGITS, co_logits=LOGITS.flip(0), game=IPD, gamma=0.9)
    tables = dict(logits=lambda: torch.zeros(2, 2, 5), games=2, generators=lambda: [generator(), generator()])
    trajectory = dict(observations=torch.zeros(2, 2, 3, 4).long(), actions=torch.zeros(2, 2, 3, 4).long())
    series = torch.linspace(-2, -1, 48).view(2, 2, 3, 4)
    gradient = dict(game=IPD, logits=tables["logits"], settings=TABULAR, generators=tables["generators"])
    ascent = dict(gradient=lambda: lambda own, other: own, co_gradient=lambda: lambda own, other: own)
    return {
        "exact.action_probabilities": (exact.action_probabilities, dict(logits=LOGITS)),
        "exact.chain": (exact.chain, dict(policy=TABLE, co_player=TABLE, game=IPD, gamma=0.9)),
        "exact.values": (
            exact.values,
            dict(policy=LOGITS.sigmoid(), co_player=LOGITS.sigmoid(), game=IPD, gamma=0.9, per_round=True),
        ),
        "exact.visitation": (exact.visitation, dict(joint=exact.chain(TABLE, TABLE, IPD, 0.9).joint, gamma=0.9)),
        "exact.naive_gradient": (exact.naive_gradient, fields),
        "exact.lola_shaping": (
            exact.lola_shaping,
            dict(logits=LOGITS, co_parameters=LOGITS, game=IPD, gamma=0.9, co_policy=lambda: ROWS, natural=False),
        ),
        "exact.lola_alignment_form": (exact.lola_alignment_form, dict(**fields, baseline=True)),
        "exact.lola_gradient": (exact.lola_gradient, dict(**fields, step_size=1.0, first_order=True)),
        "exact.alignment_shaping": (
            exact.alignment_shaping, dict(**fields, softmax="full", include_current=True, marginal=True)),
        "exact.advantage_alignment_gradient": (exact.advantage_alignment_gradient, dict(**fields, beta=1.0)),
        "exact.cosine": (exact.cosine, dict(x=LOGITS, y=LOGITS)),
        "exact.ascend": (
            exact.ascend, dict(**ascent, logits=LOGITS, co_logits=LOGITS, steps=2, learning_rate=0.1, record_every=1)),
        "exact.best_response": (exact.best_response, dict(policy=LOGITS.sigmoid(), game=IPD, gamma=0.9)),
        "policies.strategy": (policies.strategy, dict(name="random", dtype=torch.float32)),
        "policies.classify": (policies.classify, dict(cooperation=LOGITS.sigmoid())),
        "tabular.Tabular": (
            tabular.Tabular,
            dict(updates=1, games=2, learning_rate=0.1, gamma=0.9, initial_scale=0.1, record_every=1, normalise=True),
        ),
        "tabular.rollout": (
            tabular.rollout,
            dict(game=IPD, act=lambda: (lambda seen, time: torch.zeros(2, 2).long()), batch=2, generator=generator),
        ),
        "tabular.play_tables": (tabular.play_tables, dict(game=IPD, **tables)),
        "tabular.tabular_log_prob": (tabular.tabular_log_prob, dict(logits=tables["logits"], **trajectory)),
        "tabular.tabular_loss": (
            tabular.tabular_loss, dict(log_probs=series, advantages=series, credit=lambda: CREDIT, normalise=True)),
        "tabular.tabular_gradient": (tabular.tabular_gradient, dict(**gradient, credit=lambda: CREDIT)),
        "tabular.lola_gradient": (tabular.lola_gradient, dict(**gradient, inner_learning_rate=0.1)),
        "tabular.train": (
            tabular.train, dict(game=IPD, settings=TABULAR, credit=lambda: CREDIT, seeds=[0, 1], progress=False)),
        "tabular.train_lola": (
            tabular.train_lola, dict(game=IPD, settings=TABULAR, inner_learning_rate=0.1, seeds=[0], progress=False)),
    }  # fmt: skip


def self_play() -> dict[str, tuple]:
    batch = dict(minds=lambda: [mind()], who=WHO, played=played)
    of_minds = dict(game=COIN, minds=lambda: [mind()], who=WHO, generator=generator)
    rates = dict(learning_rate=0.1, critic_learning_rate=0.1)
    adam = lambda: selfplay.adam(mind(), **rates)  # noqa: E731
    return {
        "selfplay.Buffer": (selfplay.Buffer, dict(share=0.5, seats=1, drawn=1, every=1, until=2, capacity=2)),
        "selfplay.SelfPlay": (
            selfplay.SelfPlay,
            dict(
                network=lambda: Network(4, shared=True), updates=1, games=2, chunk=2, gamma=0.9, lam=0.9,
                critic_lam=1.0, greedy_updates=1, entropy=0.1, clip=0.1, epochs=1, **rates, critic_weight=1.0,
                max_gradient_norm=1.0, batch_baseline=False, normalise=True,
                buffer=lambda: selfplay.Buffer(), scripts=lambda: (coin.chase,), script_share=1.0,
            ),
        ),
        "selfplay.begin": (selfplay.begin, dict(game=COIN, games=2, generator=generator, steps=2)),
        "selfplay.seats_of": (selfplay.seats_of, dict(who=WHO, minds=1)),
        "selfplay.play": (selfplay.play, dict(**of_minds, on_step=lambda: (lambda *_: None), stage=stage)),
        "selfplay.begin_anew": (selfplay.begin_anew, dict(game=COIN, stage=stage, generator=generator)),
        "selfplay.seating": (selfplay.seating, dict(game=COIN, settings=SETTINGS)),
        "selfplay.credits": (
            selfplay.credits,
            dict(**batch, values=lambda: torch.zeros(4, 4), settings=SETTINGS, credit=lambda: CREDIT),
        ),
        "selfplay.adam": (selfplay.adam, dict(mind=mind, **rates)),
        "selfplay.step": (selfplay.step, dict(optimizer=adam, max_gradient_norm=1.0)),
        "selfplay.train": (
            selfplay.train,
            dict(
                game=COIN, settings=SETTINGS, credit=lambda: CREDIT, seed=0, on_update=lambda: (lambda *_: True),
                progress=False,
            ),
        ),
    }  # fmt: skip


def learn_call() -> Call:
    one = mind()
    optimizer = selfplay.adam(one, 0.1, 0.1)
    batch = dict(minds=[one], who=WHO, played=selfplay.play(COIN, [one], WHO, generator()), optimizer=optimizer)
    return Call(selfplay.learn, dict(**batch, settings=SETTINGS, credit=CREDIT))


def leagues() -> dict[str, tuple]:
    two = lambda: [mind(), mind()]  # noqa: E731
    samples = [1.0, 2.0, 4.0]
    return {
        "league.play_pair": (
            league.play_pair, dict(game=COIN, row=two, column=lambda: coin.chase, games=1, generator=generator)),
        "league.league": (league.league, dict(game=COIN, agents=lambda: {"one": two()}, games=1, seed=0)),
        "league.cell": (league.cell, dict(table=league_table, row="one", column="random", scripts=("random",))),
        "league.summarise": (league.summarise, dict(table=league_table, scripts=("random",))),
        "estimates.mean_of": (estimates.mean_of, dict(samples=lambda: pd.Series(samples), population="one")),
        "estimates.mean_interval": (estimates.mean_interval, dict(samples=lambda: np.array(samples))),
        "estimates.difference": (estimates.difference, dict(one=samples, other=samples[:2])),
        "estimates.show": (estimates.show, dict(estimate=lambda: estimates.Estimate(1, 0.5, 2), digits=2, sign="+")),
    }  # fmt: skip


def recurrent() -> dict[str, tuple]:
    spaces = Spaces.of(COIN)
    return {
        "actor_critic.Network": (Network, dict(hidden=4, filters=2, feedback=True, shared=False)),
        "actor_critic.Spaces.of": (Spaces.of, dict(game=COIN)),
        "actor_critic.ActorCritic": (ActorCritic, dict(spaces=spaces, network=SMALL, generator=generator)),
    }


def credits_and_losses() -> dict[str, tuple]:
    returns = SERIES[0]
    groups = torch.tensor([0, 0])
    chances = SERIES.sigmoid()
    aligned = dict(advantages=SERIES, probabilities=chances, beta=1.0, gamma=0.9)
    aligned |= dict(past="averaged", over="mean", loqa=True, include_current=True)
    losses = dict(log_probs=-chances, advantages=SERIES, mask=MASK)
    dice = dict(log_probs=-chances, rewards=SERIES, baseline=SERIES, gamma=0.9)
    return {
        "advantages.discounted_sum": (advantages.discounted_sum, dict(x=SERIES, gamma=0.9)),
        "advantages.discounted_returns": (advantages.discounted_returns, dict(rewards=SERIES, gamma=0.9)),
        "advantages.gae": (advantages.gae, dict(rewards=SERIES[..., 1:], values=SERIES, gamma=0.9, lam=0.9)),
        "advantages.group_baseline": (advantages.group_baseline, dict(returns=returns, groups=groups)),
        "advantages.group_relative_advantages": (
            advantages.group_relative_advantages, dict(rewards=returns, gamma=0.9, groups=groups)),
        "advantages.naive_advantages": (advantages.naive_advantages, dict(advantages=SERIES, probabilities=chances)),
        "advantages.summed_advantages": (advantages.summed_advantages, dict(advantages=SERIES, probabilities=chances)),
        "advantages.shaping_weights": (
            advantages.shaping_weights, dict(advantages=SERIES, gamma=0.9, past="averaged", include_current=True)),
        "advantages.aligned_advantages": (advantages.aligned_advantages, aligned),
        "objectives.policy_gradient_loss": (objectives.policy_gradient_loss, losses),
        "objectives.proximal_loss": (objectives.proximal_loss, dict(**losses, old_log_probs=-chances, clip=0.2)),
        "objectives.magic_box": (objectives.magic_box, dict(log_probs=-chances)),
        "objectives.dice_objective": (objectives.dice_objective, dice),
    }  # fmt: skip


def tensor_games() -> dict[str, tuple]:
    env = lambda: pettingzoo.parallel_env("coin", horizon=2)  # noqa: E731
    payoffs = ((1.0, 1.0), (0.0, 2.0), (2.0, 0.0), (1.0, 1.0))
    looks = COIN.reset(2, generator())[1]
    return {
        "games.make": (games.make, dict(name="coin", horizon=2)),
        "games.base.check_step": (
            base.check_step, dict(game=COIN, state=lambda: COIN.reset(3)[0], actions=torch.zeros(3, 2).long())),
        "games.base.leading_shape": (base.leading_shape, dict(game=COIN, observations=looks)),
        "games.base.random_player": script(base.random_player, COIN),
        "games.coin.CoinGame": (coin.CoinGame, dict(height=3, width=3, horizon=2)),
        **of_game(COIN),
        "games.coin.pickups": (coin.pickups, dict(rewards=torch.ones(3, 2, 4))),
        "games.coin.chase": script(coin.chase, COIN, flee=True),
        "games.harvest.HarvestGame": (
            harvest.HarvestGame, dict(map="pond", num_players=2, horizon=4, window=(1, 1, 1))),
        **of_game(HARVEST),
        "games.harvest.free_harvester": script(harvest.free_harvester, HARVEST, zap=True),
        **{
            f"games.harvest.{name}": (getattr(harvest, name), dict(rewards=SERIES.abs()))
            for name in ("collective_return", "sustainability", "equality")
        },
        "games.harvest.peace": (harvest.peace, dict(out=torch.zeros(3, 2, 4).long())),
        "games.matrix.MatrixGame": (matrix.MatrixGame, dict(payoffs=payoffs, horizon=2, name="x")),
        "games.matrix.MatrixGame.symmetric": (
            matrix.MatrixGame.symmetric, dict(R=3.0, S=0.0, T=5.0, P=1.0, horizon=2, name="x")),
        **of_game(IPD),
        "games.matrix.memory_one": (matrix.memory_one, dict(cooperation=[0.5] * 5)),
        "games.negotiation.NegotiationGame": (negotiation.NegotiationGame, dict(horizon=2)),
        **of_game(DEAL),
        "games.negotiation.always_cooperate": script(negotiation.always_cooperate, DEAL),
        "games.negotiation.always_defect": script(negotiation.always_defect, DEAL),
        "games.pettingzoo.TensorGameEnv": (pettingzoo.TensorGameEnv, dict(game=COIN, name="x")),
        "games.pettingzoo.TensorGameEnv.observation_space": (env().observation_space, dict(agent="player_0")),
        "games.pettingzoo.TensorGameEnv.action_space": (env().action_space, dict(agent="player_0")),
        "games.pettingzoo.TensorGameEnv.reset": (env().reset, dict(seed=0)),
        "games.pettingzoo.TensorGameEnv.step": (begun_env, dict(actions={"player_0": 0, "player_1": 1})),
        "games.pettingzoo.parallel_env": (pettingzoo.parallel_env, dict(name="coin", horizon=2)),
    }  # fmt: skip


def begun_env(actions: Any) -> Any:
    env = pettingzoo.parallel_env("coin", horizon=2)
    env.reset(0)
    return env.step(actions)


def all_calls(tmp_path: Path) -> dict[str, Callable[[], Call]]:
    listed_calls: dict[str, tuple] = {}
    for more in (
        credits_and_losses, tables_of_policies, self_play, leagues, recurrent, tensor_games, table_games
    ):  # fmt: skip
        listed_calls |= more()
    made = {name: partial(fresh, *call) for name, call in listed_calls.items()}
    file = tmp_path / "mind.safetensors"
    actor_critic.save(mind(), file)
    made["actor_critic.save"] = lambda: Call(actor_critic.save, dict(mind=mind(), path=file))
    made["actor_critic.load"] = lambda: Call(actor_critic.load, dict(path=file))
    made["selfplay.learn"] = learn_call
    return made


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[[], Call]]:
    return all_calls(tmp_path_factory.mktemp("odd"))


def test_every_public_name_has_a_valid_call_or_a_reason(calls: dict[str, Callable[[], Call]]) -> None:
    public = {name for module in modules(aa_core, skip="aa_core.llm") for name, _ in public_names(module)}
    assert sorted(name for name in public - calls.keys() if not listed(name, EXEMPT)) == []
    assert sorted(calls.keys() - public) == []
    assert [pattern for pattern in EXEMPT if not any(listed(name, {pattern: ""}) for name in public)] == []


def test_odd_values_are_refused_by_name_and_good_ones_taken(calls: dict[str, Callable[[], Call]]) -> None:
    torch.manual_seed(0)
    wrong, count = walk(calls, LEGAL, WORDED, LATER)
    assert not wrong, "\n".join(wrong)
    assert count > 1800


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), 0, 1])
def test_numbers_of_numpy_are_numbers(number: Any) -> None:
    expected = advantages.discounted_returns(SERIES, float(number))
    torch.testing.assert_close(advantages.discounted_returns(SERIES, number), expected)
    assert coin.CoinGame(horizon=np.int64(3)).horizon == 3


@pytest.mark.parametrize("beta", [torch.ones(3, 1, 4), torch.ones(4), torch.tensor(2.0)])
def test_a_beta_that_broadcasts_is_taken(beta: torch.Tensor) -> None:
    assert advantages.aligned_advantages(SERIES, beta=beta.double(), gamma=0.9).shape == SERIES.shape


@pytest.mark.parametrize("beta", [torch.ones(5, 1, 1, 1), torch.ones(7), torch.full((4,), torch.nan), torch.ones(0)])
def test_a_beta_that_enlarges_or_does_not_fit_is_refused(beta: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="beta must be"):
        advantages.aligned_advantages(SERIES, beta=beta.double(), gamma=0.9)


@pytest.mark.parametrize("entry", [2.0, 0.5, -1.0, torch.nan])
def test_masks_hold_0_and_1_only(entry: float) -> None:
    mask = torch.where(torch.arange(24).view(3, 2, 4) == 5, entry, 1.0)
    with pytest.raises(ValueError, match="mask must be 0 and 1 only"):
        objectives.policy_gradient_loss(-SERIES.abs(), SERIES, mask)


def test_what_is_masked_may_hold_anything() -> None:
    mask = torch.arange(24).view(3, 2, 4) > 3
    held = torch.where(mask, -SERIES.abs(), torch.nan)
    assert objectives.policy_gradient_loss(held, SERIES, mask).isfinite()


@pytest.mark.parametrize("game", [COIN, HARVEST, IPD, DEAL])
def test_no_game_steps_past_its_end(game: Any) -> None:
    state, observations = game.reset(2, generator())
    for _ in range(game.horizon):
        actions = base.random_player(game, observations, generator())
        state, observations, _, _ = game.step(state, actions, generator())
    with pytest.raises(ValueError, match="state must be before the horizon"):
        game.step(state, actions, generator())


@pytest.mark.parametrize("damage", ["empty", "cut", "binary", "conflict", "foreign", "folder"])
def test_a_damaged_agent_is_named_with_the_way_out(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "mind.safetensors"
    actor_critic.save(mind(), path)
    whole = path.read_bytes()
    other = b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "
    contents = dict(empty=b"", cut=whole[:-9], binary=bytes(range(256)) * 9, conflict=b"<<<<<<< HEAD\n" + whole)
    contents |= dict(foreign=other)
    path.unlink()
    path.mkdir() if damage == "folder" else path.write_bytes(contents[damage])
    with pytest.raises(ValueError, match=r"restore or train .*mind\.safetensors again"):
        actor_critic.load(path)


def test_an_agent_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot be written: .*mind\.safetensors"):
        actor_critic.save(mind(), tmp_path / "file" / "mind.safetensors")


def shares(share: float, seeds: list[int]) -> None:
    if isinstance(seeds, int) or not seeds:
        raise ValueError(f"seeds must be a list, not empty, got {seeds!r}")
    if not isinstance(share, float):
        raise TypeError("torch knows no such share")


def test_the_walk_finds_what_is_taken_and_keeps_its_lists_tight() -> None:
    call = {"shares": partial(fresh, shares, dict(share=0.5, seeds=[0, 1]))}
    wrong, _ = walk(call, {}, {}, {})
    assert {line.partition(": ")[0] for line in wrong} >= {
        "shares(share)=text",  # an error that only mentions the name
        "shares(share)=above one",
        "shares(seeds)=wrong element",
        "shares(seeds)=half",
    }
    assert not [line for line in wrong if "=empty" in line or "(seeds)=number" in line]
    late = {"shares(share)=*": "", "shares(seeds)=[wht]*": ""}
    assert walk(call, {}, {}, late)[0] == []
    assert walk(call, {"shares(share)=text": ""}, {}, {})[0][-1] == "shares(share)=text is needed by nothing"
    assert "shares(seeds)=empty is no gap any more: *" in walk(call, {}, {}, {"*": ""})[0]
