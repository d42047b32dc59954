"""What code a function executes: the identity of a run without any list of files kept by hand.

From a function on, names are followed through the project's own modules, definition by definition: functions, classes
and constants, imports at the head of a module or inside a function. Docstrings, comments, annotations, the words of
error messages and whatever is not reached (drawing, another game's rules) do not count.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from aa_core.paths import ROOT

Target = tuple[str, str | None]  # a module and a name in it; None: all of the module


class Module:
    """The definitions and imports of one file of the project, by name."""

    def __init__(self, name: str, package: str, source: str) -> None:
        self.name, self.package = name, package
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, Target] = {}
        for statement in ast.parse(source).body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                self.imports |= _imported(statement, package)
                continue
            for bound in _bound(statement):
                self.definitions.setdefault(bound, []).append(statement)


def _imported(statement: ast.Import | ast.ImportFrom, package: str) -> dict[str, Target]:
    if isinstance(statement, ast.Import):
        return {(a.asname or a.name.split(".")[0]): (a.name if a.asname else a.name.split(".")[0], None)
                for a in statement.names}  # fmt: skip
    base = statement.module or ""
    if statement.level:  # relative: one level is the package itself
        parents = package.split(".")
        base = ".".join([*parents[: len(parents) - statement.level + 1], *([base] if base else [])])
    return {(a.asname or a.name): (base, a.name) for a in statement.names}


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement of a module defines or changes."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
            yield from _base(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(statement, ast.Expr):
            yield from _base(node.func)  # TABLE.update(...)


def _base(node: ast.expr) -> Iterator[str]:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id


@cache
def _module(name: str, root: Path) -> Module | None:
    """A module of the project; None for all others (the standard library, packages)."""
    path = root.joinpath(*name.split("."))
    if path.with_suffix(".py").is_file():
        return Module(name, name.rpartition(".")[0], path.with_suffix(".py").read_text(encoding="utf-8"))
    if (path / "__init__.py").is_file():
        return Module(name, name, (path / "__init__.py").read_text(encoding="utf-8"))
    return None


def _essence(node: Any) -> Any:
    """A syntax tree as nested lists, without what does not change what it does, the same in every Python version."""
    if isinstance(node, list):
        return [_essence(item) for item in node]
    if not isinstance(node, ast.AST):
        return [type(node).__name__, repr(node)]
    if isinstance(node, ast.Raise):  # the words of an error are no result
        return ["Raise"]
    skipped = {"ctx", "type_comment", "kind", "annotation", "returns", "type_params"}
    parts = []
    for field, value in ast.iter_fields(node):
        if field in skipped or value is None or value == []:
            continue
        if field == "body" and isinstance(value, list):
            value = [statement for statement in value if not _is_text(statement)]
        parts.append([field, _essence(value)])
    return [type(node).__name__, *parts]


def _is_text(statement: ast.stmt) -> bool:
    """A docstring, or a string that stands alone."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


class _References(ast.NodeVisitor):
    """Dotted names that a definition reads, and what it imports itself; annotations and raised errors are left out."""

    def __init__(self, package: str) -> None:
        self.package, self.names, self.imports = package, set(), {}

    def visit_Name(self, node: ast.Name) -> None:
        self.names.add((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain, base = [node.attr], node.value
        while isinstance(base, ast.Attribute):
            chain, base = [base.attr, *chain], base.value
        if isinstance(base, ast.Name):
            self.names.add((base.id, *chain))
        else:
            self.visit(base)

    def visit_Import(self, node: ast.Import) -> None:
        self.imports |= _imported(node, self.package)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.imports |= _imported(node, self.package)

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        pass

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for child in (*node.decorator_list, node.args, *node.body):
            self.visit(child)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815


def _targets(nodes: list[ast.stmt], module: Module, root: Path) -> Iterator[Target]:
    """What of the project the statements of a module refer to."""
    references = _References(module.package)
    for node in nodes:
        references.visit(node)
    imports = module.imports | references.imports
    for first, *rest in references.names:
        if first in module.definitions:
            yield module.name, first
        if first not in imports:
            continue
        base, name = imports[first]
        if name is not None and _module(f"{base}.{name}", root):  # from package import module
            base, name = f"{base}.{name}", None
        while name is None and rest:
            name, *rest = rest
            if _module(f"{base}.{name}", root):
                base, name = f"{base}.{name}", None
        yield base, name


def reached(start: Target, root: Path = ROOT, source: str | None = None) -> dict[str, Any]:
    """Every definition of the project that code reaches: "module:name" -> its syntax tree without words.

    Args:
        start: module and name of a function; or, with `source`, any name for that text.
        root: folder of the project's packages.
        source: code that is no module, such as the cells of a notebook; all of it counts.
    """
    found: dict[str, Any] = {}
    waiting: list[Target] = [start]
    if source is not None:
        text = Module(start[0], "", source)
        nodes = ast.parse(source).body
        found[start[0]] = _essence([node for node in nodes if not _is_text(node)])
        waiting = list(_targets(nodes, text, root))
    while waiting:
        name, attribute = waiting.pop()
        module = _module(name, root)
        if module is None:
            continue
        if attribute is None:
            waiting += [(name, definition) for definition in module.definitions]
            continue
        if f"{name}:{attribute}" in found:
            continue
        if attribute in module.definitions:
            nodes = module.definitions[attribute]
            found[f"{name}:{attribute}"] = _essence(nodes)
            waiting += _targets(nodes, module, root)
        elif attribute in module.imports:
            base, inner = module.imports[attribute]
            waiting.append((base, inner))
    return found


def short_hash(content: Any) -> str:
    """Short hash of JSON content; equal contents have equal hashes, whatever the order of their keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_identity(function: Callable[..., Any], root: Path = ROOT) -> str:
    """Identity of the code that a module-level function executes."""
    return short_hash(reached((function.__module__, function.__qualname__.split(".")[0]), root))


def settings_as_data(settings: Any) -> Any:
    """Settings as JSON types.

    A function among them stands for its name and its code, a `partial` for that with its options, a dataclass
    (settings, a game with its rules) for its fields and its code.
    """
    if isinstance(settings, partial):
        return {**settings_as_data(settings.func), "options": settings_as_data(settings.keywords)}
    if callable(settings) and not isinstance(settings, type):
        return {"function": settings.__name__, "code": code_identity(settings)}
    if is_dataclass(settings):
        data = {field.name: settings_as_data(getattr(settings, field.name)) for field in fields(settings)}
        return data | {"class": type(settings).__name__, "code": code_identity(type(settings))}
    if isinstance(settings, dict):
        return {str(key): settings_as_data(value) for key, value in settings.items()}
    if isinstance(settings, list | tuple | range):
        return [settings_as_data(value) for value in settings]
    if isinstance(settings, Tensor):
        return settings.tolist()
    return settings
