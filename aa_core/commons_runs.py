"""The runs behind notebook 07: Commons Harvest with PPO, PPO with summed rewards and Proximal Advantage Alignment.

A run trains one seed and keeps its network beside its table, with what it earns along training and, at the end, in two
scenarios: some seats are taken by scripted harvesters of ours, which zap (scenario 0) or do not (scenario 1), as the
background players of Melting Pot do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import pandas as pd
import torch

from aa_core import advantages, commons, objectives, records
from aa_core.commons import Commons, Episode, Network, Player, play_episode
from aa_core.games import harvest
from aa_core.games.harvest import HarvestGame, HarvestState, collective_return, equality, peace, sustainability

ALGORITHMS = commons.ALGORITHMS
_AA = "proximal_advantage_alignment"
SCENARIOS = {"scenario_zapping": "free harvester with zapping", "scenario_peaceful": "free harvester"}
REFERENCES = {"random": "random", "free_harvesters": "free harvester"}


@dataclass(frozen=True)
class Size:
    """How much is played in a profile, apart from the settings of training."""

    map: str
    players: int
    window: tuple[int, int, int]  # cells seen ahead, behind and to each side; Melting Pot's is (9, 1, 5)
    seeds: int
    evaluate_every: int  # updates between two points of a learning curve
    curve_worlds: int  # for each of those
    evaluation_worlds: int  # at the end, and in each scenario
    background: int  # seats of a scenario that scripts hold
    variant_seeds: int


# "extended" is the published map, in twenty minutes of one core; it is not part of the build
SIZES = {
    "smoke": Size("pond", 2, (2, 1, 1), 2, 2, 2, 2, 1, 2),
    "laptop": Size("orchard", 7, (5, 1, 3), 5, 25, 8, 32, 2, 3),
    "extended": Size("open", 7, (5, 1, 3), 5, 25, 8, 32, 2, 0),
    "paper": Size("open", 7, (9, 1, 5), 10, 100, 8, 32, 2, 5),
}
_LAPTOP = Commons(updates=300, worlds=32, chunk=50, lifetime=500, beta=0.1, learning_rate=1e-3)
_BASE = {
    "smoke": Commons(updates=4, worlds=4, chunk=5, lifetime=20, filters=2, hidden=8),
    "laptop": _LAPTOP,
    "extended": replace(_LAPTOP, beta=0.3, learning_rate=2e-3),
    # as AA's repository has it, whose memory is a transformer over 15 steps; it does not say how long it trains
    "paper": Commons(
        updates=100_000, worlds=6, chunk=15, lifetime=990, beta=1.0, past="averaged", entropy=0.1, learning_rate=1e-5,
        clip=0.1, max_gradient_norm=10.0, filters=64, hidden=192, past_seats=2, past_every=20, past_capacity=4000,
    ),
}  # fmt: skip


def settings_of(algorithm: str, profile: str) -> Commons:
    """Settings of training by profile; the algorithms differ in nothing else."""
    return replace(_BASE[profile], algorithm=algorithm)


def game_of(profile: str) -> HarvestGame:
    """The game of a profile, which ends with the worlds' lifetime."""
    size = SIZES[profile]
    return HarvestGame(size.map, size.players, _BASE[profile].lifetime, size.window)


def code_hash() -> str:
    """Of everything that the numbers depend on, this module's settings apart (they are in each configuration)."""
    return records.code_hash(advantages, commons, harvest, objectives)


# --- measuring


def measure(episode: Episode) -> dict[str, float]:
    """The metrics of the social-dilemma literature, means over worlds."""
    found = {
        "collective_return": collective_return(episode.rewards),
        "sustainability": sustainability(episode.rewards),
        "equality": equality(episode.rewards),
        "peace": peace(episode.out),
        "apples_at_end": episode.apples[:, -1].float(),
    }
    return {name: value.mean().item() for name, value in found.items()}


