"""Slow second opinions: plain loops over time, states and actions, sharing no code with aa_core.

States are strings from the point of view of whoever looks ("" before the first round, then own action + other's), so
that no index order or exchange of seats is taken over from the package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import torch
from torch import Tensor

VIEWS = ("", "CC", "CD", "DC", "DD")
JOINT = VIEWS[1:]
Rewards = dict[str, tuple[float, float]]


def rewards_of(payoffs: tuple[tuple[float, float], ...]) -> Rewards:
    return dict(zip(JOINT, payoffs, strict=True))


def other_view(state: str) -> str:
    return state[::-1]


def act(logits: Tensor, state: str, action: str) -> Tensor:
    """Probability of an action in a state, for logits of cooperation in the order of VIEWS."""
    cooperate = torch.sigmoid(logits[VIEWS.index(state)])
    return cooperate if action == "C" else 1 - cooperate


def joint_probability(logits: Tensor, co_logits: Tensor, state: str, joint: str) -> Tensor:
    return act(logits, state, joint[0]) * act(co_logits, other_view(state), joint[1])


def trajectories(horizon: int) -> Iterator[tuple[str, ...]]:
    """Every sequence of joint actions."""
    return product(JOINT, repeat=horizon)


def states_before(path: tuple[str, ...]) -> list[str]:
    return ["", *path[:-1]]


def transition_matrix(logits: Tensor, co_logits: Tensor) -> Tensor:
    """Pr(next joint action | state), (5, 4), differentiable."""
    rows = [[joint_probability(logits, co_logits, state, joint) for joint in JOINT] for state in VIEWS]
    return torch.stack([torch.stack(row) for row in rows])


def dp_values(logits: Tensor, co_logits: Tensor, rewards: Rewards, gamma: float, steps: int) -> Tensor:
    """Values at the start of a game of `steps` rounds, (2,), by backward dynamic programming; differentiable."""
    transitions = transition_matrix(logits, co_logits)
    payoffs = torch.tensor([rewards[joint] for joint in JOINT], dtype=transitions.dtype)  # (4, 2)
    values = torch.zeros(5, 2, dtype=transitions.dtype)
    for _ in range(steps):
        values = transitions @ (payoffs + gamma * values[1:])
    return values[0]


def gradient(function: Callable[..., Tensor], *arguments: Tensor, position: int = 0) -> Tensor:
    """Gradient of a scalar function by one of its arguments, by autograd."""
    leaves = [a.detach().clone().requires_grad_() for a in arguments]
    return torch.autograd.grad(function(*leaves), leaves[position])[0]


def finite_differences(function: Callable[[Tensor], Tensor], point: Tensor, step: float = 1e-5) -> Tensor:
    """Central differences of a scalar function."""
    slopes = []
    for index in range(len(point)):
        shift = torch.zeros_like(point)
        shift[index] = step
        slopes.append((function(point + shift) - function(point - shift)) / (2 * step))
    return torch.stack(slopes).detach()


class LongGame:
    """A pair of policies in a game that is played for `steps` rounds, long enough to stand for an infinite one.

    Numpy arrays by state (in the order of VIEWS), own action and other's action, filled by loops.
    """

    def __init__(self, logits: Tensor, co_logits: Tensor, rewards: Rewards, gamma: float, steps: int = 300) -> None:
        self.gamma, self.steps = gamma, steps
        self.policy = np.array([[act(logits, state, action).item() for action in "CD"] for state in VIEWS])
        self.co_policy = np.array(
            [[act(co_logits, other_view(state), action).item() for action in "CD"] for state in VIEWS]
        )
        payoffs = np.array([[rewards[a + b] for b in "CD"] for a in "CD"])  # (a, b, player)
        values = np.zeros((5, 2))
        for _ in range(steps):
            q_values = payoffs + gamma * values[1:].reshape(2, 2, 2)
            values = np.einsum("sa,sb,abi->si", self.policy, self.co_policy, q_values)
        self.q_values = np.moveaxis(q_values, -1, 0)  # (player, a, b)
        self.advantages = self.q_values[:, None] - values.T[:, :, None, None]  # (player, s, a, b)

    def distributions(self) -> Iterator[np.ndarray]:
        """Pr(s_t = s) for t = 0, 1, ..."""
        now = np.array([1.0, 0, 0, 0, 0])
        for _ in range(self.steps):
            yield now
            now = self.forward(now)

    def forward(self, mass: np.ndarray) -> np.ndarray:
        """Mass on states one round later."""
        following = np.zeros(5)
        for s, a, b in product(range(5), range(2), range(2)):
            following[1 + 2 * a + b] += mass[s] * self.policy[s, a] * self.co_policy[s, b]
        return following

    def visits(self) -> np.ndarray:
        """sum_t gamma^t Pr(s_t = s)."""
        return sum(self.gamma**t * now for t, now in enumerate(self.distributions()))

    def score(self, state: int, action: int) -> np.ndarray:
        """grad_1 log pi1(action | state)."""
        gradient = np.zeros(5)
        gradient[state] = (1 - self.policy[state, 0]) if action == 0 else -self.policy[state, 0]
        return gradient

    def co_gradient_by_state(self) -> np.ndarray:
        """sum over actions of pi1 pi2 A2 grad log pi1 in each state, (s, 5)."""
        total = np.zeros((5, 5))
        for s, a, b in product(range(5), range(2), range(2)):
            probability = self.policy[s, a] * self.co_policy[s, b]
            total[s] += probability * self.advantages[1, s, a, b] * self.score(s, a)
        return total

    def live_gradient_after(self, a: int, b: int) -> np.ndarray:
        """E sum_{t>k} gamma^(t-k) A2_t grad log pi1(a_t|s_t) once (a, b) has been played at k."""
        by_state = self.co_gradient_by_state()
        mass, total = np.zeros(5), np.zeros(5)
        mass[1 + 2 * a + b] = 1.0
        for lag in range(1, self.steps):
            total += self.gamma**lag * mass @ by_state
            mass = self.forward(mass)
        return total
