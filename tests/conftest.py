"""One thread, since figures are made next to the tests; the same hypothesis examples in every run; long files first."""

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=25, database=None)
settings.load_profile("repeatable")

# files that take longest, which two workers must begin with if both are to end together (--no-loadscope-reorder)
LONGEST = (
    "test_notebooks", "test_types", "test_build", "test_course", "test_rehearsal", "test_site", "test_null_controls",
    "test_machine", "test_trainer_processes", "test_verdicts", "test_trainer", "test_rollout", "test_fresh",
    "test_soak", "test_readme", "test_language_survives",
)  # fmt: skip
PLACES = {name: place for place, name in enumerate(LONGEST)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: PLACES.get(item.path.stem, len(PLACES)))
