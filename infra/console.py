"""What commands print: tables and JSON on standard output, news on standard error."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def out() -> Console:
    return Console(highlight=False)


def err() -> Console:
    return Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """One document, indented; dates and paths as text."""
    out().out(json.dumps(value, indent=1, default=str, ensure_ascii=False), highlight=False)


def print_json_line(value: Any) -> None:
    """One of many documents, on a line of its own."""
    out().out(json.dumps(value, default=str, ensure_ascii=False), highlight=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Cells are plain text: nothing in them is taken for markup."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    out().print(table, markup=False)


def _cell(value: object) -> str:
    text = "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
    return text.replace("[", r"\[")
