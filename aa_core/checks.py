"""Argument checks, whose messages name the argument, what was expected and what came; all raise ValueError.

Most take arguments by name, `check(gamma=gamma)`: a name means the same in every function, see KINDS. What tensors hold
is looked at on the CPU only: an accelerator would have to be waited for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence, Sized
from dataclasses import fields
from numbers import Integral, Real
from random import Random
from typing import Any

from torch import Generator, Tensor


def check_that(good: object, name: str, expected: str, value: object) -> None:
    """Unless it is `good`, say what was `expected` of an argument and what came."""
    if not good:
        shown = repr(value) if isinstance(value, str | Real | Sized | None) else ""
        came = f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else shown
        raise ValueError(f"{name} must be {expected}, got {came if 0 < len(came) < 200 else type(value).__name__}")


def check(**arguments: object) -> None:
    """Each argument must be what KINDS says of its name; what has no name there is a series, time last."""
    for name, value in arguments.items():
        if name in KINDS:
            check_that(KINDS[name][1](value), name, KINDS[name][0], value)
        else:
            check_shape((..., None), (), False, **{name: value})


def check_fields(settings: Any) -> None:
    """`check` the fields of a dataclass whose names are in KINDS; None is good where it is the default."""
    for field in fields(settings):
        if field.name in KINDS and (getattr(settings, field.name) is not None or field.default is not None):
            check(**{field.name: getattr(settings, field.name)})


def check_shape(shape: Sequence[Any], bounds: tuple = (), whole: bool = False, **tensors: Any) -> None:
    """Each must be a tensor of that shape, not empty, of finite reals, or of `whole` numbers, within bounds if any.

    In a shape None is any length, and ... in front are any axes before.
    """
    own = [length for length in shape if length is not ...]
    expected = ", ".join("..." if x is ... else "any" if x is None else str(x) for x in shape)
    for name, x in tensors.items():
        before = x.dim() - len(own) if isinstance(x, Tensor) and x.numel() else -1
        fits = before >= 0 and all(length in (None, axis) for length, axis in zip(own, x.shape[before:], strict=True))
        fits = fits and (before == 0 or ... in shape) and whole != x.is_floating_point()
        kind = "integer" if whole else "floating point"
        check_that(fits, name, f"a {kind} tensor of shape ({expected}), not empty", x)
        if x.device.type == "cpu" and bounds:
            low, high = (end.item() for end in x.aminmax())
            check_that(bounds[0] <= low and high <= bounds[1], name, f"in {list(bounds)}", f"{low:g} to {high:g}")
        elif x.device.type == "cpu" and not whole and not math.isfinite(x.detach().sum()):  # a cheap screen
            number = int((~x.isfinite()).sum())
            check_that(number == 0, name, "finite", f"{number} NaN or infinite entries")


def check_alike(**tensors: Any) -> None:
    """All must be tensors with the shape of the first one."""
    (first, reference), *_ = tensors.items()
    for name, value in tensors.items():
        same = isinstance(value, Tensor) and value.shape == reference.shape
        check_that(same, name, f"a tensor with the shape of {first}", value)


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """It must be one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(sorted(choices))}, got {value!r}")


def check_flags(**flags: object) -> None:
    """Each must be True or False."""
    for name, value in flags.items():
        check_that(isinstance(value, bool), name, "True or False", value)


def _number(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _integer(value: object, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


# what stands for an object of the library: the attribute that its functions look at
_OBJECTS = dict(
    game="obs_shape", settings="gamma", network="filters", spaces="choices", buffer="capacity", mind="parts",
    played="seen", stage="observations", optimizer="param_groups", state="time", path="parent", args="buffer_every",
    folder="parent", model="generation_config", tokenizer="chat_template", sampling="top_k", chat="ids",
    processing_class="chat_template",
)  # fmt: skip
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    name: (expected, good)  # type: ignore[misc]
    for names, expected, good in (
        ("gamma lam critic_lam share script_share buffer_share min_p",
         "a number in [0, 1]", lambda x: _number(x) and 0 <= x <= 1),
        ("learning_rate critic_learning_rate inner_learning_rate initial_scale temperature clip quantity reward_scale",
         "a finite number above 0", lambda x: _number(x) and x > 0),
        ("repetition_penalty", "a finite number above 0", lambda x: _number(x) and x > 0),
        ("top_p", "a number above 0, at most 1", lambda x: _number(x) and 0 < x <= 1),
        ("top_k", "an integer of at least -1", lambda x: _integer(x, -1)),
        ("max_gradient_norm", "a number above 0, or infinite", lambda x: isinstance(x, Real) and float(x) > 0),
        ("beta step_size entropy critic_weight first second value", "a finite number", _number),
        ("batch games steps horizon height width updates epochs chunk record_every rounds filters hidden seats drawn "
         "scale every until capacity choices token_budget max_new_tokens buffer_every buffer_drawn",
         "a positive integer", lambda x: _integer(x, 1)),
        ("seed greedy_updates digits free_tries coins update", "an integer of at least 0", lambda x: _integer(x, 0)),
        ("player", "0 or 1", lambda x: _integer(x, 0) and x <= 1),
        ("minds generators agents tables seeds",
         "a list or dict, not empty", lambda x: isinstance(x, list | tuple | dict) and x),
        ("scripts ends", "a collection, no string", lambda x: isinstance(x, Collection) and not isinstance(x, str)),
        ("generator", "a torch.Generator or None", lambda x: x is None or isinstance(x, Generator)),
        ("rng", "a random.Random, with which the strategy draws", lambda x: isinstance(x, Random)),
        ("name text reply sign population own other", "a string", lambda x: isinstance(x, str)),
        ("act credit gradient co_gradient co_policy", "a function", callable),
        ("options template", "a dict or None", lambda x: x is None or isinstance(x, dict)),
        ("on_step on_update engine", "a function or None", lambda x: x is None or callable(x)),
    )
    for name in names.split()
}  # fmt: skip
KINDS |= {name: (f"an object with `{part}`", lambda x, part=part: hasattr(x, part)) for name, part in _OBJECTS.items()}  # type: ignore[misc]
