"""Run with `pytest tests/benchmarks --benchmark-only -o addopts=""`; nothing here fails for being slow."""

from __future__ import annotations

from functools import partial

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from aa_core import exact, games
from aa_core.advantages import aligned_advantages, shaping_weights
from aa_core.tabular import Tabular, tabular_gradient


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shaping_weights(benchmark: BenchmarkFixture) -> None:
    advantages = torch.randn(512, 1000, generator=generator(0))
    weights = benchmark(shaping_weights, advantages, 0.9)
    assert weights.shape == advantages.shape


def test_exact_values_of_ten_thousand_pairs(benchmark: BenchmarkFixture) -> None:
    tables = torch.rand(2, 10_000, 5, generator=generator(0), dtype=torch.float64)
    values = benchmark(exact.values, tables[0], tables[1], games.make("prisoners_dilemma"), 0.96)
    assert values.isfinite().all()


def test_one_update_of_self_play(benchmark: BenchmarkFixture) -> None:
    game, settings = games.make("prisoners_dilemma", horizon=32), Tabular(games=128)
    logits = 0.1 * torch.randn(64, 2, 5, generator=generator(0))
    generators = [generator(seed) for seed in range(64)]
    credit = partial(aligned_advantages, beta=0.1, gamma=0.9)
    gradient, _ = benchmark(tabular_gradient, game, logits, settings, generators, credit)
    assert gradient.shape == logits.shape
