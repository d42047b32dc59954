"""The runs behind notebooks 05 and 06: agents of two games, their leagues, what shaping costs and how fast it is.

A run trains one seed of one agent and keeps its policy beside its table; leagues and episodes are played by those. The
settings of profile laptop were found by two maps, whose cells are listed here and drawn in the notebooks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from torch import Tensor

from aa_core import advantages, games, league, objectives, records, recurrent
from aa_core.games import coin, negotiation
from aa_core.games.base import Game
from aa_core.league import own_coin_rate, play_pair, welfare
from aa_core.recurrent import Learner, Policies, Recurrent, Seats, initial_policies

SCRIPTED = {"coin": coin.SCRIPTED, "negotiation": negotiation.SCRIPTED}
MEASURES = {"coin": own_coin_rate, "negotiation": welfare}
AGENTS = {
    "coin": (
        "naive", "ppo", "ppo_sum_of_rewards", "lola_dice", "loqa", "advantage_alignment",
        "proximal_advantage_alignment",
    ),
    "negotiation": ("naive", "ppo", "ppo_sum_of_rewards", "advantage_alignment"),
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How much is played in a profile, apart from the settings of training."""

    seeds: int
    horizon: int
    evaluate_every: int  # updates between two points of a learning curve
    evaluation_games: int  # for each point and opponent
    league_games: int  # per pair of seeds
    episode_games: int  # kept step by step, per opponent
    map_seeds: int
    cost_updates: int  # timed, per setting
    cost_games: int
    cost_horizons: tuple[int, ...]
    cost_grids: tuple[int, ...]
    speed_games: tuple[int, int]  # per batch: of random play, and of an update


SIZES = {
    "smoke": Size(2, 8, 2, 4, 2, 2, 2, 2, 4, (4, 8), (3, 4), (8, 4)),
    "laptop": Size(5, 50, 25, 64, 32, 16, 2, 5, 128, (16, 32, 64, 128), (3, 4, 5, 6, 7), (4096, 512)),
    "paper": Size(10, 50, 100, 64, 32, 16, 5, 10, 512, (16, 32, 64, 128), (3, 4, 5, 6, 7), (4096, 512)),
}

# AA and LOQA are greedy for 60 updates; in half of their games they meet their past of the first 120
_REPLAY = {"updates": 350, "games": 256, "greedy_updates": 60, "past_share": 0.5, "past_until": 120}
_COIN = {
    "naive": Recurrent("naive", updates=150, games=256, learning_rate=5e-3),
    "ppo": Recurrent("ppo", updates=150, games=256, learning_rate=5e-3),
    "ppo_sum_of_rewards": Recurrent("ppo_sum_of_rewards", updates=150, games=256, learning_rate=5e-3),
    # with an inner step of 1 or 5, one seed of each, next to nothing was learned in 150 to 300 updates
    "lola_dice": Recurrent(
        "lola_dice", updates=400, games=128, learning_rate=5e-3, inner_learning_rate=0.1, entropy=0.02
    ),
    "loqa": Recurrent("loqa", beta=0.4, **_REPLAY),
    "advantage_alignment": Recurrent("advantage_alignment", beta=0.2, **_REPLAY),
    "proximal_advantage_alignment": Recurrent("proximal_advantage_alignment", beta=0.2, **_REPLAY),
}
_NEGOTIATION = {
    "naive": Recurrent("naive", updates=150, games=256, entropy=0.005),
    "ppo": Recurrent("ppo", updates=150, games=256, entropy=0.005),
    "ppo_sum_of_rewards": Recurrent("ppo_sum_of_rewards", updates=300, games=256, entropy=0.005),
    # it stops while all seeds cooperate, as AA's code stops at a reward of 0.4; `long_run` shows what comes after
    "advantage_alignment": Recurrent(
        "advantage_alignment", updates=175, games=256, entropy=0.005, credit="averaged", beta=3.0
    ),
}
LAPTOP = {"coin": _COIN, "negotiation": _NEGOTIATION}


