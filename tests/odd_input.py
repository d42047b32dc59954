"""Odd values for every argument of every public function, made of one valid call of each.

A package is walked for its public functions, its classes and their public methods. Each has a valid call in a list, or
a reason why it has none. From the type and the name of every valid argument follow the odd values of its kind: each is
refused by an error that begins with the argument's name, or stands in one of three lists of patterns, with the reason:
it is legal; it is refused in other words, which are good; or it is a known gap, which is closed later. A pattern that
nothing needs makes the walk fail, and so does a gap that is closed.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor

REFUSALS = (ValueError, TypeError, LookupError, OSError)
UNIT = {"gamma", "lam", "critic_lam", "share", "script_share", "buffer_share", "top_p", "min_p"}
POSITIVE = {"learning_rate", "critic_learning_rate", "inner_learning_rate", "clip", "initial_scale", "temperature"}
POSITIVE |= {"max_gradient_norm", "quantity", "repetition_penalty", "reward_scale"}
FREE_FROM_ZERO = {"seed", "greedy_updates", "digits", "player", "index", "num_players", "update", "time", "free_tries"}
FREE_FROM_ZERO |= {"round_index", "row", "count", "last", "token", "coins", "top_k", "feedback"}
FREE_TEXTS = {"text", "reply", "population", "expected", "pattern"}
CHANCES = {"policy", "co_player", "cooperation", "probabilities", "joint"}
AT_MOST = {"player", "index", "seed", "update"}  # integers that can be too large
FROM_ZERO = {"first", "second"}
FITTING = {"cut", "more axes", "scalar", "empty", "other dtype"}  # of two tensors that do not fit, either may be named
SERIES_KINDS = (list, tuple, dict, set)


class Anything:
    """An object that has every attribute, but is nothing that the library knows."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class Call(NamedTuple):
    """A public callable with valid arguments; made anew for every trial, since some are changed in place."""

    function: Callable[..., Any]
    arguments: dict[str, Any]


def modules(package: ModuleType, skip: str = "") -> Iterator[ModuleType]:
    """A package and the modules and packages in it, but for one of that name."""
    yield package
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if found.name != skip:
            module = importlib.import_module(found.name)
            yield from modules(module) if found.ispkg else [module]


