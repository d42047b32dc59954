"""Argument checks whose messages name the argument, what came and what was expected."""

from __future__ import annotations

import math
from collections.abc import Collection

from torch import Tensor


def check_unit_interval(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a number in [0, 1]."""
    if not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be a number in [0, 1], got {value!r}")


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a finite number above 0."""
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")


def check_count(name: str, value: int) -> None:
    """Raise ValueError unless `value` is a positive integer."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def check_time_series(name: str, value: Tensor, min_dims: int = 1) -> None:
    """Raise ValueError unless `value` is a finite floating tensor with at least `min_dims` axes, time last."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} must be a floating point tensor, got {kind}")
    if value.dim() < min_dims:
        raise ValueError(f"{name} must have at least {min_dims} axes, time last, got shape {tuple(value.shape)}")
    # the sum is a cheap screen: it is finite in nearly every valid call
    if not value.sum().isfinite() and not value.isfinite().all():
        raise ValueError(f"{name} must be finite, got {int((~value.isfinite()).sum())} NaN or infinite entries")


def check_same_shape(name: str, value: Tensor, reference_name: str, reference: Tensor) -> None:
    """Raise ValueError unless `value` has the shape of `reference`."""
    if value.shape != reference.shape:
        expected, came = tuple(reference.shape), tuple(value.shape)
        raise ValueError(f"{name} must have the shape of {reference_name}, {expected}, got {came}")


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(sorted(choices))}, got {value!r}")
