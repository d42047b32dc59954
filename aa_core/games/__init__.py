"""Games by name: `make("prisoners_dilemma", horizon=50)`; `names()` lists them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aa_core.checks import check_choice
from aa_core.games.base import Game, Script
from aa_core.games.coin import CoinGame
from aa_core.games.harvest import HarvestGame
from aa_core.games.matrix import CLASSIC_PAYOFFS, STATES, SWAP, C, D, MatrixGame, MatrixState
from aa_core.games.negotiation import NegotiationGame

_BUILDERS: dict[str, Callable[..., Game]] = {"coin": CoinGame, "harvest": HarvestGame, "negotiation": NegotiationGame}
_BUILDERS |= {
    name: partial(MatrixGame, tuple(payoffs), name=name.replace("_", " ")) for name, payoffs in CLASSIC_PAYOFFS.items()
}

__all__ = ["STATES", "SWAP", "C", "D", "Game", "MatrixGame", "MatrixState", "Script", "make", "matrix_names", "names"]


def names() -> list[str]:
    """Names that `make` knows."""
    return sorted(_BUILDERS)


def matrix_names() -> list[str]:
    """Names of the matrix games among them."""
    return sorted(CLASSIC_PAYOFFS)


def make(name: str, **options: object) -> Game:
    """Build a game by name, with the options of its class (for matrix games: `horizon`); ValueError for others."""
    check_choice("name", name, _BUILDERS)
    return _BUILDERS[name](**options)
