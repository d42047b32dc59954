from __future__ import annotations

from typing import Any

import pytest
import torch

from aa_core.games.matrix import STATES
from aa_core.policies import STRATEGIES, classify, strategy

NAMED = [name for name in STRATEGIES if name != "random"]


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("always cooperate", "CCCCC"),
        ("always defect", "DDDDD"),
        ("tit for tat", "CCDCD"),  # what the other did last
        ("grim trigger", "CCDDD"),
        ("win-stay lose-shift", "CCDDC"),  # repeats its action after R and T, changes it after S and P
    ],
)
def test_the_classics_answer_to_each_state(name: str, answers: str) -> None:
    played = "".join("C" if p == 1 else "D" for p in STRATEGIES[name])
    assert dict(zip(STATES, played, strict=True)) == dict(zip(STATES, answers, strict=True))


@pytest.mark.parametrize("name", NAMED)
def test_every_classic_is_classified_as_itself(name: str) -> None:
    assert classify(strategy(name)[None]) == [name]


@pytest.mark.parametrize("name", NAMED)
def test_a_noisy_classic_is_classified_by_its_rounded_table(name: str) -> None:
    assert classify((0.2 + 0.6 * strategy(name))[None]) == [name]


@pytest.mark.parametrize(
    ("cooperation", "kind"),
    [
        # opens with D and answers D with its own D behind it: CC and CD are never reached
        ((0, 1, 1, 0, 0), "always defect"),
        ((0, 1, 0, 0, 0), "always defect"),
        # never plays D, so DC and DD are never reached
        ((1, 1, 1, 0, 0), "always cooperate"),
        ((1, 1, 1, 0, 1), "always cooperate"),
        # opens with D although it reciprocates later
        ((0, 1, 0, 1, 0), "other"),
        ((0, 1, 0, 0, 1), "other"),
        ((0, 1, 1, 1, 1), "other"),
        # leaves mutual cooperation
        ((1, 0, 0, 1, 0), "other"),
        ((1, 0, 0, 0, 0), "other"),
        # forgives everything but one D of the other
        ((1, 1, 0, 1, 1), "other"),
    ],
)
def test_only_reachable_entries_matter(cooperation: tuple[int, ...], kind: str) -> None:
    assert classify(torch.tensor([cooperation], dtype=torch.float64)) == [kind]


def test_policies_of_a_batch_are_classified_one_by_one() -> None:
    assert classify(torch.stack([strategy(name) for name in NAMED])) == NAMED


def test_strategy_has_the_asked_dtype() -> None:
    assert strategy("tit for tat").dtype == torch.float64
    assert strategy("tit for tat", torch.float32).tolist() == [1, 1, 0, 1, 0]


def test_an_unknown_strategy_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^name must be one of .*tit for tat.* got 'tat for tit'"):
        strategy("tat for tit")


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, "float", None])
def test_a_strategy_is_of_fractions(dtype: Any) -> None:
    with pytest.raises(ValueError, match=r"^dtype must be a floating point type"):
        strategy("random", dtype)
    assert strategy("random", torch.float32).tolist() == [0.5] * 5
