"""Settings of the language-model runs, by profile; light to import, since the build asks for the list of runs.

A run is called GAME-VARIANT-SEED, for instance `ipd-advantage_alignment-0`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aa_core.checks import check_choice


@dataclass(frozen=True)
class Training:
    """Settings of one training.

    Attributes:
        game: text game.
        model: "tiny", or any that `models.load` knows.
        credit: naive, sum_of_rewards or advantage_alignment.
        co_player: "self"; "kind", the untrained model (the embedded one is a cooperative prior); or "trained", an
            adapter that `train` is given.
        updates: of the adapter; one per batch of games.
        games: of one update.
        group: games that share every random draw of the environment.
        rounds: of a game.
        gamma: discount per round, of returns and of alignment.
        beta: strength of alignment.
        reward_scale: rewards are divided by it.
        learning_rate: of AdamW, constant.
        entropy: coefficient of the entropy bonus.
        kl: coefficient of the KL penalty to the model without adapter.
        baseline: group, batch or none.
        include_current: just-in-time alignment.
        buffer_every: updates between two copies for the agent buffer; None: no buffer.
        unconditional: embedded model only: warm it up to a prior that does not condition on the last round (IPD).
        cold: embedded model only: smaller and hardly warmed up, for tests in seconds.
        rank: of LoRA; alpha is twice that.
        max_new_tokens: of one reply.
        evaluation_games: per measurement after training.
        micro_batch: chats per forward and backward pass; None: all of an update.
    """

    game: str = "ipd"
    model: str = "tiny"
    credit: str = "advantage_alignment"
    co_player: str = "self"
    updates: int = 60
    games: int = 64
    group: int = 64
    rounds: int = 10
    gamma: float = 0.9
    beta: float = 1.0
    reward_scale: float = 5.0
    learning_rate: float = 1e-3
    entropy: float = 0.01
    kl: float = 0.0
    baseline: str = "group"
    include_current: bool = False
    buffer_every: int | None = None
    unconditional: bool = False
    cold: bool = False
    rank: int = 16
    max_new_tokens: int = 4
    evaluation_games: int = 128
    micro_batch: int | None = None

    @property
    def both_learn(self) -> bool:
        """Whether both seats are the learner's: in self-play without a buffer."""
        return self.co_player == "self" and self.buffer_every is None


# P(cooperate | START, CC, CD, DC, DD) of the prior in the prisoner's dilemma: kind, hardly reciprocal
IPD_PRIOR = (0.85, 0.89, 0.75, 0.86, 0.70)


@dataclass(frozen=True)
class WarmUp:
    """Settings of the embedded model and its warm-up."""

    game: str = "ipd"
    hidden_size: int = 64
    layers: int = 2
    heads: int = 4
    # large words, sharp attention, and rotary frequencies for chats of a thousand tokens: 300 steps find what was said
    # where, and which hand beats which
    embedding_range: float = 0.3
    initializer_range: float = 0.1
    rope_theta: float = 300.0
    games: int = 2048  # one transcript each
    rounds: int = 10
    batch: int = 16
    steps: int = 300
    # Trust-and-Split, before that: on who has the upper hand alone; on rounds without rules and recaps; on rounds
    # without rules, where greed is always answered
    drill_steps: tuple[int, int, int] = (0, 0, 0)
    learning_rate: float = 3e-3
    ipd_prior: tuple[float, ...] = IPD_PRIOR
    fairness: float = 0.85  # share of fair claims in Split and Trust-and-Split
    fairness_after_greed: float = 0.5  # the same after a round in which the other was greedy
    honesty: float = 0.9  # share of true messages in Trust-and-Split
    seed: int = 0


# The sharing games are warmed up at the length that is trained; see `tiny.warm_up` for the drills
WARM_UPS = {
    "ipd": WarmUp(),
    "split": WarmUp("split", rounds=4, steps=500),
    "trust_and_split": WarmUp(
        "trust_and_split", rounds=4, drill_steps=(200, 250, 300), fairness=0.9, fairness_after_greed=0.4, honesty=0.95
    ),
}

# Alignment multiplies two advantages, the naive term is one: beta / reward_scale sets their balance. Micro-batches keep
# a small model's activations in a core's cache. The prisoner's dilemma stops at 36 updates, while its agents cooperate,
# and has a little KL in place of the paper's entropy bonus, which holds the format: the variants aa_long and
# aa_long_entropy show what comes otherwise.
_IPD = Training(updates=36, entropy=0.0, kl=0.02, micro_batch=32)
_SPLIT = Training(
    game="split",
    games=32,
    group=8,
    rounds=4,
    reward_scale=40.0,
    entropy=0.0,
    updates=50,
    max_new_tokens=12,
    micro_batch=16,
)
# A memory of one round sees greed only if the other had the lower hand: cooperation pays less, alignment must do more
_TRUST = replace(_SPLIT, game="trust_and_split", gamma=0.96, reward_scale=10.0, updates=40, max_new_tokens=24)
_QWEN = dict(
    model="Qwen/Qwen2.5-7B-Instruct", updates=3000, rounds=10, learning_rate=3e-6, rank=32, max_new_tokens=400,
    micro_batch=1, evaluation_games=256,
)  # fmt: skip