def settings_of(game: str, agent: str, profile: str) -> Recurrent:
    """Settings of training, by profile.

    `paper` has LOQA's published settings in the Coin Game, whose code AA's agents come from (AA's own beta is not
    public, ours stays), POLA's of LOLA-DiCE, and those of AA's repository in Negotiation.
    """
    laptop = LAPTOP[game][agent]
    if profile == "laptop":
        return laptop
    if profile == "smoke":
        return _small(laptop)
    if agent == "lola_dice":
        return replace(laptop, updates=50001, games=2000, learning_rate=3e-3)
    if game == "coin":
        big = {"updates": 25400, "games": 512, "hidden": 128, "learning_rate": 1e-3, "critic_learning_rate": 1e-2}
        return replace(laptop, **big, entropy=0.1, past_capacity=10000, past_until=None)
    big = {"updates": 800, "games": 16384, "learning_rate": 1e-3, "critic_learning_rate": 1e-3, "entropy": 0.005}
    return replace(laptop, **big, normalise=False)


def _small(settings: Recurrent) -> Recurrent:
    """The same settings at the size of profile smoke."""
    until = None if settings.past_until is None else 2
    small = {"updates": 4, "games": 8, "hidden": 8, "past_policies": 2, "past_every": 1, "past_until": until}
    return replace(settings, **small, greedy_updates=min(settings.greedy_updates, 2))


def code_hash() -> str:
    """Of everything that the numbers depend on, this module's settings apart (they are in each configuration)."""
    return records.code_hash(advantages, coin, negotiation, league, objectives, recurrent)


# --- training


def evaluate(game_name: str, policies: Policies, horizon: int, count: int) -> dict[str, list[float]]:
    """What each network earns per step against itself and against always cooperate and always defect.

    Args:
        game_name: "coin" or "negotiation".
        policies: N networks.
        horizon: steps per game.
        count: games per network and opponent; always the same random numbers.

    Returns:
        Metric -> N numbers: "reward_self", "measure_self" (own-coin rate, or welfare), "reward_vs_cooperate",
        "reward_of_cooperator", "reward_vs_defect", "reward_of_defector".
    """
    game, generator = games.make(game_name, horizon=horizon), torch.Generator().manual_seed(12345)
    both = [play_pair(game, alone, alone, count, generator)[0, 0] for alone in map(policies.select, _each(policies))]
    found = {
        "reward_self": [rewards.mean().item() for rewards in both],
        # no coin at all: neither colour preferred
        "measure_self": [MEASURES[game_name](rewards).nan_to_num(0.5).item() for rewards in both],
    }
    for script, role in (("cooperate", "cooperator"), ("defect", "defector")):
        player = SCRIPTED[game_name][f"always {script}"]
        own, other = play_pair(game, policies, player, count, generator).mean((1, 2, 4)).unbind(1)
        found |= {f"reward_vs_{script}": own.tolist(), f"reward_of_{role}": other.tolist()}
    return found


def _each(policies: Policies) -> list[list[int]]:
    return [[index] for index in range(len(policies))]


def train_agent(game_name: str, settings: Recurrent, seed: int, size: Size) -> tuple[pd.DataFrame, Policies]:
    """Train one seed; rows (update, metric, value) of `evaluate` along training and at its end, and the policy."""
    rows: list[tuple[int, str, float]] = []

    def look(update: int, policies: Policies) -> None:
        found = evaluate(game_name, policies, size.horizon, size.evaluation_games)
        rows.extend((update, metric, values[0]) for metric, values in found.items())

    def on_update(number: int, policies: Policies, _: Tensor) -> None:
        if number % size.evaluate_every == 0:
            look(number, policies)

    policies = recurrent.train(games.make(game_name, horizon=size.horizon), settings, [seed], on_update).policies
    look(settings.updates, policies)
    return pd.DataFrame(rows, columns=["update", "metric", "value"]), policies


def _policy_path(game: str, part: str, profile: str) -> Path:
    return records.table_path(profile, f"{game}/{part}").with_suffix(".safetensors")


