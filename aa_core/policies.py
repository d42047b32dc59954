"""Policies of repeated 2x2 games: tables over STATES, and the classic strategies as such tables."""

from __future__ import annotations

from fnmatch import fnmatchcase

import torch
from torch import Tensor

from aa_core.checks import check_choice, check_shape, check_that

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
    """P(cooperate) `(5,)` of a classic strategy by name; ValueError for a `dtype` that holds no fractions."""
    check_choice("name", name, STRATEGIES)
    check_that(isinstance(dtype, torch.dtype) and dtype.is_floating_point, "dtype", "a floating point type", str(dtype))
    return torch.tensor(STRATEGIES[name], dtype=dtype)


# what the kinds answer to START, CC, CD, DC, DD; ? where their own path never leads
_KINDS = {
    "always defect": "D??DD", "always cooperate": "CCC??", "tit for tat": "CCDCD", "grim trigger": "CCDDD",
    "win-stay lose-shift": "CCDDC",
}  # fmt: skip


def classify(cooperation: Tensor) -> list[str]:
    """Name the kind of each memory-one policy `(policies, 5)` by its rounded probabilities, or call it "other".

    Entries that it cannot reach on its own path do not matter: D at first, and to DC and DD, is "always defect".

    >>> classify(torch.tensor([[0.9, 1.0, 0.1, 0.8, 0.0], [0.2, 0.0, 1.0, 0.4, 0.1]]))
    ['tit for tat', 'always defect']
    """
    check_shape((None, 5), cooperation=cooperation, bounds=(0, 1))
    answers = ["".join("DC"[c] for c in row) for row in (cooperation >= 0.5).tolist()]
    return [next((kind for kind, known in _KINDS.items() if fnmatchcase(row, known)), "other") for row in answers]
