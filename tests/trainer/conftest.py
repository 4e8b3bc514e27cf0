"""Tiny models train fastest on one thread: more of them wait for each other, above all on a busy machine."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """A test that draws without a generator draws the same each time, whatever ran before it."""
    torch.manual_seed(0)