# profile -> game -> settings of Advantage Alignment; those of the paper: its appendix and released configurations
BASE: dict[str, dict[str, Training]] = {
    "smoke": {
        game.game: replace(game, updates=2, games=4, group=2, rounds=2, evaluation_games=2, cold=True, micro_batch=None)
        for game in (_IPD, _SPLIT, _TRUST)
    },
    "laptop": {game.game: game for game in (_IPD, _SPLIT, _TRUST)},
    "paper": {
        "ipd": replace(
            _IPD, games=128, group=128, beta=0.5, entropy=0.01, kl=0.0, buffer_every=10, **(_QWEN | {"micro_batch": 4})
        ),
        "split": replace(_SPLIT, games=64, reward_scale=100.0, entropy=0.0, kl=0.001, buffer_every=10, **_QWEN),
        "trust_and_split": replace(
            _TRUST, games=64, reward_scale=100.0, beta=2.0, entropy=0.0, kl=0.001, buffer_every=10, **_QWEN
        ),
    },
}
GAMES = ("ipd", "split", "trust_and_split")
MAIN = ("naive", "sum_of_rewards", "advantage_alignment")
# variant -> what differs from Advantage Alignment. As in the paper the baselines have neither buffer nor entropy bonus.
_PLAIN = dict(buffer_every=None, entropy=0.0)
VARIANTS: dict[str, dict[str, object]] = {
    "naive": dict(credit="naive", **_PLAIN),
    "sum_of_rewards": dict(credit="sum_of_rewards", **_PLAIN),
    "advantage_alignment": {},
    "naive_vs_kind": dict(credit="naive", co_player="kind", **_PLAIN),
    "naive_vs_aligned": dict(credit="naive", co_player="trained", **_PLAIN),
    "aa_buffer": dict(buffer_every=10),
    "aa_no_buffer": dict(buffer_every=None),
    "aa_batch_baseline": dict(baseline="batch"),
    "aa_no_baseline": dict(baseline="none"),
    "aa_beta_0.25": dict(beta=0.25),
    "aa_beta_2": dict(beta=2.0),
    "aa_long": dict(updates=60),
    "aa_long_entropy": dict(updates=60, entropy=0.01, kl=0.0),
    "aa_unconditional": dict(unconditional=True),
}
# the paper repeats naive learning with other models
OTHER_MODELS = {
    "naive_qwen3": "Qwen/Qwen3-8B",
    "naive_llama": "meta-llama/Llama-3.1-8B-Instruct",
    "naive_gemma": "google/gemma-3-4b-it",
}
VARIANTS |= {variant: dict(credit="naive", model=model, **_PLAIN) for variant, model in OTHER_MODELS.items()}
_OTHERS = {
    "ipd": [
        "naive_vs_kind", "naive_vs_aligned", "aa_buffer", "aa_no_baseline", "aa_beta_0.25", "aa_beta_2", "aa_long",
        "aa_long_entropy", "aa_unconditional",
    ],
    "split": ["naive_vs_kind", "naive_vs_aligned", "aa_batch_baseline"],
    "trust_and_split": ["naive_vs_kind"],
}  # fmt: skip
SEEDS = {
    "smoke": {"main": dict(ipd=1, split=1, trust_and_split=1), "others": 1},
    "laptop": {"main": dict(ipd=5, split=5, trust_and_split=3), "others": 3},
    "paper": {"main": dict(ipd=3, split=3, trust_and_split=3), "others": 3},
}


def training(profile: str, game: str, variant: str) -> Training:
    """Settings of one run."""
    check_choice("profile", profile, BASE)
    check_choice("game", game, BASE[profile])
    check_choice("variant", variant, VARIANTS)
    base, changes = BASE[profile][game], dict(VARIANTS[variant])
    if profile == "smoke":
        changes.pop("updates", None)
    return replace(base, **changes)


def main_parts(profile: str) -> list[str]:
    """Names of the runs that compare the three algorithms."""
    seeds = SEEDS[profile]["main"]
    return [f"{game}-{variant}-{seed}" for game in GAMES for variant in MAIN for seed in range(seeds[game])]


def played(profile: str) -> list[str]:
    """Games that a profile has runs of."""
    return [game for game in GAMES if SEEDS[profile]["main"][game]]


def parts(profile: str) -> list[str]:
    """Names of all runs of a profile."""
    seeds = SEEDS[profile]
    names = main_parts(profile)
    for game, variants in _OTHERS.items():
        for variant in variants:
            if profile == "paper":  # its Advantage Alignment has a buffer, 3,000 updates and an entropy bonus
                if variant.startswith("aa_long"):
                    continue
                variant = {"aa_buffer": "aa_no_buffer"}.get(variant, variant)
            names += [f"{game}-{variant}-{seed}" for seed in range(seeds["others"])]
    if profile == "paper":
        names += [f"{game}-{variant}-0" for game in GAMES for variant in OTHER_MODELS]
    return names


def split_part(part: str) -> tuple[str, str, int]:
    """(game, variant, seed) of a run's name."""
    game, variant, seed = part.split("-")
    return game, variant, int(seed)
