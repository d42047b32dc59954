"""What counts as the code of a run, on a small project of files."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from aa_core.advantages import aligned_advantages, naive_advantages
from aa_core.games.coin import CoinGame
from experiments.identity import CODE, ROOT, _definition, _module, code_identity, reached, settings_as_data, short_hash

FORMULA = '''"""Formulas."""
from __future__ import annotations
import math
SCALE = 2.0
TABLE = {}
TABLE |= {"one": 1}

def credit(x: float) -> float:
    """Credit."""
    return SCALE * half(x)  # as in the paper

def half(x):
    if x < 0:
        raise ValueError(f"x must be positive, got {x}")
    return x / 2

def unused(x):
    return math.sqrt(x)

class Game:
    """Rules."""
    size: int = 3
    def step(self, state: int) -> int:
        """Next."""
        return state + TABLE["one"]
'''
DRAWING = "def font():\n    return 'serif'\n"
RUNS = """from toy import formula
from toy.formula import Game
from toy.figures import font

def compute(settings):
    return formula.credit(settings) + Game().step(1)

def lazy(settings):
    from toy.formula import unused
    return unused(settings)

def draw():
    return font()
"""


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Identity of each function of runs.py, after an edit of a file."""

    def write(file: str = "", old: str = "", new: str = "") -> dict[str, str]:
        package = tmp_path / "toy"
        package.mkdir(exist_ok=True)
        texts = {"__init__": "", "formula": FORMULA, "figures": DRAWING, "runs": RUNS}
        for name, text in texts.items():
            if name == file:
                assert re.search(old, text)
                text = re.sub(old, new, text)
            (package / f"{name}.py").write_text(text)
        _module.cache_clear()
        _definition.cache_clear()
        names = ("compute", "lazy", "draw")
        return {name: short_hash(reached(("toy.runs", name), tmp_path)) for name in names}

    return write


@pytest.mark.parametrize(
    ("file", "old", "new", "out_of_date"),
    [
        ("formula", "x / 2", "x / 3", {"compute"}),  # a formula, two calls away
        ("formula", "SCALE = 2.0", "SCALE = 2.5", {"compute"}),  # a constant
        ("formula", '"one": 1', '"one": 2', {"compute"}),  # a statement that changes a constant
        ("formula", "size: int = 3", "size: int = 4", {"compute"}),  # a rule of a game
        ("formula", "if x < 0", "if x <= 0", {"compute"}),
        ("formula", r"math.sqrt\(x\)", "math.sqrt(2 * x)", {"lazy"}),  # reached by an import inside a function only
        ("figures", "serif", "sans", {"draw"}),  # a font
        ("runs", r"formula.credit\(settings\)", "2 * formula.credit(settings)", {"compute"}),
        ("formula", '"""Credit."""', '"""What a step is worth."""', set()),
        ("formula", '"""Rules."""', "", set()),
        ("formula", "  # as in the paper", "", set()),
        ("formula", r"x: float\) -> float", "x)", set()),
        ("formula", "x must be positive, got", "x was negative:", set()),
        ("formula", "size: int = 3", "size: float = 3", set()),
        ("formula", "\n\ndef half", "\n\n\n\ndef half", set()),
    ],
)
def test_exactly_the_code_that_executes_counts(
    changed: Callable[..., dict[str, str]], file: str, old: str, new: str, out_of_date: set[str]
) -> None:
    before, after = changed(), changed(file, old, new)
    assert {name for name in before if before[name] != after[name]} == out_of_date


def test_names_of_arguments_variables_and_comprehensions_are_not_those_of_the_module(tmp_path: Path) -> None:
    lines = ("LIST = [name for name in (1, 2)]", "half = 0", "def compute(name, third):", "    half = name.x")
    lines += ("    return half, third", "def third():", "    return half")
    (tmp_path / "shadow.py").write_text("\n".join(lines))
    assert set(reached(("shadow", "compute"), tmp_path)) == {"shadow:compute"}
    assert set(reached(("shadow", "third"), tmp_path)) == {"shadow:third", "shadow:half"}
    lines = ("size = 3", "class Game:", "    size = 2", "    def step(self):", "        return size")
    (tmp_path / "hides.py").write_text("\n".join(lines))
    assert set(reached(("hides", "Game"), tmp_path)) == {"hides:Game", "hides:size"}, "a method does not see its class"


def test_names_are_followed_through_the_real_package() -> None:
    found = reached(("aa_core.advantages", "aligned_advantages"))
    assert {"aa_core.advantages:shaping_weights", "aa_core.checks:check_choice"} <= set(found)
    assert not [name for name in found if "gae" in name or "figures" in name]


