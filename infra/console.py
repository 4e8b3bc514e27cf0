"""What commands print: tables and JSON on standard output, news on standard error."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

PIPED_WIDTH = 160  # where no terminal says how wide it is


@dataclass(frozen=True)
class Branch:
    """A line of a tree, and those below it."""

    text: str
    parts: Sequence["Branch"] = ()


def out() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def err() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One document, indented; dates and paths as text."""
    out().out(json.dumps(value, indent=1, default=str, ensure_ascii=False), highlight=False)


def print_json_line(value: Any) -> None:
    """One of many documents, on a line of its own."""
    out().out(json.dumps(value, default=str, ensure_ascii=False), highlight=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    out().print(make_table(columns, rows, title=title))


def make_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> Table:
    """Cells are plain text: nothing in them is taken for markup. The first column, a name, is never cut."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def print_tree(root: Branch) -> None:
    """What hangs on what; nothing in it is taken for markup."""
    out().print(_grown(Tree(Text(root.text)), root))


def _grown(tree: Tree, branch: Branch) -> Tree:
    for part in branch.parts:
        _grown(tree.add(Text(part.text)), part)
    return tree


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        text = value.isoformat(sep=" ", timespec="seconds")
    else:
        text = "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
    return text.replace("[", r"\[")