def agent_run(game: str, part: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """Training of one seed of an agent; `part` is AGENT-SEED. Its policy is kept beside the table."""
    agent, seed = part.rsplit("-", 1)
    settings, path = settings_of(game, agent, profile), _policy_path(game, part, profile)
    return _recorded_training(f"{game}/{part}", game, settings, int(seed), profile, path, fresh)


def long_run(part: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """AA in Negotiation, trained on for longer than the league's agent; `part` is the seed."""
    settings = replace(settings_of("negotiation", "advantage_alignment", profile), updates=_LONG_UPDATES[profile])
    return _recorded_training(f"negotiation_long/{part}", "negotiation", settings, int(part), profile, None, fresh)


_LONG_UPDATES = {"smoke": 6, "laptop": 300, "paper": 1600}


def _recorded_training(
    name: str, game: str, settings: Recurrent, seed: int, profile: str, path: Path | None, fresh: bool
) -> pd.DataFrame:
    """`train_agent`, cached; the policy is written to `path`."""
    size, agent = SIZES[profile], settings.algorithm
    config = asdict(settings) | {
        "game": game, "seed": seed, "horizon": size.horizon, "evaluate_every": size.evaluate_every,
        "evaluation_games": size.evaluation_games, "code": code_hash(),
    }  # fmt: skip

    def compute() -> pd.DataFrame:
        table, policies = train_agent(game, settings, seed, size)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            recurrent.save(policies, path)
        return table.assign(agent=agent, seed=seed)[["agent", "seed", "update", "metric", "value"]]

    lost = path is not None and not path.is_file()
    return records.recorded(profile, name, config, compute, fresh or lost)


def trained(game: str, agent: str, profile: str) -> Policies:
    """The policies of an agent, one network per seed; trains what is missing."""
    parts = [f"{agent}-{seed}" for seed in range(SIZES[profile].seeds)]
    for part in parts:
        agent_run(game, part, profile)
    loaded = [recurrent.load(_policy_path(game, part, profile)) for part in parts]
    stacked = {name: torch.cat([one.parameters[name] for one in loaded]) for name in loaded[0].parameters}
    return Policies(stacked, loaded[0].bounds)


# --- league and episodes


def _sources(game: str, profile: str) -> dict[str, str]:
    """Checksum of each run that a league is played by."""
    return {
        part: (records.record_of(profile, f"{game}/{part}") or {}).get("table_sha256") for part in parts(game, profile)
    }


def league_run(game: str, part: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """Every seed of every agent, and the scripted players, against each other; `part` is "all"."""
    size = SIZES[profile]
    agents = {agent: trained(game, agent, profile) for agent in AGENTS[game]} | SCRIPTED[game]
    config = {
        "game": game, "runs": _sources(game, profile), "games": size.league_games, "horizon": size.horizon,
        "code": code_hash(),
    }  # fmt: skip

    def compute() -> pd.DataFrame:
        return league.league(games.make(game, horizon=size.horizon), agents, size.league_games)

    return records.recorded(profile, f"{game}_league/{part}", config, compute, fresh)


EPISODE_COLUMNS = {
    "coin": ["cell_1", "cell_2", "coin", "owner", "reward_1", "reward_2"],
    "negotiation": [
        *(f"{what}_{player}_{item}" for what in ("value", "claim") for player in (1, 2) for item in (1, 2, 3)),
        "reward_1", "reward_2",
    ],
}  # fmt: skip


def _seen(state: coin.CoinState | negotiation.NegotiationState, actions: Tensor, rewards: Tensor) -> Tensor:
    """What EPISODE_COLUMNS name, `(batch, columns)`, of a step from this state."""
    if isinstance(state, coin.CoinState):
        return torch.cat([state.players, state.coin[:, None], state.owner[:, None], rewards.long()], 1)
    return torch.cat([state.values.flatten(1), actions.flatten(1), rewards], 1)


def episode_run(game: str, part: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """Games, step by step, of the first seed of AA against the second one and against each scripted player.

    Columns of the Coin Game: cells of both players, the coin's cell and owner before the step, and both rewards; of
    Negotiation: values and proposals of both players, three items each, and both rewards.
    """
    size = SIZES[profile]
    config = {
        "game": game, "runs": _sources(game, profile), "horizon": size.horizon, "games": size.episode_games, "seed": 1,
        "code": code_hash(),
    }  # fmt: skip

    def compute() -> pd.DataFrame:
        agents, tables = trained(game, "advantage_alignment", profile), []
        rules = games.make(game, horizon=size.horizon)
        for opponent, other in (("advantage_alignment", agents.select([1])), *SCRIPTED[game].items()):
            generator, hidden = torch.Generator().manual_seed(1), [None, None]
            state, observations = rules.reset(size.episode_games, generator)
            for step in range(rules.horizon):
                actions = []
                for seat, side in enumerate((agents.select([0]), other)):
                    view = observations[:, seat][None]
                    if isinstance(side, Policies):
                        chosen, hidden[seat] = recurrent.act(side, view, hidden[seat], generator)
                    else:
                        chosen = side(view, generator)
                    actions.append(chosen[0])
                joint, before = torch.stack(actions, 1), state
                state, observations, rewards, _ = rules.step(state, joint, generator)
                rows = pd.DataFrame(_seen(before, joint, rewards).numpy(), columns=EPISODE_COLUMNS[game])
                tables.append(pd.DataFrame({"opponent": opponent, "game": rows.index, "step": step}).join(rows))
        return pd.concat(tables).sort_values(["opponent", "game", "step"], kind="stable", ignore_index=True)

    return records.recorded(profile, f"{game}_episode/{part}", config, compute, fresh)


# --- the map of settings

_FAST = {"learning_rate": 5e-3, "critic_learning_rate": 5e-3}
_GREEDY = {"greedy_updates": 60, "past_share": 0.5}
_ANEW = {"greedy_updates": 100, "restart": True, "past_until": 100, "updates": 400}
_AVERAGED = {"credit": "averaged", "beta": 3.0}
# every cell that was tried, in two seeds; what a cell does not say is as in _MAP_BASE. "Greedy": the first 60 updates;
# "past": half the games against past snapshots, "past to 60": taken in the first 60 updates; "anew": `restart`
# after 100 greedy updates (40 in Negotiation)
MAPS: dict[str, dict[str, dict[str, float | int | bool | str]]] = {
    "coin": {
        "β 0.15": {"beta": 0.15},
        "β 0.15, past": {"beta": 0.15, "past_share": 0.5},
        "β 0.15, greedy, past": {"beta": 0.15, **_GREEDY},
        "β 0.3, greedy, past": {"beta": 0.3, **_GREEDY},
        "β 0.3, greedy, past quarter": {"beta": 0.3, "greedy_updates": 60, "past_share": 0.25},
        "β 0.2, greedy, past, entropy 0.03": {"beta": 0.2, "entropy": 0.03, **_GREEDY},
        "β 0.2, greedy, past, actor's Adam 0.005": {"beta": 0.2, **_GREEDY, "learning_rate": 5e-3, "updates": 300},
        "β 0.15, greedy, past to 60": {"beta": 0.15, **_GREEDY, "past_until": 60},
        "β 0.3, greedy, past to 60": {"beta": 0.3, **_GREEDY, "past_until": 60, "updates": 300},
        "β 0.2, greedy, past to 120": {"beta": 0.2, **_GREEDY, "past_until": 120},
        "β 0.2, greedy, past to 120, Adam 0.005": {"beta": 0.2, **_GREEDY, "past_until": 120, **_FAST},
        "β 0.2, greedy 150, last 8, Adam 0.005": {
            "beta": 0.2, "greedy_updates": 150, "past_share": 0.5, "past_until": 150, "past_capacity": 8,
            "updates": 400, **_FAST,
        },
        "β 0.2, anew, last 4, Adam 0.005": {"beta": 0.2, **_ANEW, "past_share": 0.5, "past_capacity": 4, **_FAST},
        "β 0.2, anew, last 10, quarter, Adam 0.005": {
            "beta": 0.2, **_ANEW, "past_share": 0.25, "past_capacity": 10, **_FAST,
        },
        "β 0.4, anew, last 4, Adam 0.005": {
            "beta": 0.4, **_ANEW, "past_share": 0.5, "past_capacity": 4, **_FAST, "updates": 500,
        },
    },
    "negotiation": {
        "averaged, β 3, not normalised": {**_AVERAGED, "normalise": False},
        "averaged, β 3, normalised": _AVERAGED,
        "averaged, β 3, normalised, past quarter": {**_AVERAGED, "past_share": 0.25},
        "averaged, β 3, normalised, greedy, past": {
            **_AVERAGED, "greedy_updates": 40, "past_share": 0.5, "updates": 250,
        },
        "averaged, β 1, normalised, greedy, past": {
            **_AVERAGED, "beta": 1.0, "greedy_updates": 40, "past_share": 0.5, "updates": 250,
        },
        "averaged, β 3, normalised, anew, last 3, quarter": {
            **_AVERAGED, "greedy_updates": 40, "restart": True, "past_share": 0.25, "past_until": 40,
            "past_capacity": 3,
        },
        "discounted, β 0.3, normalised": {"beta": 0.3, "updates": 200},
    },
}  # fmt: skip
_MAP_BASE = {
    "coin": Recurrent("advantage_alignment", updates=350, games=256),
    "negotiation": Recurrent("advantage_alignment", updates=300, games=256, entropy=0.005),
}
MAP_COLUMNS = (
    "beta", "credit", "include_current", "normalise", "greedy_updates", "restart", "past_share", "past_until",
    "past_capacity", "learning_rate", "entropy", "updates",
)  # fmt: skip


def map_run(game: str, part: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """One cell of the map, `part` its number: Advantage Alignment with other settings, two seeds, at its end."""
    size, cell = SIZES[profile], list(MAPS[game])[int(part)]
    settings = replace(_MAP_BASE[game], **MAPS[game][cell])
    if profile == "smoke":
        settings = _small(settings)
    config = asdict(settings) | {"seeds": size.map_seeds, "horizon": size.horizon, "code": code_hash()}

    def compute() -> pd.DataFrame:
        rules = games.make(game, horizon=size.horizon)
        policies = recurrent.train(rules, settings, range(size.map_seeds)).policies
        found = evaluate(game, policies, size.horizon, size.evaluation_games)
        setting = {name: getattr(settings, name) for name in MAP_COLUMNS}
        setting["past_until"] = settings.past_until or settings.updates
        return pd.DataFrame({"cell": cell, **setting, "seed": range(size.map_seeds), **found})

    return records.recorded(profile, f"{game}_map/{part}", config, compute, fresh)


# --- the price of shaping

PRICED = ("naive", "lola_dice", "loqa", "advantage_alignment")


def shaping_cost(part: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """Seconds per update of an algorithm, `part`, by horizon and by grid, on one thread.

    The same network (64 units), batch and optimiser for all, no agent buffer, one seed; an update is play and training.
    The median of so many updates after one that warms up. Nothing else should run on the machine.
    """
    size = SIZES[profile]
    settings = Recurrent(part, games=size.cost_games, beta=0.0 if part == "naive" else 0.15)
    shapes = [(horizon, 3) for horizon in size.cost_horizons] + [
        (size.cost_horizons[0], g) for g in size.cost_grids[1:]
    ]
    shapes.append((size.horizon, 3))
    config = asdict(settings) | {"shapes": shapes, "timed": size.cost_updates, "code": code_hash()}

    def compute() -> pd.DataFrame:
        rows = []
        with on_threads(1):
            for horizon, grid in dict.fromkeys(shapes):
                game = games.make("coin", height=grid, width=grid, horizon=horizon)
                seconds = time_updates(game, settings, size.cost_updates)
                rows.append((part, settings.games, horizon, grid, seconds, settings.games * horizon / seconds))
        columns = ["algorithm", "games", "horizon", "grid", "seconds_per_update", "game_steps_per_second"]
        return pd.DataFrame(rows, columns=columns)

    return records.recorded(profile, f"shaping_cost/{part}", config, compute, fresh)


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """So many threads for torch, and the former number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def median_seconds(work: Callable[[], object], count: int) -> float:
    """Of `count` calls, after one that warms up."""
    work()
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return median(taken)


def updater(game: Game, settings: Recurrent, seeds: int = 1) -> tuple[Learner, Callable[[], object]]:
    """A learner of so many seeds without an agent buffer, and what plays and trains it once."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    first = initial_policies(game, settings.hidden, generators)
    learner = Learner(game, settings, first, Seats(seeds, settings.games))
    update = learner.lola_update if settings.algorithm == "lola_dice" else learner.update
    return learner, partial(update, None, generators)


def time_updates(game: Game, settings: Recurrent, count: int) -> float:
    """Median seconds of `count` updates of one seed, after one that warms up."""
    return median_seconds(updater(game, settings)[1], count)


# --- speed

SPEED_HORIZONS, SPEED_WIDTHS, SPEED_THREADS = (16, 50), (64, 128), (1, 2)
# multiply-adds of a row and step in units of one forward pass: actor 1 (roll-out) + 2 (backward), critic 1 + 2
PASSES = 6


def play_at_random(game: coin.CoinGame, batch: int) -> None:
    """A batch of games between random walks, to the horizon."""
    generator = torch.Generator().manual_seed(0)
    state, observations = game.reset(batch, generator)
    for _ in range(game.horizon):
        state, observations, _, _ = game.step(state, coin.random_moves(observations, generator), generator)


def update_gflop(learner: Learner) -> float:
    """Floating-point operations, in units of 10^9, of the matrix products of an update (both seats, one epoch)."""
    weights = sum(x.shape[1] * x.shape[2] for name, x in learner.actor.items() if not name.endswith("bias"))
    return 2 * PASSES * 2 * learner.seats.seeds * learner.seats.games * learner.game.horizon * weights / 1e9


def products(rows: int, hidden: int, count: int) -> Callable[[], None]:
    """What multiplies a GRU's state `(rows, hidden)` with the weights of its three gates so many times."""
    state, weights = torch.randn(rows, hidden), torch.randn(hidden, 3 * hidden)
    result = torch.empty(rows, 3 * hidden)

    def multiply() -> None:
        for _ in range(count):
            torch.mm(state, weights, out=result)

    return multiply


def coin_speed(part: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """Game steps per second of random play and of updates of Advantage Alignment; `part` is the number of threads.

    A game step moves both players; an update plays a batch of games and trains actor and critic on both seats once.
    Bare matrix products of an update's most common shape are the yardstick of its floating-point operations. Nothing
    else should run on the machine.
    """
    size, threads = SIZES[profile], int(part)
    batch, per_update = size.speed_games
    shapes = [(min(horizon, size.horizon), hidden) for hidden in SPEED_WIDTHS for horizon in SPEED_HORIZONS]
    config = {
        "threads": threads, "games": size.speed_games, "shapes": shapes, "timed": size.cost_updates,
        "code": code_hash(),
    }  # fmt: skip

    def compute() -> pd.DataFrame:
        with on_threads(threads):
            game = games.make("coin", horizon=size.horizon)
            seconds = median_seconds(partial(play_at_random, game, batch), size.cost_updates)
            rows = [("random play", batch, size.horizon, 0, batch * size.horizon / seconds, 0.0)]  # no network
            for horizon, hidden in dict.fromkeys(shapes):
                settings = Recurrent("advantage_alignment", games=per_update, hidden=hidden)
                learner, update = updater(games.make("coin", horizon=horizon), settings)
                seconds = median_seconds(update, size.cost_updates)
                steps = per_update * horizon / seconds
                rows.append(("update", per_update, horizon, hidden, steps, update_gflop(learner) / seconds))
            for hidden in SPEED_WIDTHS:  # one step of all games, both seats, again and again
                seconds = median_seconds(products(2 * per_update, hidden, 200), size.cost_updates)
                gflop = 200 * 2 * 2 * per_update * hidden * 3 * hidden / 1e9
                rows.append(("matrix products", per_update, 1, hidden, 0.0, gflop / seconds))  # no game
        columns = ["what", "games", "horizon", "hidden", "game_steps_per_second", "gflop_per_second"]
        return pd.DataFrame(rows, columns=columns).assign(threads=threads)

    return records.recorded(profile, f"coin_speed/{part}", config, compute, fresh)


# --- what `experiments` registers


def parts(game: str, profile: str) -> list[str]:
    """AGENT-SEED of every run of a game."""
    return [f"{agent}-{seed}" for agent in AGENTS[game] for seed in range(SIZES[profile].seeds)]


def runs(profile: str) -> dict[str, list[str]]:
    """Every run of this module: experiment -> its parts."""
    return {
        **{game: parts(game, profile) for game in AGENTS},
        **{f"{game}_{what}": ["all"] for game in AGENTS for what in ("league", "episode")},
        **{f"{game}_map": [str(cell) for cell in range(2 if profile == "smoke" else len(MAPS[game]))] for game in MAPS},
        "negotiation_long": [str(seed) for seed in range(SIZES[profile].seeds)],
        "shaping_cost": list(PRICED),
        "coin_speed": [str(threads) for threads in SPEED_THREADS],
    }


def needs(experiment: str, profile: str) -> list[str]:
    """Runs, as EXPERIMENT/PART, that a run builds on."""
    game, _, what = experiment.partition("_")
    return [f"{game}/{part}" for part in parts(game, profile)] if what in ("league", "episode") else []


EXPERIMENTS: Mapping[str, Callable[..., pd.DataFrame]] = {
    **{game: partial(agent_run, game) for game in AGENTS},
    **{f"{game}_league": partial(league_run, game) for game in AGENTS},
    **{f"{game}_episode": partial(episode_run, game) for game in AGENTS},
    **{f"{game}_map": partial(map_run, game) for game in AGENTS},
    "negotiation_long": long_run,
    "shaping_cost": shaping_cost,
    "coin_speed": coin_speed,
}

TABLES: Mapping[str, tuple[Sequence[str], Callable[[pd.DataFrame], pd.DataFrame]]] = {
    **{f"{game}_curves": ([game], lambda table: table) for game in AGENTS},
    **{name: ([name], lambda table: table) for name in EXPERIMENTS if name not in AGENTS},
}
