"""Policies of repeated 2x2 games: tables over STATES, and the classic strategies as such tables."""

from __future__ import annotations

import torch
from torch import Tensor

# P(cooperate | START, CC, CD, DC, DD). Grim trigger is memory-one on its own path: after its first D it never plays C,
# so CC cannot come back.
STRATEGIES: dict[str, tuple[float, ...]] = {
    "always cooperate": (1.0, 1.0, 1.0, 1.0, 1.0),
    "always defect": (0.0, 0.0, 0.0, 0.0, 0.0),
    "tit for tat": (1.0, 1.0, 0.0, 1.0, 0.0),
    "grim trigger": (1.0, 1.0, 0.0, 0.0, 0.0),
    "win-stay lose-shift": (1.0, 1.0, 0.0, 0.0, 1.0),
    "random": (0.5, 0.5, 0.5, 0.5, 0.5),
}


def strategy(name: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """P(cooperate) `(5,)` of a classic strategy by name."""
    if name not in STRATEGIES:
        raise ValueError(f"name must be one of {', '.join(STRATEGIES)}, got {name!r}")
    return torch.tensor(STRATEGIES[name], dtype=dtype)


def classify(cooperation: Tensor) -> list[str]:
    """Name the kind of each memory-one policy `(policies, 5)` by what it does once probabilities are rounded.

    The first move must be to cooperate for the three reciprocal kinds; the two unconditional kinds are known by their
    answers to every state that they can reach on their own path, so that an unreachable entry does not matter:
    a policy that opens with D and answers D to DC and DD is "always defect". Everything else is "other".
    """
    names = []
    for start, cc, cd, dc, dd in (cooperation >= 0.5).tolist():
        if not start and not dc and not dd:
            names.append("always defect")
        elif start and cc and cd:
            names.append("always cooperate")
        elif start and cc:
            kinds = {(True, False): "tit for tat", (False, False): "grim trigger", (False, True): "win-stay lose-shift"}
            names.append(kinds.get((dc, dd), "other"))
        else:
            names.append("other")
    return names