def test_the_code_of_a_notebook_counts_with_what_it_calls(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text("def used():\n    return 1\n\ndef other():\n    return 2\n")
    _module.cache_clear()
    _definition.cache_clear()
    found = reached(("notebook", None), tmp_path, source="from toy import used\nprint(used())\n")
    assert set(found) == {"notebook", "toy:used"}


def test_settings_hold_the_code_of_rules_and_games() -> None:
    rule = settings_as_data({"credit": partial(aligned_advantages, beta=0.1, gamma=0.9), "game": CoinGame(horizon=8)})
    assert rule["credit"]["function"] == "aligned_advantages"
    assert rule["credit"]["options"] == {"beta": 0.1, "gamma": 0.9}
    assert rule["credit"]["code"] == code_identity(aligned_advantages)
    assert rule["game"]["horizon"] == 8
    assert rule["game"]["code"] != settings_as_data(naive_advantages)["code"]


def test_what_a_partial_was_given_counts_by_place_too() -> None:
    one, other = (settings_as_data(partial(naive_advantages, number)) for number in (1, 2))
    assert one["arguments"] == [1]
    assert one != other
    assert "arguments" not in settings_as_data(partial(naive_advantages))


def test_settings_that_are_no_numbers_are_refused_and_infinity_is_one() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        short_hash(settings_as_data({"beta": float("nan")}))
    ends = settings_as_data({"top": float("inf"), "ends": (-float("inf"), torch.tensor(float("inf")))})
    assert ends == {"top": "inf", "ends": ["-inf", "inf"]}
    assert short_hash(ends)


def of_a_notebook() -> None: ...


of_a_notebook.__module__ = "__main__"
FIRST, SECOND = (lambda x: x), (lambda x: 2 * x)


@pytest.mark.parametrize(("function", "name"), [(of_a_notebook, "of_a_notebook of __main__"), (FIRST, "<lambda> of ")])
def test_what_cannot_be_followed_has_no_identity(function: Callable[..., object], name: str) -> None:
    with pytest.raises(ValueError, match=f"functions in settings must be defined in a module.* got {name}"):
        settings_as_data({"credit": function})


def of_what(scale: float) -> Callable[[float], float]:
    return lambda x: scale * x


class Scale:
    def by(self, x: float) -> float:
        return 2 * x


@pytest.mark.parametrize(
    ("function", "name"),
    [(of_what(2.0), "of_what.<locals>.<lambda>"), (Scale().by, "Scale.by"), (partial(of_what(3.0), 1), "of_what")],
)
def test_functions_that_hold_values_of_their_own_are_refused(function: Callable[..., object], name: str) -> None:
    with pytest.raises(ValueError, match=f"functions in settings must stand for themselves, got {re.escape(name)}"):
        settings_as_data({"credit": function})


def test_objects_that_are_no_data_are_named() -> None:
    with pytest.raises(ValueError, match="settings must be data, functions or dataclasses, got Linear"):
        settings_as_data({"credit": torch.nn.Linear(1, 1)})


def test_code_of_others_is_known_by_its_name() -> None:
    assert settings_as_data(re.escape)["function"] == "escape"


def test_imports_that_depend_on_something_are_followed_unless_only_a_type_checker_reads_them(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text("def used():\n    return 1\n\ndef typed():\n    return 2\n")
    (tmp_path / "asks.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toy import typed\ntry:\n    import nothing\n"
        "except ImportError:\n    if True:\n        from toy import used\ndef compute():\n    return used(), typed\n"
    )
    _module.cache_clear()
    _definition.cache_clear()
    assert set(reached(("asks", "compute"), tmp_path)) == {"asks:compute", "toy:used"}


# --- what it could not follow is not written

PLAIN = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.AugAssign)
# `if` and `try` at the head of a module are followed; of calls, those that change no number
QUIET = ("os.environ.setdefault('TRL_EXPERIMENTAL_SILENCE', '1')", "warnings.filterwarnings(")


def unfollowed(source: str) -> list[str]:
    """Statements at the head of a module that the identity of a run does not see."""
    found, body = [], ast.parse(source).body
    own = {name.id for statement in body for name in ast.walk(statement) if isinstance(name, ast.Name) and
           isinstance(name.ctx, ast.Store)}  # fmt: skip
    for statement in body:
        text, inner = ast.unparse(statement), statement
        star = isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*"
        told = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        followed = isinstance(statement, (*PLAIN, ast.If, ast.Try)) or told or text.startswith(QUIET)
        targets = getattr(inner, "targets", [getattr(inner, "target", None)])
        roots = {
            next(part.id for part in ast.walk(target) if isinstance(part, ast.Name)) for target in targets if target
        }
        if star or not followed or not roots <= own | {"__all__"}:
            found.append(text)
    return found


@pytest.mark.parametrize("path", sorted(p.relative_to(ROOT).as_posix() for c in CODE for p in (ROOT / c).rglob("*.py")))
def test_a_module_says_nothing_that_identities_cannot_follow(path: str) -> None:
    assert unfollowed((ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "from math import *",
        "for k in range(3): X = k",
        "with open('x') as f: Y = f",
        "import torch\ntorch.manual_seed(1)",
        "from aa_core.games.coin import SCRIPTED\nSCRIPTED['a'] = 1",
        "import torch\ntorch.backends.x = True",
    ],
)
def test_what_cannot_be_followed_is_found(line: str) -> None:
    assert len(unfollowed(line)) == 1