def evaluate(game: HarvestGame, player: Player, worlds: int, background: int, seed: int) -> dict[str, float]:
    """`measure` with everybody the same, and the focal per-capita return in both SCENARIOS.

    Args:
        game: what is played.
        player: who holds all seats, or in a scenario all but the last `background`.
        worlds: of each.
        background: seats of a scenario that its script holds.
        seed: of all randomness.
    """
    generator = torch.Generator().manual_seed(seed)
    found = measure(play_episode(game, [player] * game.num_players, worlds, generator))
    focal = game.num_players - background
    for scenario, script in SCENARIOS.items():
        players = [player] * focal + [harvest.SCRIPTED[script]] * background
        rewards = play_episode(game, players, worlds, generator).rewards
        found[scenario] = rewards[:, :focal].sum(-1).mean().item()
    return found


# --- training


def _network_path(part: str, profile: str) -> Path:
    return records.table_path(profile, f"harvest/{part}").with_suffix(".safetensors")


def train_agent(game: HarvestGame, settings: Commons, seed: int, size: Size) -> tuple[pd.DataFrame, Network]:
    """Train one seed; rows (update, metric, value) along training and at its end, and the network."""
    rows: list[tuple[int, str, float]] = []

    def on_update(number: int, network: Network, _: commons.Played) -> None:
        if number % size.evaluate_every == 0:
            generator = torch.Generator().manual_seed(12345)
            found = measure(play_episode(game, [network] * game.num_players, size.curve_worlds, generator))
            rows.extend((number, metric, value) for metric, value in found.items())

    network = commons.train(game, settings, seed, on_update)
    found = evaluate(game, network, size.evaluation_worlds, size.background, seed=54321)
    rows.extend((settings.updates, metric, value) for metric, value in found.items())
    return pd.DataFrame(rows, columns=["update", "metric", "value"]), network


