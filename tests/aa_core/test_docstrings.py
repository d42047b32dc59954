"""Examples in docstrings say what comes out."""

import doctest
import importlib
import pkgutil

import aa_core


def test_examples_in_docstrings_are_true() -> None:
    tried = 0
    for module in pkgutil.walk_packages(aa_core.__path__, "aa_core."):
        results = doctest.testmod(importlib.import_module(module.name))
        assert results.failed == 0, f"{module.name}: {results.failed} examples are wrong"
        tried += results.attempted
    assert tried >= 3
