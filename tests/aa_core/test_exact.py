from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import JOINT, LongGame, Rewards, dp_values, finite_differences, gradient, rewards_of, transition_matrix
from torch import Tensor

from aa_core import exact, games
from aa_core.games import MatrixGame
from aa_core.games.matrix import CLASSIC_PAYOFFS
from aa_core.policies import STRATEGIES, strategy
from aa_core.tabular import rollout

GAMMA, STEPS = 0.8, 300  # 0.8^300 = 1e-29: as good as infinite
every_game = pytest.mark.parametrize("name", games.matrix_names())
seeds = st.integers(0, 10**6)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(seed: int) -> tuple[Tensor, Tensor]:
    """Logits of two random policies."""
    return tuple(normal(2, 5, seed=seed, scale=1.5))


def close(x: Tensor, y: Tensor | np.ndarray, relative: float = 1e-10) -> None:
    """Equal up to a fraction of the largest entry."""
    y = torch.as_tensor(y)
    torch.testing.assert_close(x, y, rtol=0, atol=relative * y.abs().max().item() + 1e-14)


# --- values


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [  # known values of -1/-3/0/-2 at gamma .96 (DiCE's and MFOS's exact games)
        ("tit for tat", "tit for tat", (-25, -25)),
        ("always cooperate", "always cooperate", (-25, -25)),
        ("always defect", "always defect", (-50, -50)),
        ("tit for tat", "always defect", (-51, -48)),
        ("always defect", "always cooperate", (0, -75)),
        ("random", "random", (-37.5, -37.5)),
        ("tit for tat", "random", (-38, -36.5)),
    ],
)
def test_known_values_of_the_prisoners_dilemma(first: str, second: str, expected: tuple[float, float]) -> None:
    game = games.make("prisoners_dilemma")
    values = exact.values(strategy(first), strategy(second), game, 0.96)
    assert values.tolist() == pytest.approx(expected)
    per_round = exact.values(strategy(first), strategy(second), game, 0.96, per_round=True)
    assert per_round.tolist() == pytest.approx([0.04 * v for v in expected])


def test_gamma_zero_is_a_single_round() -> None:
    values = exact.values(strategy("always defect"), strategy("tit for tat"), games.make("prisoners_dilemma"), 0.0)
    assert values.tolist() == [0, -3]


@every_game
@given(seeds, st.sampled_from([0.0, 0.5, 0.8, 0.9]))
def test_values_are_those_of_dynamic_programming(name: str, seed: int, gamma: float) -> None:
    logits, co_logits = pair(seed)
    values = exact.values(logits.sigmoid(), co_logits.sigmoid(), games.make(name), gamma)
    close(values, dp_values(logits, co_logits, rewards_of(CLASSIC_PAYOFFS[name]), gamma, 300), 1e-9)


