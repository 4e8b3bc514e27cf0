"""What a person sees while the demo runs: one line per stage with its progress, and how long is left."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from infra.demo.agenda import Stage, left_s


class Screen:
    """Prints to stderr, so that `--json` leaves stdout to the document. `spent` is seconds per finished stage."""

    def __init__(self, stages: Sequence[Stage], console: Console) -> None:
        self.console = console
        self.spent: dict[str, float] = {}
        self._stages = stages
        self._began, self._current = time.monotonic(), ""
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<42}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage; its line goes and a tick stays."""
        label = next(stage.label for stage in self._stages if stage.name == name)
        self._began, self._current = time.monotonic(), name
        task = self._progress.add_task(label, total=None, note="")
        with self._progress:
            yield
        self._progress.remove_task(task)
        self.spent[name] = round(time.monotonic() - self._began, 1)
        left = left_s(self._stages, self.spent, "", 0)
        self.console.print(f"[green]✓[/] {label:<42} {self.spent[name]:6.1f} s   [dim]{_about(left)}[/]")

    def show(self, done: int, total: int, note: str = "") -> None:
        """How far the current stage is."""
        left = left_s(self._stages, self.spent, self._current, time.monotonic() - self._began)
        text = " · ".join(part for part in (note, f"{done}/{total}", _about(left)) if part)
        for task in self._progress.task_ids:
            self._progress.update(task, completed=done, total=total, note=text)

    def say(self, text: str) -> None:
        self.console.print(f"  {text}")


def _about(seconds: float) -> str:
    """Half minutes are as exact as a guess should look."""
    if seconds < 1:
        return "done"
    return f"about {max(1, round(seconds / 30)) / 2:g} min left"
