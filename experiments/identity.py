"""What code a function executes: the identity of a run without any list of files kept by hand.

From a function on, names are followed through the project's own modules, definition by definition: functions, classes
and constants, imports at the head of a module (also within `if` and `try`) or inside a function. Docstrings, comments,
annotations, what `raise` says and whatever is not reached (drawing, another game's rules) do not count; words that are
given to a function, as to `check_that`, do. Text games are looked up by name, so that each counts for all of them.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from symtable import SymbolTable, symtable
from types import ModuleType
from typing import Any

from torch import Tensor

from experiments.paths import ROOT

CODE = ("aa_core", "experiments")  # packages of the project
Target = tuple[str, str | None]  # a module and a name in it; None: all of the module
# of a syntax tree: no part of what it does
WORDS = ("ctx", "type_comment", "kind", "annotation", "returns", "type_params")


def _states() -> dict[str, tuple[int, int]]:
    """File of the project's code -> when it was written, and its size."""
    states = {path: path.stat() for package in CODE for path in (ROOT / package).rglob("*.py") if path.is_file()}
    return {str(path): (state.st_mtime_ns, state.st_size) for path, state in states.items()}


AT_START = _states()


def edited() -> list[str]:
    """Modules edited since this process began: it executes the old code, and identities are of the new one."""
    now = _states()
    mine = [module for name, module in sys.modules.items() if name.split(".")[0] in CODE]
    files = {module.__name__: str(Path(module.__file__ or "").resolve()) for module in mine}
    return sorted(name for name, file in files.items() if now.get(file) != AT_START.get(file))


class Module:
    """The definitions and imports of one file of the project, by name."""

    def __init__(self, name: str, package: str, source: str) -> None:
        self.name, self.package = name, package
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, Target] = {}
        for statement in ast.parse(source).body:
            for inner in _executed(statement):
                self.imports |= _imported(inner, package)
            for bound in _bound(statement):
                self.definitions.setdefault(bound, []).append(statement)


def _executed(statement: ast.AST) -> Iterator[ast.AST]:
    """A statement of a module, with those within `if` and `try`, but for what only a type checker reads."""
    yield statement
    if isinstance(statement, ast.If) and "TYPE_CHECKING" in _dotted(statement.test):
        return
    if isinstance(statement, ast.If | ast.Try | ast.ExceptHandler):
        for inner in ast.iter_child_nodes(statement):
            yield from _executed(inner)


def _imported(statement: ast.AST, package: str) -> dict[str, Target]:
    """What an import statement binds; nothing for other statements."""
    if isinstance(statement, ast.Import):
        names = [
            (a.asname or a.name.split(".")[0], a.name if a.asname else a.name.split(".")[0]) for a in statement.names
        ]
        return {bound: (module, None) for bound, module in names}
    if not isinstance(statement, ast.ImportFrom):
        return {}
    parents = package.split(".")[: len(package.split(".")) - statement.level + 1] if statement.level else []
    base = ".".join([*parents, *([statement.module] if statement.module else [])])
    return {(a.asname or a.name): (base, a.name) for a in statement.names}


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement of a module defines or changes."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    inside = {  # of `[... for x in ...]`, x is nobody else's
        id(node)
        for part in ast.walk(statement)
        if isinstance(part, ast.comprehension)
        for node in ast.walk(part.target)
    }
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and id(node) not in inside and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Call) and isinstance(statement, ast.Expr):
            yield from _dotted(node.func)[:1]  # TABLE.update(...)
        elif isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
            yield from _dotted(node)[:1]  # TABLE[...] = ...


def _dotted(node: ast.expr) -> list[str]:
    """The parts of a dotted name; of `name[...].part` those before the bracket; nothing for other expressions."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (base := _dotted(node.value)):
        return [*base, node.attr]
    return _dotted(node.value) if isinstance(node, ast.Subscript) else []


@cache
def _module(name: str, root: Path) -> Module | None:
    """A module of the project; None for all others (the standard library, packages)."""
    path = root.joinpath(*name.split("."))
    for file, package in ((path.with_suffix(".py"), name.rpartition(".")[0]), (path / "__init__.py", name)):
        if file.is_file():
            return Module(name, package, file.read_text(encoding="utf-8"))
    return None


def _essence(node: Any) -> Any:
    """A syntax tree as nested lists, without what does not change what it does, the same in every Python version."""
    if isinstance(node, list):  # a docstring is a string that stands alone
        return [_essence(part) for part in node if not (isinstance(part, ast.Expr) and _is_text(part.value))]
    if isinstance(node, ast.Raise):  # the words of an error are no result
        return ["Raise"]
    if not isinstance(node, ast.AST):
        return [type(node).__name__, repr(node)]
    parts = [(name, value) for name, value in ast.iter_fields(node) if name not in WORDS and value not in (None, [])]
    return [type(node).__name__, *([name, _essence(value)] for name, value in parts)]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _read(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a definition that are executed: all but annotations and raised errors."""
    if isinstance(node, ast.Raise):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name not in WORDS:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _read(child)