@pytest.mark.parametrize("name", ["chicken", "bach_or_stravinsky"])
def test_values_are_the_mean_of_sampled_games(name: str) -> None:
    gamma, batch = 0.9, 4000
    game = games.make(name, horizon=90)  # 0.9^90 < 1e-4
    logits, co_logits = pair(3)
    tables = torch.stack([logits, co_logits]).sigmoid()
    noise = torch.rand(90, batch, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def act(observation: Tensor, time: int) -> Tensor:
        return (noise[time] >= torch.stack([tables[i, observation[:, i]] for i in (0, 1)], 1)).long()

    rewards = rollout(game, act, batch).rewards.double()  # (batch, players, time)
    returns = (gamma ** torch.arange(90, dtype=torch.float64) * rewards).sum(-1)
    error = returns.mean(0) - exact.values(*tables, game, gamma)
    assert (error.abs() < 4 * returns.std(0) / batch**0.5).all()


@every_game
def test_action_values_and_advantages_are_those_of_dynamic_programming(name: str) -> None:
    logits, co_logits = pair(5)
    oracle = LongGame(logits, co_logits, rewards_of(CLASSIC_PAYOFFS[name]), GAMMA)
    tables = exact.action_probabilities(logits), exact.action_probabilities(co_logits)
    solved = exact.chain(*tables, games.make(name), GAMMA)
    close(solved.q_values, oracle.q_values.reshape(2, 4))
    close(solved.advantages, oracle.advantages.reshape(2, 5, 4))
    close((solved.joint * solved.advantages).sum(-1), torch.zeros(2, 5, dtype=torch.float64))


def test_visits_are_the_discounted_sum_over_time() -> None:
    logits, co_logits = pair(6)
    oracle = LongGame(logits, co_logits, rewards_of(CLASSIC_PAYOFFS["chicken"]), GAMMA)
    tables = exact.action_probabilities(logits), exact.action_probabilities(co_logits)
    visits = exact.visitation(exact.chain(*tables, games.make("chicken"), GAMMA).joint, GAMMA)
    close(visits, oracle.visits())
    assert visits.sum().item() == pytest.approx(1 / (1 - GAMMA))


@given(seeds, st.tuples(*[st.tuples(st.integers(-5, 5), st.integers(-5, 5))] * 4))
def test_exchanging_the_seats_exchanges_the_values(seed: int, payoffs: tuple[tuple[float, float], ...]) -> None:
    first, second = (table.sigmoid() for table in pair(seed))
    game = MatrixGame(payoffs)
    close(exact.values(second, first, game.swapped(), GAMMA), exact.values(first, second, game, GAMMA).flip(-1))


# --- gradients of values


def value_function(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Values of both players by dynamic programming, (2,)."""
    rewards = rewards_of(CLASSIC_PAYOFFS[name])
    return lambda logits, co_logits: dp_values(logits, co_logits, rewards, GAMMA, 150)


@every_game
def test_naive_gradient_is_the_slope_of_the_value(name: str) -> None:
    (logits, co_logits), value = pair(7), value_function(name)
    game = games.make(name)
    own = finite_differences(lambda x: value(x, co_logits)[0], logits)
    close(exact.naive_gradient(logits, co_logits, game, GAMMA), own, 1e-7)


def after_step(value: Callable[[Tensor, Tensor], Tensor], step_size: float, co_logits: Tensor) -> Callable:
    """V1 as a function of logits after a step of the co-player, whose gradient is by autograd through the loop."""

    def shaped(logits: Tensor) -> Tensor:
        other = co_logits.detach().requires_grad_()
        step = torch.autograd.grad(value(logits, other)[1], other, create_graph=True)[0]
        return value(logits, other.detach() + step_size * step)[0]

    return shaped


@pytest.mark.parametrize("step_size", [0.3, 2.0])
@every_game
def test_lola_is_the_slope_of_the_value_after_the_co_players_step(name: str, step_size: float) -> None:
    (logits, co_logits), value = pair(8), value_function(name)
    shaped = after_step(value, step_size, co_logits)
    result = exact.lola_gradient(logits, co_logits, games.make(name), GAMMA, step_size)
    close(result, gradient(shaped, logits))
    close(result, finite_differences(shaped, logits), 1e-6)


@every_game
def test_first_order_lola_is_the_product_of_two_slopes(name: str) -> None:
    (logits, co_logits), value = pair(9), value_function(name)
    stake = gradient(lambda x, y: value(x, y)[0], logits, co_logits, position=1)

    def stake_times_step(x: Tensor) -> Tensor:
        other = co_logits.detach().requires_grad_()
        return stake @ torch.autograd.grad(value(x, other)[1], other, create_graph=True)[0]

    shaping = exact.lola_shaping(logits, co_logits, games.make(name), GAMMA)
    close(shaping, gradient(stake_times_step, logits))
    close(shaping, finite_differences(stake_times_step, logits), 1e-6)
    naive = gradient(lambda x: value(x, co_logits)[0], logits)
    result = exact.lola_gradient(logits, co_logits, games.make(name), GAMMA, 0.7, first_order=True)
    close(result, naive + 0.7 * shaping)


def test_a_small_step_of_lola_adds_what_the_expansion_says() -> None:
    # V1(theta_2 + h g) = V1 + h <grad_2 V1, g> + O(h^2); the slope of the bracket has two parts
    logits, co_logits = pair(10)
    game = games.make("chicken")

    def bracket(x: Tensor) -> Tensor:
        other = co_logits.detach().requires_grad_()
        first, second = dp_values(x, other, rewards_of(CLASSIC_PAYOFFS["chicken"]), GAMMA, 150)
        slopes = [torch.autograd.grad(v, other, create_graph=True)[0] for v in (first, second)]
        return slopes[0] @ slopes[1]

    h = 1e-6
    added = exact.lola_gradient(logits, co_logits, game, GAMMA, h) - exact.naive_gradient(
        logits, co_logits, game, GAMMA
    )
    close(added / h, gradient(bracket, logits), 1e-4)


def test_lola_without_a_step_is_naive() -> None:
    game = games.make("chicken")
    close(exact.lola_gradient(*pair(1), game, GAMMA, 0.0), exact.naive_gradient(*pair(1), game, GAMMA))


# --- Theorem 1: LOLA as a policy gradient


@every_game
@given(seeds, st.sampled_from([0.0, 0.5, 0.9, 0.96]))
def test_lola_with_orthonormal_scores_is_its_alignment_form(name: str, seed: int, gamma: float) -> None:
    logits, co_logits = pair(seed)
    game = games.make(name)
    log_table = exact.action_probabilities(co_logits).log()
    lola = exact.lola_shaping(logits, log_table, game, gamma, co_policy=torch.exp)
    close(sum(exact.lola_alignment_form(logits, co_logits, game, gamma)), lola)


@every_game
def test_alignment_form_is_the_expectation_over_two_times(name: str) -> None:
    logits, co_logits = pair(11)
    gamma, steps = 0.7, 80  # 0.7^80 = 4e-13
    game = LongGame(logits, co_logits, rewards_of(CLASSIC_PAYOFFS[name]), gamma, steps)
    visits = game.visits()
    q_of_b = np.einsum("sa,iab->isb", game.policy, game.q_values)  # Q_i(s, b)
    stake = visits[:, None] * game.co_policy * q_of_b[0]  # w(s, b)

    everything = list(product(range(5), range(2), range(2)))
    at = list(game.distributions())
    aligned, visiting = np.zeros(5), np.zeros(5)
    for k in range(steps):
        # E[w_k 1{s_t = s}] for t >= k, and E[grad log pi1 at k ... w_t Q2_t] for t > k, both by going forward from k
        carried, scored = np.zeros(5), np.zeros((5, 5))
        for s, a, b in everything:
            probability = at[k][s] * game.policy[s, a] * game.co_policy[s, b]
            aligned += gamma**k * probability * stake[s, b] * game.advantages[1, s, a, b] * game.score(s, a)
            carried[1 + 2 * a + b] += probability * stake[s, b]
            scored[1 + 2 * a + b] += probability * game.score(s, a)
        for t in range(k + 1, steps):
            for s in range(1, 5):
                for a, b in product(range(2), range(2)):
                    probability = game.policy[s, a] * game.co_policy[s, b]
                    credit = probability * game.advantages[1, s, a, b] * game.score(s, a)
                    aligned += gamma**t * carried[s] * credit
                    visiting += gamma**t * scored[s] * probability * stake[s, b] * q_of_b[1, s, b]
            transition = np.einsum("sa,sb->sab", game.policy, game.co_policy).reshape(5, 4)
            carried = np.concatenate([[0], carried @ transition])
            scored = np.concatenate([np.zeros((1, 5)), np.einsum("sx,sj->jx", scored, transition)])

    result = exact.lola_alignment_form(logits, co_logits, games.make(name), gamma)
    close(result[0], aligned, 1e-9)
    close(result[1], visiting, 1e-9)


# --- the alignment term


def alignment_oracle(
    game: LongGame, include_current: bool = False, softmax: str = "none", marginal: bool = False
) -> np.ndarray:
    """E sum_k gamma^k A1_k * leading * sum_{t>k} gamma^(t-k) A2_t grad log pi1, literally."""
    live = np.zeros((5, 2, 2, 5))  # (s, a, b) at k -> expected sum over t
    own = game.advantages[0].copy()
    for s, a, b in product(range(5), range(2), range(2)):
        live[s, a, b] = game.live_gradient_after(a, b)
        if include_current:
            live[s, a, b] += game.advantages[1, s, a, b] * game.score(s, a)
    if marginal:
        for s, b in product(range(5), range(2)):
            live[s, :, b] = sum(game.policy[s, a] * live[s, a, b] for a in range(2))
            own[s, :, b] = sum(game.policy[s, a] * own[s, a, b] for a in range(2))
    kept = np.zeros_like(live)
    for s, a, b in product(range(5), range(2), range(2)):
        if softmax == "none":
            kept[s, a, b] = live[s, a, b]
        elif softmax == "taken":
            kept[s, a, b] = (1 - game.co_policy[s, b]) * live[s, a, b]
        else:
            kept[s, a, b] = live[s, a, b] - sum(game.co_policy[s, c] * live[s, a, c] for c in range(2))
    total = np.zeros(5)
    for k, now in enumerate(game.distributions()):
        for s, a, b in product(range(5), range(2), range(2)):
            probability = now[s] * game.policy[s, a] * game.co_policy[s, b]
            total += game.gamma**k * probability * own[s, a, b] * kept[s, a, b]
    return total * (1.0 if include_current else game.gamma)


@pytest.mark.parametrize("marginal", [False, True])
@pytest.mark.parametrize("softmax", ["none", "taken", "full"])
@pytest.mark.parametrize("include_current", [False, True])
def test_alignment_term_is_the_expectation_over_two_times(include_current: bool, softmax: str, marginal: bool) -> None:
    for seed, name in enumerate(["chicken", "bach_or_stravinsky"]):  # the second one is not symmetric
        logits, co_logits = pair(20 + seed)
        oracle = LongGame(logits, co_logits, rewards_of(CLASSIC_PAYOFFS[name]), GAMMA, 200)
        expected = alignment_oracle(oracle, include_current, softmax, marginal)
        result = exact.alignment_shaping(logits, co_logits, games.make(name), GAMMA, include_current, softmax, marginal)
        close(result, expected, 1e-9)


@pytest.mark.parametrize("name", ["chicken", "matching_pennies"])
def test_strict_alignment_weighs_a_pair_of_times_by_gamma_to_the_later_one(name: str) -> None:
    # gamma^k gamma^(t-k) = gamma^t, so the sum over k < t can also be carried forward undiscounted
    logits, co_logits = pair(22)
    oracle = LongGame(logits, co_logits, rewards_of(CLASSIC_PAYOFFS[name]), GAMMA, 120)
    by_state = oracle.co_gradient_by_state()
    past, total = np.zeros(5), np.zeros(5)  # past(s) = E[1{s_t = s} sum_{k<t} A1_k]
    for t, now in enumerate(oracle.distributions()):
        total += GAMMA**t * past @ by_state
        following = oracle.forward(past)
        for s, a, b in product(range(5), range(2), range(2)):
            probability = now[s] * oracle.policy[s, a] * oracle.co_policy[s, b]
            following[1 + 2 * a + b] += probability * oracle.advantages[0, s, a, b]
        past = following
    close(exact.alignment_shaping(logits, co_logits, games.make(name), GAMMA), GAMMA * total, 1e-9)


@every_game
def test_just_in_time_alignment_is_lola_with_a_natural_step(name: str) -> None:
    logits, co_logits = pair(23)
    game = games.make(name)
    lola = exact.lola_shaping(logits, co_logits, game, GAMMA, natural=True)
    close(exact.alignment_shaping(logits, co_logits, game, GAMMA, include_current=True, marginal=True), lola)


def test_a_natural_step_is_the_difference_of_action_values() -> None:
    # the Fisher matrix of a table of logits is diagonal, d(s) p (1 - p): divide the plain gradient by it
    logits, co_logits = pair(24)
    game, rewards = games.make("chicken"), rewards_of(CLASSIC_PAYOFFS["chicken"])
    visits = LongGame(logits, co_logits, rewards, GAMMA).visits()
    co_visits = torch.as_tensor(visits)[[0, 1, 3, 2, 4]]  # seen from the co-player's side
    fisher = co_visits * co_logits.sigmoid() * (1 - co_logits.sigmoid())
    stake = gradient(lambda x, y: dp_values(x, y, rewards, GAMMA, 150)[0], logits, co_logits, position=1)

    def stake_times_natural_step(x: Tensor) -> Tensor:
        now = torch.as_tensor(LongGame(x, co_logits, rewards, GAMMA).visits())[[0, 1, 3, 2, 4]]
        fisher = now * co_logits.sigmoid() * (1 - co_logits.sigmoid())
        return stake @ (
            gradient(lambda x, y: dp_values(x, y, rewards, GAMMA, 150)[1], x, co_logits, position=1) / fisher
        )

    assert (fisher > 0).all()
    natural = exact.lola_shaping(logits, co_logits, game, GAMMA, natural=True)
    close(natural, finite_differences(stake_times_natural_step, logits), 1e-6)


# --- Theorem 2: LOQA is Advantage Alignment with a factor


def live_value_table(logits: Tensor, oracle: LongGame, rewards: Rewards, co_logits: Tensor) -> Tensor:
    """Q2(ab) after a joint action, differentiable by player 1's logits, by dynamic programming; (4,)."""
    transitions = transition_matrix(logits, co_logits)
    payoffs = torch.tensor([rewards[joint][1] for joint in JOINT], dtype=torch.float64)
    values = torch.zeros(5, dtype=torch.float64)
    for _ in range(oracle.steps):
        values = transitions @ (payoffs + oracle.gamma * values[1:])
    return payoffs + oracle.gamma * values[1:]


@every_game
def test_the_taken_entry_of_the_partition_function_gives_the_factor_one_minus_pi(name: str) -> None:
    # log pi2(b) = Q2(b) - log sum_c exp Q2(c), where only the taken entry is live and pi2 is what is played: the other
    # entries are set so that the softmax of the dead values is the co-player's policy
    logits, co_logits = pair(30)
    rewards = rewards_of(CLASSIC_PAYOFFS[name])
    oracle = LongGame(logits, co_logits, rewards, GAMMA, 150)
    live_logits = logits.detach().requires_grad_()
    live = live_value_table(live_logits, oracle, rewards, co_logits)
    weights = np.einsum("s,sa,sb,sab->sab", oracle.visits(), oracle.policy, oracle.co_policy, oracle.advantages[0])
    objective = torch.zeros((), dtype=torch.float64)
    for s, a, b in product(range(5), range(2), range(2)):
        taken = live[2 * a + b]
        dead = taken.detach()
        odds = oracle.co_policy[s, 1 - b] / oracle.co_policy[s, b]
        rest = dead + float(np.log(odds))  # exp(rest) / exp(taken) are the odds of the action that was not taken
        objective = objective + weights[s, a, b] * (taken - torch.logaddexp(taken, rest))
    expected = GAMMA * torch.autograd.grad(objective, live_logits)[0]
    close(exact.alignment_shaping(logits, co_logits, games.make(name), GAMMA, softmax="taken"), expected, 1e-8)


@every_game
def test_loqa_multiplies_every_term_of_the_past_by_one_minus_pi(name: str) -> None:
    logits, co_logits = pair(31)
    oracle = LongGame(logits, co_logits, rewards_of(CLASSIC_PAYOFFS[name]), GAMMA, 150)
    terms = np.zeros((5, 2, 5))  # (s, b) -> what the tuples with that state and co-player action contribute
    visits = oracle.visits()
    for s, a, b in product(range(5), range(2), range(2)):
        weight = visits[s] * oracle.policy[s, a] * oracle.co_policy[s, b] * oracle.advantages[0, s, a, b]
        terms[s, b] += GAMMA * weight * oracle.live_gradient_after(a, b)
    game = games.make(name)
    close(exact.alignment_shaping(logits, co_logits, game, GAMMA), terms.sum((0, 1)), 1e-8)
    loqa = ((1 - oracle.co_policy)[..., None] * terms).sum((0, 1))
    close(exact.alignment_shaping(logits, co_logits, game, GAMMA, softmax="taken"), loqa, 1e-8)


@pytest.mark.parametrize("include_current", [False, True])
@every_game
def test_the_partition_function_vanishes_on_average_over_what_the_co_player_sees(
    name: str, include_current: bool
) -> None:
    logits, co_logits = pair(32)
    terms = [
        exact.alignment_shaping(logits, co_logits, games.make(name), GAMMA, include_current, softmax, marginal=True)
        for softmax in ("none", "full")
    ]
    close(terms[1], terms[0])


def test_the_partition_function_matters_for_the_sampled_own_action() -> None:
    terms = [
        exact.alignment_shaping(*pair(32), games.make("chicken"), GAMMA, softmax=softmax)
        for softmax in ("none", "full")
    ]
    assert (terms[1] - terms[0]).norm() > 0.01 * terms[0].norm()


def test_gradients_are_naive_plus_beta_times_shaping() -> None:
    (logits, co_logits), game = pair(33), games.make("chicken")
    naive = exact.naive_gradient(logits, co_logits, game, GAMMA)
    for include_current in (False, True):
        options = {"include_current": include_current}
        aligned = exact.alignment_shaping(logits, co_logits, game, GAMMA, **options)
        taken = exact.alignment_shaping(logits, co_logits, game, GAMMA, softmax="taken", **options)
        result = exact.advantage_alignment_gradient(logits, co_logits, game, GAMMA, 0.3, **options)
        close(result, naive + 0.3 * aligned)
        result = exact.advantage_alignment_gradient(logits, co_logits, game, GAMMA, 0.3, softmax="taken", **options)
        close(result, naive + 0.3 * taken)


# --- Theorem 3: equilibria stay where they are

CERTAIN = 40.0  # sigmoid(-40) = 4e-18


def tables(own: str, other: str) -> tuple[Tensor, Tensor]:
    """Logits of two policies that play one action whatever happened."""
    return tuple(torch.full((5,), CERTAIN if a == "C" else -CERTAIN, dtype=torch.float64) for a in (own, other))


EQUILIBRIA = [
    ("prisoners_dilemma", "DD"),
    ("prisoners_dilemma_3051", "DD"),
    ("stag_hunt", "CC"),
    ("stag_hunt", "DD"),
    ("chicken", "CD"),
    ("chicken", "DC"),
    ("bach_or_stravinsky", "CC"),
    ("bach_or_stravinsky", "DD"),
]


def reached_slopes(gradient: Tensor, logits: Tensor, joint: str) -> Tensor:
    """Slopes by probability in START and in the state that is repeated for ever.

    Every gradient by the logits of a certain policy is 0, so it is divided by the slope of the sigmoid.
    """
    reached = [0, 1 + 2 * (joint[0] == "D") + (joint[1] == "D")]
    return (gradient / (logits.sigmoid() * (-logits).sigmoid()))[reached]


@pytest.mark.parametrize(
    ("include_current", "softmax", "marginal"),
    [
        choice
        for choice in product((False, True), ("none", "taken", "full"), (False, True))
        if choice != (True, "none", False)
    ],
)
@pytest.mark.parametrize(("name", "joint"), EQUILIBRIA)
def test_alignment_does_not_move_a_deterministic_equilibrium(
    name: str, joint: str, include_current: bool, softmax: str, marginal: bool
) -> None:
    logits, co_logits = tables(*joint)
    game = games.make(name)
    shaping = exact.alignment_shaping(logits, co_logits, game, GAMMA, include_current, softmax, marginal)
    naive = exact.naive_gradient(logits, co_logits, game, GAMMA)
    assert shaping.abs().max() < 1e-12
    assert (reached_slopes(naive, logits, joint).abs() > 0.5).all()
    assert (reached_slopes(shaping, logits, joint).abs() < 1e-9).all()


@pytest.mark.parametrize(("name", "joint"), EQUILIBRIA)
def test_just_in_time_alignment_multiplies_both_advantages_of_a_deviation(name: str, joint: str) -> None:
    # the option that the test above leaves out: a deviation that is bad for both has a positive product, so its
    # probability has a slope of the order of the naive one (only the gradient by logits vanishes, as all do there)
    logits, co_logits = tables(*joint)
    rewards = rewards_of(CLASSIC_PAYOFFS[name])
    deviation = ("D" if joint[0] == "C" else "C") + joint[1]
    # both policies are unconditional, so a deviation changes one reward only
    product_of_advantages = np.prod(np.subtract(rewards[deviation], rewards[joint]))
    sign = 1 if joint[0] == "D" else -1  # logits are of cooperation
    visits = torch.tensor([1.0, GAMMA / (1 - GAMMA)], dtype=torch.float64)
    shaping = exact.alignment_shaping(logits, co_logits, games.make(name), GAMMA, include_current=True)
    assert shaping.abs().max() < 1e-12
    close(reached_slopes(shaping, logits, joint), sign * product_of_advantages * visits)


@pytest.mark.parametrize(("name", "joint"), EQUILIBRIA)
def test_the_listed_profiles_are_equilibria(name: str, joint: str) -> None:
    for game, (logits, co_logits) in (
        (games.make(name), tables(*joint)),
        (games.make(name).swapped(), tables(*joint[::-1])),
    ):
        taken, _ = exact.best_response(co_logits.sigmoid().round(), game.swapped(), GAMMA)
        own = exact.values(logits.sigmoid(), co_logits.sigmoid(), game, GAMMA, per_round=True)[0]
        assert own.item() == pytest.approx(taken[1].item())


@pytest.mark.parametrize("softmax", ["none", "taken", "full"])
@pytest.mark.parametrize("include_current", [False, True])
def test_alignment_does_not_move_the_mixed_equilibrium_of_matching_pennies(include_current: bool, softmax: str) -> None:
    uniform, game = torch.zeros(5, dtype=torch.float64), games.make("matching_pennies")
    assert exact.alignment_shaping(uniform, uniform, game, GAMMA, include_current, softmax).abs().max() < 1e-14
    elsewhere = exact.alignment_shaping(*pair(40), game, GAMMA, include_current, softmax)
    assert elsewhere.abs().max() > 1e-3


# --- best response

R3051 = "prisoners_dilemma_3051"


@pytest.mark.parametrize(
    ("name", "policy", "own", "taken", "path"),
    [
        # cooperating with tit for tat is worth 3; defecting 5, 1, 1, ... is worth 1.4 and taking turns 2.6
        (R3051, "tit for tat", 3.0, 3.0, {0: 1, 1: 1}),
        (R3051, "always cooperate", 0.0, 5.0, {0: 0, 3: 0}),
        (R3051, "always defect", 1.0, 1.0, {0: 0, 4: 0}),
        (R3051, "grim trigger", 3.0, 3.0, {0: 1, 1: 1}),
    ],
)
def test_best_response_to_the_classics(name: str, policy: str, own: float, taken: float, path: dict[int, int]) -> None:
    rewards, table = exact.best_response(strategy(policy), games.make(name), 0.9)
    assert rewards.tolist() == pytest.approx([own, taken])
    assert {state: int(table[state]) for state in path} == path


@pytest.mark.parametrize("name", ["chicken", "bach_or_stravinsky", R3051])
def test_best_response_is_the_best_of_all_tables(name: str) -> None:
    policies = torch.cat([normal(20, 5, seed=50).sigmoid(), torch.tensor(list(STRATEGIES.values()))])
    game = games.make(name)
    rewards, responses = exact.best_response(policies, game, 0.9)
    for policy, reward, response in zip(policies, rewards, responses, strict=True):
        everything = [
            exact.values(policy, torch.tensor(table, dtype=torch.float64), game, 0.9, per_round=True).tolist()
            for table in product((0.0, 1.0), repeat=5)
        ]
        best = max(taken for _, taken in everything)
        worst = min(own for own, taken in everything if taken >= best - 1e-9)
        assert reward.tolist() == pytest.approx([worst, best])
        assert exact.values(policy, response, game, 0.9, per_round=True).tolist() == pytest.approx(reward.tolist())


def test_no_mixed_table_beats_the_best_response() -> None:
    policy, game = normal(5, seed=51).sigmoid(), games.make(R3051)
    best = exact.best_response(policy, game, 0.9)[0][1]
    mixed = exact.values(policy.expand(500, 5), normal(500, 5, seed=52, scale=3).sigmoid(), game, 0.9, per_round=True)
    assert (mixed[:, 1] <= best + 1e-12).all()


# --- batches and seats

FIELDS: dict[str, Callable[..., Tensor]] = {
    "naive": exact.naive_gradient,
    "lola": exact.lola_gradient,
    "lola_first_order": lambda *arguments: exact.lola_gradient(*arguments, first_order=True),
    "lola_shaping": exact.lola_shaping,
    "lola_natural": lambda *arguments: exact.lola_shaping(*arguments, natural=True),
    "alignment_form": lambda *arguments: torch.stack(exact.lola_alignment_form(*arguments), -1),
    "alignment": exact.alignment_shaping,
    "just_in_time_full": lambda *arguments: exact.alignment_shaping(*arguments, True, "full", True),
    "loqa": partial(exact.advantage_alignment_gradient, softmax="taken"),
    "values": lambda x, y, *rest: exact.values(x.sigmoid(), y.sigmoid(), *rest),
    "best_response": lambda x, y, *rest: torch.cat(exact.best_response(x.sigmoid(), *rest), -1),
}
every_field = pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS.keys())


@every_field
def test_a_batch_of_pairs_equals_one_pair_at_a_time(field: Callable[..., Tensor]) -> None:
    logits, co_logits = normal(50, 5, seed=60), normal(50, 5, seed=61)
    game = games.make("bach_or_stravinsky")
    alone = torch.stack([field(x, y, game, GAMMA) for x, y in zip(logits, co_logits, strict=True)])
    close(field(logits, co_logits, game, GAMMA), alone)
    shaped = field(logits.view(5, 10, 5), co_logits.view(5, 10, 5), game, GAMMA)
    close(shaped.flatten(0, 1), alone)


@every_field
def test_fields_leave_their_arguments_alone(field: Callable[..., Tensor]) -> None:
    logits, co_logits = pair(62)
    before = logits.clone(), co_logits.clone()
    result = field(logits, co_logits, games.make("chicken"), GAMMA)
    assert logits.equal(before[0])
    assert co_logits.equal(before[1])
    assert not any(x.requires_grad for x in (logits, co_logits, result))


@every_field
def test_relabelling_the_actions_turns_the_field_around(field: Callable[..., Tensor]) -> None:
    # exchange C and D for both players: payoffs, states and the sign of every logit change places
    relabel, game = [0, 4, 3, 2, 1], games.make("bach_or_stravinsky")
    mirrored = MatrixGame(game.payoffs[::-1])
    logits, co_logits = pair(63)
    result = field(logits, co_logits, game, GAMMA)
    other = field(-logits[relabel], -co_logits[relabel], mirrored, GAMMA)
    if len(result) in (2, 7):  # values (and a best response, whose unreached entries are arbitrary)
        close(other[:2], result[:2])
    else:
        close(other, -result[relabel])


@every_game
def test_exchanging_the_seats_gives_player_twos_fields(name: str) -> None:
    (logits, co_logits), value = pair(64), value_function(name)
    swapped = games.make(name).swapped()
    naive = gradient(lambda x, y: value(x, y)[1], logits, co_logits, position=1)
    close(exact.naive_gradient(co_logits, logits, swapped, GAMMA), naive)
    shaped = after_step(lambda x, y: value(y, x).flip(0), 0.5, logits)
    close(exact.lola_gradient(co_logits, logits, swapped, GAMMA, 0.5), gradient(shaped, co_logits))
    rewards = {joint[::-1]: pay[::-1] for joint, pay in rewards_of(CLASSIC_PAYOFFS[name]).items()}
    oracle = LongGame(co_logits, logits, rewards, GAMMA, 150)
    close(exact.alignment_shaping(co_logits, logits, swapped, GAMMA), alignment_oracle(oracle), 1e-9)


# --- ascent


def test_ascent_follows_both_fields_at_once() -> None:
    game, (logits, co_logits) = games.make("bach_or_stravinsky"), pair(70)

    def own(x: Tensor, y: Tensor) -> Tensor:
        return exact.naive_gradient(x, y, game, GAMMA)

    def other(x: Tensor, y: Tensor) -> Tensor:
        return exact.naive_gradient(x, y, game.swapped(), GAMMA)

    path, co_path = exact.ascend(own, other, logits, co_logits, steps=4, learning_rate=0.1, record_every=2)
    for step in range(5):
        if step % 2 == 0:
            close(path[step // 2], logits)
            close(co_path[step // 2], co_logits)
        logits, co_logits = logits + 0.1 * own(logits, co_logits), co_logits + 0.1 * other(co_logits, logits)
    assert path.shape == co_path.shape == (3, 5)


@pytest.mark.parametrize(("shared", "reward"), [(False, -2), (True, -1)])
def test_naive_ascent_ends_in_defection_and_ascent_of_the_sum_in_cooperation(shared: bool, reward: float) -> None:
    game = games.make("prisoners_dilemma")
    ascended = MatrixGame(tuple((sum(pair), sum(pair)) for pair in game.payoffs)) if shared else game

    def field(x: Tensor, y: Tensor) -> Tensor:
        return exact.naive_gradient(x, y, ascended, 0.9)

    path, co_path = exact.ascend(field, field, normal(4, 5, scale=0.1), normal(4, 5, seed=1, scale=0.1), 300, 0.2, 300)
    final = exact.values(path[-1].sigmoid(), co_path[-1].sigmoid(), game, 0.9, per_round=True)
    assert ((final - reward).abs() < 0.1).all()


def test_cosine_by_hand() -> None:
    x = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    y = torch.tensor([[6.0, 8.0], [0.0, 2.0], [-3.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(exact.cosine(x, y), torch.tensor([1.0, 0.0, -1.0, float("nan")]), equal_nan=True)


# --- bad input

Z, GAME = torch.zeros(5, dtype=torch.float64), games.make("chicken")
HALF = torch.full((5,), 0.5, dtype=torch.float64)


@pytest.mark.parametrize("gamma", [1.0, 1.5, -0.1, float("nan")])
@every_field
def test_gamma_outside_the_half_open_interval_is_refused(field: Callable[..., Tensor], gamma: float) -> None:
    with pytest.raises(ValueError, match=r"^gamma must"):
        field(Z, Z, GAME, gamma)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        pytest.param(lambda: exact.values(HALF[:4], HALF, GAME, GAMMA), "policy", id="four entries"),
        pytest.param(lambda: exact.values(HALF, HALF[:4], GAME, GAMMA), "co_player", id="four of the other"),
        pytest.param(lambda: exact.values(3 * HALF, HALF, GAME, GAMMA), "policy", id="above 1"),
        pytest.param(lambda: exact.values(HALF, -HALF, GAME, GAMMA), "co_player", id="below 0"),
        pytest.param(lambda: exact.values(HALF * float("nan"), HALF, GAME, GAMMA), "policy", id="NaN"),
        pytest.param(lambda: exact.chain(HALF, HALF, GAME, GAMMA), "policy", id="no action axis"),
        pytest.param(
            lambda: exact.chain(exact.action_probabilities(Z), HALF, GAME, GAMMA), "co_player", id="no action axis 2"
        ),
        pytest.param(lambda: exact.naive_gradient(Z, Z.expand(2, 5), GAME, GAMMA), "co_logits", id="naive"),
        pytest.param(lambda: exact.lola_gradient(Z, Z.expand(2, 5), GAME, GAMMA), "co_logits", id="lola"),
        pytest.param(lambda: exact.lola_alignment_form(Z, Z.expand(2, 5), GAME, GAMMA), "co_logits", id="form"),
        pytest.param(lambda: exact.alignment_shaping(Z, Z.expand(2, 5), GAME, GAMMA), "co_logits", id="alignment"),
        pytest.param(lambda: exact.alignment_shaping(Z, Z, GAME, GAMMA, softmax="half"), "softmax", id="softmax"),
        pytest.param(
            lambda: exact.lola_shaping(Z, Z, GAME, GAMMA, co_policy=torch.exp, natural=True), "co_policy", id="natural"
        ),
        pytest.param(lambda: exact.best_response(HALF[:4], GAME, GAMMA), "policy", id="best response"),
        pytest.param(lambda: exact.values(HALF, HALF.float(), GAME, GAMMA), "co_player", id="two precisions"),
        pytest.param(
            lambda: exact.naive_gradient(Z.float(), Z, GAME, GAMMA), "co_logits", id="two precisions of logits"
        ),
        pytest.param(
            lambda: exact.values(HALF.expand(3, 5), HALF.expand(2, 5), GAME, GAMMA), "co_player", id="two batches"
        ),
        pytest.param(
            lambda: exact.chain(*(exact.action_probabilities(Z.expand(n, 4, 5)) for n in (3, 2)), GAME, GAMMA),
            "co_player",
            id="two batches of tables",
        ),
        pytest.param(
            lambda: exact.visitation(torch.full((5, 4), 0.25, dtype=torch.float64), 1.0), "gamma", id="endless visits"
        ),
        pytest.param(lambda: exact.values(HALF, HALF, GAME, GAMMA, per_round="no"), "per_round", id="per_round"),
        pytest.param(lambda: exact.lola_shaping(Z, Z, GAME, GAMMA, natural="no"), "natural", id="natural flag"),
        pytest.param(lambda: exact.lola_gradient(Z, Z, GAME, GAMMA, first_order=1), "first_order", id="first_order"),
        pytest.param(lambda: exact.alignment_shaping(Z, Z, GAME, GAMMA, marginal="no"), "marginal", id="marginal"),
    ],
)
def test_bad_input_is_refused_by_name(call: Callable[[], Tensor], named: str) -> None:
    with pytest.raises(ValueError, match=rf"^{named} must"):
        call()


@pytest.mark.parametrize(("name", "p", "q"), [("stag_hunt", 2 / 3, 2 / 3), ("chicken", 0.5, 0.5)])
def test_theorem_3_does_not_reach_mixed_equilibria_of_coordination_games(name: str, p: float, q: float) -> None:
    game = games.make(name)
    x, y = (torch.full((5,), value, dtype=torch.float64).logit() for value in (p, q))
    assert exact.naive_gradient(x, y, game, 0.9).abs().max() < 1e-9
    assert exact.naive_gradient(y, x, game.swapped(), 0.9).abs().max() < 1e-9
    assert exact.alignment_shaping(x, y, game, 0.9).abs().max() > 0.1


def test_alignment_may_be_of_another_strength_in_every_pair() -> None:
    (logits, co_logits), game = normal(2, 3, 5, seed=34), games.make("chicken")
    beta = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    together = exact.advantage_alignment_gradient(logits, co_logits, game, GAMMA, beta[:, None])
    for index, one in enumerate(beta.tolist()):
        alone = exact.advantage_alignment_gradient(logits[index], co_logits[index], game, GAMMA, one)
        torch.testing.assert_close(together[index], alone)
    for odd in (beta * float("nan"), beta.long(), beta[:0], torch.ones(7), torch.ones(7, 3, 5), torch.ones(1, 1, 3, 5)):
        with pytest.raises(ValueError, match="beta must be"):
            exact.advantage_alignment_gradient(logits, co_logits, game, GAMMA, odd)


@pytest.mark.parametrize("batches", [((3, 1), (4,)), ((), (2, 3)), ((2, 1), (1, 3))])
def test_policies_of_batches_that_broadcast_meet(batches: tuple) -> None:
    one, two = (HALF.expand(*batch, 5) for batch in batches)
    shape = torch.broadcast_shapes(*batches)
    assert exact.values(one, two, GAME, GAMMA).shape == (*shape, 2)