def agent_run(part: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """Training of one seed; `part` is ALGORITHM-SEED. Its network is kept beside the table."""
    algorithm, seed = part.rsplit("-", 1)
    game, settings, path = game_of(profile), settings_of(algorithm, profile), _network_path(part, profile)
    config = asdict(settings) | {"seed": int(seed), "size": asdict(SIZES[profile]), "code": code_hash()}

    def compute() -> pd.DataFrame:
        from safetensors.torch import save_file

        table, network = train_agent(game, settings, int(seed), SIZES[profile])
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(network.state_dict(), path)
        return _named(table, game, algorithm, int(seed))

    return records.recorded(profile, f"harvest/{part}", config, compute, fresh or not path.is_file())


COLUMNS = ["map", "players", "algorithm", "seed", "update", "metric", "value"]


def _named(table: pd.DataFrame, game: HarvestGame, algorithm: str, seed: int) -> pd.DataFrame:
    return table.assign(map=game.map, players=game.num_players, algorithm=algorithm, seed=seed)[COLUMNS]


def trained(algorithm: str, seed: int, profile: str) -> Network:
    """The network of a run, which is made if it is missing."""
    from safetensors.torch import load_file

    part = f"{algorithm}-{seed}"
    agent_run(part, profile)
    settings = settings_of(algorithm, profile)
    network = Network(game_of(profile), settings.filters, settings.hidden, torch.Generator())
    network.load_state_dict(load_file(_network_path(part, profile)))
    return network


def reference_run(name: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """`evaluate` of players that do not learn, REFERENCES, as often as there are seeds."""
    size, game = SIZES[profile], game_of(profile)
    config = {"size": asdict(size), "horizon": game.horizon, "script": REFERENCES[name], "code": code_hash()}

    def compute() -> pd.DataFrame:
        tables = []
        for seed in range(size.seeds):
            script = harvest.SCRIPTED[REFERENCES[name]]
            found = evaluate(game, script, size.evaluation_worlds, size.background, seed)
            table = pd.DataFrame([(0, metric, value) for metric, value in found.items()])
            tables.append(_named(table.set_axis(["update", "metric", "value"], axis=1), game, name, seed))
        return pd.concat(tables)

    return records.recorded(profile, f"harvest_reference/{name}", config, compute, fresh)


# --- what the figures show of the trained


def episode_run(part: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """Apples alive and players in play along whole episodes, means over worlds, of every seed; `part` is "all"."""
    size, game = SIZES[profile], game_of(profile)
    config = {"runs": _sources(profile), "size": asdict(size), "horizon": game.horizon, "code": code_hash()}
    every = max(1, game.horizon // 100)

    def compute() -> pd.DataFrame:
        tables = []
        players = [(a, seed, trained(a, seed, profile)) for a in ALGORITHMS for seed in range(size.seeds)]
        for algorithm, seed, player in [*players, ("random", 0, harvest.random_player)]:
            generator = torch.Generator().manual_seed(seed)
            episode = play_episode(game, [player] * game.num_players, size.evaluation_worlds, generator)
            columns = {
                "step": range(1, game.horizon + 1),
                "apples": episode.apples.float().mean(0),
                "eaten": episode.rewards.sum(1).cumsum(-1).mean(0),
                "in_play": (~episode.out).sum(1).float().mean(0),
            }
            table = pd.DataFrame(columns).iloc[::every]
            tables.append(table.assign(algorithm=algorithm, seed=seed)[["algorithm", "seed", *columns]])
        return pd.concat(tables)

    return records.recorded(profile, f"harvest_episode/{part}", config, compute, fresh)


def frames_run(part: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """One world, seen now and then, of the first seed of every algorithm from the same start; `part` is "all".

    Columns: algorithm, step, apples (a letter for each of `game.apple_cells`: A alive, x not), and cells, headings and
    out of all players, as numbers with spaces between them.
    """
    game = game_of(profile)
    config = {"runs": _sources(profile), "horizon": game.horizon, "code": code_hash()}
    every = max(1, game.horizon // 100)

    def compute() -> pd.DataFrame:
        rows: list[tuple[str, int, str, str, str, str]] = []
        for algorithm in ALGORITHMS:
            player = trained(algorithm, 0, profile)

            def on_step(step: int, state: HarvestState, algorithm: str = algorithm) -> None:
                if step % every == 0 or step == game.horizon - 1:
                    apples = "".join("A" if alive else "x" for alive in state.apples[0])
                    numbers = [" ".join(map(str, x[0].tolist())) for x in (state.cell, state.heading, state.out)]
                    rows.append((algorithm, step, apples, *numbers))

            play_episode(game, [player] * game.num_players, 1, torch.Generator().manual_seed(1), on_step)
        return pd.DataFrame(rows, columns=["algorithm", "step", "apples", "cells", "headings", "out"])

    return records.recorded(profile, f"harvest_frames/{part}", config, compute, fresh)


def frame_state(game: HarvestGame, row: pd.Series) -> HarvestState:
    """The world of a row of `frames_run`, a batch of one; what a row does not hold (zaps, cooldown) is as at reset."""
    cell, heading, out = (
        torch.tensor([[int(x) for x in str(row[name]).split()]]) for name in ("cells", "headings", "out")
    )
    state, _ = game.reset(1, torch.Generator())
    apples = torch.tensor([[letter == "A" for letter in row["apples"]]])
    return replace(state, cell=cell, heading=heading, out=out, apples=apples, time=int(row["step"]))


NEIGHBOURS = {"0": (0, 0), "1": (1, 1), "2": (2, 2), "3-4": (3, 4), "5-12": (5, 12)}  # live ones when an apple is eaten


def credit_run(part: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """What the credit of Advantage Alignment says of eating an apple, by its live neighbours; `part` is "all".

    In the worlds that players trained by AA or PPO leave, means over all apples eaten: the own normalised advantage,
    the weight of the past (beta gamma w_t), the sum of the co-players' advantages, and the alignment term, the mean of
    the product of these two. For PPO it is what alignment would add. (Critics of summed rewards foresee another sum.)
    """
    size, settings = SIZES[profile], settings_of(_AA, profile)
    config = asdict(settings) | {"runs": _sources(profile), "size": asdict(size), "code": code_hash()}

    def compute() -> pd.DataFrame:
        rows = []
        for algorithm in (_AA, "ppo"):
            for seed in range(size.seeds):
                eaten = _credit_of_eating(trained(algorithm, seed, profile), settings, profile, seed)
                for name, (low, high) in NEIGHBOURS.items():
                    here = eaten[eaten.neighbours.between(low, high)]
                    if len(here):
                        rows.append((algorithm, seed, name, len(here), *here.drop(columns="neighbours").mean()))
        return pd.DataFrame(rows, columns=["algorithm", "seed", "neighbours", "apples", *CREDIT_COLUMNS])

    return records.recorded(profile, f"harvest_credit/{part}", config, compute, fresh)


CREDIT_COLUMNS = ["own", "past", "others", "alignment"]


def _credit_of_eating(network: Network, settings: Commons, profile: str, seed: int) -> pd.DataFrame:
    """A row for each apple eaten in the last third of one lifetime and a half, as `credit_run` says."""
    played: list[tuple[HarvestState, HarvestState]] = []

    class Watched(HarvestGame):
        def step(self, state: HarvestState, *arguments: torch.Tensor | torch.Generator | None) -> tuple:
            result = super().step(state, *arguments)
            played.append((state, result[0]))
            return result

    game = Watched(**{field.name: getattr(game_of(profile), field.name) for field in fields(HarvestGame)})
    generator, tables = torch.Generator().manual_seed(seed), []
    stage = commons.begin(game, settings, generator)
    chunks = settings.lifetime * 3 // settings.chunk // 2
    for chunk in range(chunks):
        played.clear()
        found = commons.play_chunk(game, network, None, stage, settings, generator)
        commons.begin_anew(game, stage, settings.lifetime, generator)
        if chunk < chunks * 2 // 3:  # the worlds' first lifetime is cut short
            continue
        gained = advantages.gae(found.rewards, found.values, settings.gamma, settings.lam)
        own = commons.credits(replace(settings, beta=0.0), gained)
        past = settings.beta * settings.gamma * advantages.shaping_weights(own, settings.gamma)
        others = own.sum(1, keepdim=True) - own
        for t, (before, after) in enumerate(played):
            apple = (after.cell[..., None] == game.apple_cells).int().argmax(-1)
            near = (before.apples.float() @ game.neighbours).gather(1, apple)
            columns = (near, *(x[..., t] for x in (own, past, others, past * others)))
            tables.append(torch.stack([column[after.ate] for column in columns], 1))
    return pd.DataFrame(torch.cat(tables).numpy(), columns=["neighbours", *CREDIT_COLUMNS])


def _sources(profile: str) -> dict[str, str | None]:
    """Checksum of each run that episodes are played by."""
    return {part: (records.record_of(profile, f"harvest/{part}") or {}).get("table_sha256") for part in parts(profile)}


# --- variants: how many players, who does not cooperate, which formula

RING = ((0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 0, 0, 0))  # everybody cares for the next one only
# (question, cell) -> players and settings; what a cell does not say is as in _VARIANT_BASE
VARIANTS: dict[tuple[str, str], dict[str, object]] = {
    **{
        ("players", f"{algorithm}, {count} players"): {"algorithm": algorithm, "players": count}
        for count in (2, 4, 7)
        for algorithm in ALGORITHMS
    },
    **{
        ("one never cooperates", f"{algorithm}, one free rider"): {"algorithm": algorithm, "free_riders": 1}
        for algorithm in ALGORITHMS
    },
    ("strength", "β 0.03"): {"beta": 0.03},
    ("strength", "β 0.3"): {"beta": 0.3},
    ("strength", "β 1"): {"beta": 1.0},
    ("aggregate", "mean"): {"over": "mean"},
    ("aggregate", "product"): {"over": "product"},
    ("aggregate", "weights: the next one only"): {"over": RING},
    ("past", "averaged, β 0.3"): {"past": "averaged", "beta": 0.3},
    ("past", "averaged, β 1"): {"past": "averaged", "beta": 1.0},
    ("past", "averaged, β 3"): {"past": "averaged", "beta": 3.0},
    ("agent buffer", "one seat past"): {"past_seats": 1},
}
_VARIANT_BASE = {
    "smoke": Commons(updates=2, worlds=4, chunk=5, lifetime=20, filters=2, hidden=8),
    "laptop": replace(_LAPTOP, updates=250),
    "paper": Commons(updates=2000, worlds=64, chunk=50, lifetime=1000, learning_rate=1e-3),
}


def variant_run(part: str, profile: str, fresh: bool = False) -> pd.DataFrame:
    """One cell of VARIANTS, `part` its number, in the orchard, with some seeds: `measure` at the end of training."""
    (question, cell), changes = list(VARIANTS.items())[int(part)]
    changes = dict(changes)
    game = HarvestGame(
        "orchard", changes.pop("players", 4), horizon=_VARIANT_BASE[profile].lifetime, window=SIZES[profile].window
    )
    settings = replace(_VARIANT_BASE[profile], **changes)
    size = SIZES[profile]
    config = asdict(settings) | {"game": asdict(game), "size": asdict(size), "code": code_hash()}

    def compute() -> pd.DataFrame:
        tables = []
        for seed in range(size.variant_seeds):
            network = commons.train(game, settings, seed)
            free = [harvest.SCRIPTED["free harvester"]] * settings.free_riders
            players = [network] * (game.num_players - settings.free_riders) + free
            episode = play_episode(game, players, size.evaluation_worlds, torch.Generator().manual_seed(54321))
            found = measure(episode)
            if free:
                returns = episode.rewards.sum(-1).mean(0)
                found |= {
                    "return_of_learners": returns[: -len(free)].mean().item(),
                    "return_of_free_rider": returns[-1].item(),
                }
            rows = pd.DataFrame([(metric, value) for metric, value in found.items()], columns=["metric", "value"])
            tables.append(rows.assign(seed=seed))
        table = pd.concat(tables).assign(
            question=question, cell=cell, algorithm=settings.algorithm, players=game.num_players
        )
        return table[["question", "cell", "algorithm", "players", "seed", "metric", "value"]]

    return records.recorded(profile, f"harvest_variants/{part}", config, compute, fresh)


# --- what `experiments` registers


def parts(profile: str) -> list[str]:
    """ALGORITHM-SEED of every training."""
    return [f"{algorithm}-{seed}" for algorithm in ALGORITHMS for seed in range(SIZES[profile].seeds)]


def runs(profile: str) -> dict[str, list[str]]:
    """Every run of this module: experiment -> its parts."""
    variants = range(len(VARIANTS)) if SIZES[profile].variant_seeds else ()
    return {
        "harvest": parts(profile),
        "harvest_reference": list(REFERENCES),
        "harvest_episode": ["all"],
        "harvest_frames": ["all"],
        "harvest_credit": ["all"],
        "harvest_variants": [str(cell) for cell in variants],
    }


PLAYED = ("harvest_episode", "harvest_frames", "harvest_credit")  # by the trained networks


def needs(experiment: str, profile: str) -> list[str]:
    """Runs, as EXPERIMENT/PART, that a run builds on."""
    return [f"harvest/{part}" for part in parts(profile)] if experiment in PLAYED else []


EXPERIMENTS: Mapping[str, Callable[..., pd.DataFrame]] = {
    "harvest": agent_run,
    "harvest_reference": reference_run,
    "harvest_episode": episode_run,
    "harvest_frames": frames_run,
    "harvest_credit": credit_run,
    "harvest_variants": variant_run,
}


def _last(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["update"] == table["update"].max()].drop(columns="update")


TABLES: Mapping[str, tuple[Sequence[str], Callable[[pd.DataFrame], pd.DataFrame]]] = {
    "harvest": (["harvest", "harvest_reference"], _last),
    "harvest_curves": (["harvest"], lambda table: table),
    **{name: ([name], lambda table: table) for name in (*PLAYED, "harvest_variants")},
}
