"""Examples say what comes out, in docstrings and in the book, and every public name has one."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable

import pytest

import aa_core
from experiments.paths import ROOT

PAGE = ROOT / "notebooks/book/examples.md"
WITHOUT = {"aa_core.llm.trainer.AdvantageAlignmentTrainer": "to train a language model takes too long"}
MODULES = [importlib.import_module(module.name) for module in pkgutil.walk_packages(aa_core.__path__, "aa_core.")]


def blocks_of_page() -> dict[str, list[doctest.DocTest]]:
    """By section, whose blocks go on from each other."""
    text, sections = PAGE.read_text(encoding="utf-8"), {}
    for block in re.finditer(r"^```pycon\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        section = text[: block.start()].rpartition("\n## ")[2].partition("\n")[0]
        line, blocks = text.count("\n", 0, block.start(1)), sections.setdefault(section, [])
        blocks.append(doctest.DocTestParser().get_doctest(block[1], {}, section, str(PAGE), line))
    return sections


def docstrings() -> list[doctest.DocTest]:
    return [test for module in MODULES for test in doctest.DocTestFinder().find(module) if test.examples]


SECTIONS = blocks_of_page()


def run(tests: Iterable[doctest.DocTest]) -> None:
    """Each must print what is written; it begins with the names that the one before leaves."""
    report: list[str] = []
    names: dict[str, object] = {}
    for test in tests:
        test.globs = names = test.globs | names
        doctest.DocTestRunner(verbose=False).run(test, out=report.append, clear_globs=False)
    assert not report, "".join(report)


@pytest.mark.parametrize("section", SECTIONS)
def test_examples_of_the_page_are_true(section: str) -> None:
    run(SECTIONS[section])


@pytest.mark.parametrize("test", docstrings(), ids=lambda test: test.name)
def test_examples_in_docstrings_are_true(test: doctest.DocTest) -> None:
    run([test])


def full_name(thing: object) -> str:
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}"


def public_names() -> set[str]:
    """Functions and classes of aa_core without an underscore, each where it is defined."""
    return {
        full_name(thing)
        for module in MODULES
        for name, thing in vars(module).items()
        if not name.startswith("_") and (inspect.isfunction(thing) or inspect.isclass(thing))
        if thing.__module__ == module.__name__
    }


def shown(tests: Iterable[doctest.DocTest]) -> set[str]:
    """What the tests use, other than to import it, in blocks that print something."""
    found: set[str] = set()
    names: dict[str, object] = {}
    for test in tests:
        names |= test.globs
        nodes = [node for example in test.examples for node in ast.walk(ast.parse(example.source))]
        for node in nodes:
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                names |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
        if any(example.want for example in test.examples):
            used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
            found |= {full_name(names[name]) for name in used & names.keys()}
    return found


def test_every_public_name_has_an_example_that_runs() -> None:
    found = set().union(*map(shown, SECTIONS.values()), *(shown([test]) for test in docstrings()))
    assert public_names() - found == set(WITHOUT), "show it on notebooks/book/examples.md, or say here why not"
