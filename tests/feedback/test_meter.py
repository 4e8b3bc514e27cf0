"""Progress is shown to whoever waits, and to nobody else."""

import io

from rich.console import Console

from feedback.meter import SHOWN_AFTER_S, Meter


def shown(*moments: float) -> str:
    """What a terminal has seen once half was done at each of these seconds."""
    times = iter([0.0, *moments])
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Meter(screen, lambda: next(times)) as meter:
        for _ in moments:
            meter("events", 320, 640)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_a_dataset_that_is_made_at_once_shows_nothing() -> None:
    assert "opening events" not in shown(SHOWN_AFTER_S - 1)


def test_one_that_takes_longer_shows_how_far_it_is() -> None:
    found = shown(1.0, SHOWN_AFTER_S + 1)
    assert "opening events" in found
    assert "320/640" in found
    assert "writing rows" not in found