def _targets(nodes: list[ast.stmt], module: Module, root: Path) -> Iterator[Target]:
    """What of the project the statements of a module refer to."""
    read = [node for statement in nodes for node in _read(statement)]
    imports = dict(module.imports)
    for node in read:
        imports |= _imported(node, module.package)
    visible = set(_global_names(symtable(ast.unparse(ast.Module(nodes, [])), module.name, "exec"), True))
    inner = {id(node.value) for node in read if isinstance(node, ast.Attribute)}  # of a.b.c the whole name counts
    names = [node for node in read if isinstance(node, ast.Name | ast.Attribute) and id(node) not in inner]
    for first, *rest in {tuple(_dotted(node)) for node in names} - {()}:
        if first in module.definitions and first in visible:
            yield module.name, first
        if first not in imports:
            continue
        base, name = imports[first]
        path = [*([name] if name else []), *rest]
        while path and _module(f"{base}.{path[0]}", root):  # a module in a package
            base, *path = f"{base}.{path[0]}", *path[1:]
        yield base, path[0] if path else None


def _global_names(table: SymbolTable, outermost: bool) -> Iterator[str]:
    """Names that code looks up in its module: not those of arguments and variables of a function."""
    for symbol in table.get_symbols():
        if symbol.is_global() or (outermost and symbol.is_referenced()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _global_names(inner, False)


@cache
def _definition(module: str, name: str, root: Path) -> tuple[Any, tuple[Target, ...]]:
    """What a definition does, and what it refers to."""
    known = _module(module, root)
    nodes = known.definitions[name]
    return _essence(nodes), tuple(_targets(nodes, known, root))


def reached(
    start: Target, root: Path = ROOT, source: str | None = None, beyond: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Every definition of the project that code reaches: "module:name" -> its syntax tree without words.

    Args:
        start: module and name of a function; or, with `source`, any name for that text.
        root: folder of the project's packages.
        source: code that is no module, such as the cells of a notebook; all of it counts.
        beyond: modules that are not entered.
    """
    found: dict[str, Any] = {}
    waiting: list[Target] = [start]
    if source is not None:
        nodes = ast.parse(source).body
        found[start[0]] = _essence(nodes)
        waiting = list(_targets(nodes, Module(start[0], "", source), root))
    while waiting:
        name, attribute = waiting.pop()
        module = _module(name, root)
        if module is None or name in beyond or f"{name}:{attribute}" in found:
            continue
        if attribute is None:
            waiting += [(name, definition) for definition in module.definitions]
        elif attribute in module.definitions:
            found[f"{name}:{attribute}"], targets = _definition(name, attribute, root)
            waiting += targets
        elif attribute in module.imports:
            waiting.append(module.imports[attribute])
    return found


def short_hash(content: Any) -> str:
    """Short hash of JSON content; equal contents have equal hashes, whatever the order of their keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_identity(function: Callable[..., Any], root: Path = ROOT) -> str:
    """Identity of the code that a function or class executes; what is no code of the project has its name alone.

    Raises:
        ValueError: it stands in a notebook or script, in a function or in no definition of its module, or is that of an
            object: nobody could follow it, or what it holds.
    """
    whose = getattr(function, "__self__", None)
    if "<locals>" in function.__qualname__ or not (whose is None or isinstance(whose, ModuleType)):
        raise ValueError(
            f"functions in settings must stand for themselves, got {function.__qualname__}, which holds values that "
            "nobody would see: give them to a function of a module with functools.partial"
        )
    module, name = function.__module__, function.__qualname__.split(".")[0]
    found = reached((module, name), root)
    if not found and (module == "__main__" or _module(module, root)):
        raise ValueError(f"functions in settings must be defined in a module, by def or class, got {name} of {module}")
    return short_hash(found)


def settings_as_data(settings: Any) -> Any:
    """Settings as JSON types.

    A function among them stands for its name and its code, a `partial` for that with its arguments, a dataclass
    (settings, a game with its rules) for its fields and its code. JSON has no infinity: that is a word.
    """
    if isinstance(settings, partial):
        given = {"arguments": settings_as_data(settings.args)} if settings.args else {}
        return {**settings_as_data(settings.func), "options": settings_as_data(settings.keywords), **given}
    if is_dataclass(settings):
        data = {field.name: settings_as_data(getattr(settings, field.name)) for field in fields(settings)}
        return data | {"class": type(settings).__name__, "code": code_identity(type(settings))}  # type: ignore[arg-type]
    if isinstance(settings, dict):
        return {str(key): settings_as_data(value) for key, value in settings.items()}
    if isinstance(settings, list | tuple | range):
        return [settings_as_data(value) for value in settings]
    if callable(settings):
        if not hasattr(settings, "__qualname__"):
            raise ValueError(f"settings must be data, functions or dataclasses, got {type(settings).__name__}")
        return {"function": settings.__name__, "code": code_identity(settings)}
    if isinstance(settings, Tensor):
        return settings_as_data(settings.tolist())
    return repr(settings) if isinstance(settings, float) and math.isinf(settings) else settings