def public_names(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Functions, classes and methods that a module defines, by their names below the package."""
    below = module.__name__.partition(".")[2]
    for name, found in vars(module).items():
        if name.startswith("_") or getattr(found, "__module__", None) != module.__name__ or not callable(found):
            continue
        yield f"{below}.{name}", found
        for method, function in vars(found).items() if inspect.isclass(found) else ():
            plain = function.__func__ if isinstance(function, staticmethod | classmethod) else function
            if not method.startswith("_") and inspect.isfunction(plain):
                yield f"{below}.{name}.{method}", plain


def odd_values(name: str, value: Any, optional: bool) -> Iterator[tuple[str, Any]]:
    """Odd values of an argument's kind, by what they are called."""
    if isinstance(value, bool):
        yield "text", "no"
        return
    if not optional:
        yield "none", None
    if not isinstance(value, str):
        yield "text", "odd"
    if isinstance(value, Tensor):
        yield from odd_tensors(value)
        if name in CHANCES:
            yield "above one", 3 * value
    elif isinstance(value, int):
        yield from (("negative", -1), ("half", 1.5), ("nan", float("nan")))
        if name not in FREE_FROM_ZERO:
            yield "zero", 0
        if name in AT_MOST:
            yield "high", 2**70
    elif isinstance(value, float):
        yield from (("nan", float("nan")), ("infinite", float("inf")))
        if name in UNIT | POSITIVE | FROM_ZERO:
            yield "negative", -0.1
        if name in UNIT:
            yield "above one", 1.1
    elif isinstance(value, str):
        yield "number", 3
        if name not in FREE_TEXTS:
            yield "unknown", "odd"
    elif isinstance(value, pd.DataFrame | pd.Series | np.ndarray):
        yield "empty", value[:0]
        yield "number", 3
        if isinstance(value, pd.DataFrame):
            yield "cut", value.iloc[:, 1:]
        else:
            yield from (("nan", value * float("nan")), ("infinite", value * float("inf")))
    elif type(value) in SERIES_KINDS:
        yield from (("number", 3), ("empty", type(value)()), ("wrong element", with_wrong_element(value)))
        if name in CHANCES:
            yield "above one", [3 * x for x in value]
        if not isinstance(value, dict) and value and all(isinstance(x, int) for x in value):
            yield "half", type(value)([*value, 0.5])
    elif isinstance(value, Path):
        yield "missing", value / "nowhere"
    else:  # generators, functions and objects
        yield "number", 3
        if not callable(value) or isinstance(value, torch.nn.Module):
            yield "anything", Anything()


def with_wrong_element(value: Any) -> Any:
    """A list, tuple, dict or set whose last element is a text."""
    if isinstance(value, dict):
        return {**value, list(value)[-1]: "odd"}
    return {*value, "odd"} if isinstance(value, set) else type(value)([*value[:-1], "odd"])


def odd_tensors(value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Of other types, shapes and entries."""
    if value.is_floating_point():
        yield "other dtype", value.float() if value.dtype == torch.float64 else value.double()
        yield "nan", torch.where(torch.arange(value.numel()).view(value.shape) == 0, torch.nan, value)
        yield "integers", value.long()
    else:
        yield "reals", value + 0.5
        if value.dtype != torch.bool:
            yield "negative", value - 9
            yield "high", value + 99
    yield "scalar", value.flatten()[0]
    yield "empty", value[:0]
    if value.dim():
        yield "cut", value[..., :-1]
        yield "more axes", value[..., None]


def refused(call: Call, name: str, label: str, odd: Any) -> str:
    """How a call takes an odd value: "named" if the error begins "<argument> must", "foreign" or "silent".

    If two tensors do not fit each other, either may be named.
    """
    names = "|".join(call.arguments) if label in FITTING else name
    try:
        call.function(**call.arguments | {name: odd})
    except Exception as error:  # which one is what is asked
        named = isinstance(error, REFUSALS) and re.match(
            rf"(\w+(, | and ))?({names})((, | and )\w+)? must\b", str(error)
        )
        return "named" if named else f"foreign: {type(error).__name__}: {str(error).splitlines()[:1]}"
    return "silent"


def trials(name: str, make: Callable[[], Call]) -> Iterator[tuple[str, str]]:
    """Every odd value of every argument of a call, as `function(argument)=value`, and how it was taken."""
    first = make()
    parameters = inspect.signature(first.function).parameters
    for argument, valid in first.arguments.items():
        parameter = parameters.get(argument)
        optional = parameter is not None and (parameter.default is None or "None" in str(parameter.annotation))
        labels = [label for label, _ in odd_values(argument, valid, optional)]
        for label in labels:
            call = make()
            odd = dict(odd_values(argument, call.arguments[argument], optional))[label]
            yield f"{name}({argument})={label}", refused(call, argument, label, odd)


def walk(
    calls: Mapping[str, Callable[[], Call]],
    legal: Mapping[str, str],
    worded: Mapping[str, str],
    later: Mapping[str, str],
) -> tuple[list[str], int]:
    """Every trial of every call, whose valid form must be taken.

    Returns what is wrong, and the number of trials. Odd values may be taken silently if they are `legal`, or refused by
    another error if it is well `worded`; `later` are gaps of either kind, all of which must be open.
    """
    wrong, used, count = [], set(), 0
    for name, make in calls.items():
        call = make()
        call.function(**call.arguments)
        for trial, result in trials(name, make):
            count += 1
            gap = listed(trial, later)
            pattern = gap or listed(trial, legal if result == "silent" else worded)
            used.add(pattern)
            if result == "named" and gap:
                wrong.append(f"{trial} is no gap any more: {gap}")
            elif result != "named" and pattern is None:
                wrong.append(f"{trial}: {result}")
    unused = sorted({*legal, *worded, *later} - used)
    return wrong + [f"{pattern} is needed by nothing" for pattern in unused], count


def fresh(function: Callable[..., Any], arguments: dict[str, Any]) -> Call:
    """A call with what is made anew for it: arguments that are functions of nothing are called."""
    return Call(function, {name: value() if _is_maker(value) else value for name, value in arguments.items()})


def _is_maker(value: Any) -> bool:
    return callable(value) and not isinstance(value, torch.nn.Module | torch.Tensor)


def listed(trial: str, reasons: Mapping[str, str]) -> str | None:
    """The pattern, if any, under which a reason is given."""
    return next((pattern for pattern in reasons if fnmatchcase(trial, pattern)), None)


def generator() -> Generator:
    """A generator of tensors, seeded."""
    return Generator().manual_seed(0)


def rng() -> Random:
    """A generator of Python's, seeded."""
    return Random(0)
