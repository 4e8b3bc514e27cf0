"""One row of a dataset, and the Parquet schema of each table.

Nested columns have fixed fields, absent ones null; whoever feeds a chat template leaves the nulls out (TRL's
`remove_none_values`). `tools` is JSON text, as TRL's trainers take it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pyarrow as pa

from feedback.cells import Cell

VERSION = 2  # other columns, or another way to fill them, get another number: then no older file is taken over


class Table(StrEnum):
    PREFERENCE = "preference"
    TIES = "ties"
    UNPAIRED = "unpaired"
    DEMONSTRATIONS = "demonstrations"
    PROMPTS = "prompts"


JUDGED = (Table.PREFERENCE, Table.TIES, Table.UNPAIRED, Table.DEMONSTRATIONS)
SIDES: dict[Table, tuple[str, ...]] = {
    Table.PREFERENCE: ("chosen", "rejected"),
    Table.TIES: ("completion_a", "completion_b"),
    Table.UNPAIRED: ("completion",),
    Table.DEMONSTRATIONS: ("completion",),
    Table.PROMPTS: (),
}
DRAWN: list[tuple[str, pa.DataType]] = [  # how the answer came about; null where that is not known
    ("prompt_token_ids", pa.list_(pa.int32())),
    ("completion_token_ids", pa.list_(pa.int32())),
    ("sampling", pa.string()),  # JSON
    ("arm", pa.string()),
    ("arm_propensity", pa.float64()),
    ("base_revision", pa.string()),
    ("template_hash", pa.string()),
]
EXTRA: dict[Table, list[tuple[str, pa.DataType]]] = {
    Table.TIES: [("kind", pa.string())],
    Table.UNPAIRED: [
        ("label", pa.bool_()),
        ("conversation_turn", pa.int32()),  # from 1; null where the verdict is on this answer alone
        ("conversation_turns", pa.int32()),
        ("feedback_kind", pa.string()),  # thumbs, rating, or the comparison of which both sides were bad
        *DRAWN,
    ],
}
MARGIN = "margin"  # TRL subtracts any column of that name, so only rows with a stated strength have it
CALL = pa.struct(
    [
        ("id", pa.string()),
        ("type", pa.string()),
        ("function", pa.struct([("name", pa.string()), ("arguments", pa.string())])),
    ]
)
MESSAGE = pa.struct(
    [
        ("role", pa.string()),
        ("content", pa.string()),
        ("reasoning_content", pa.string()),
        ("name", pa.string()),
        ("tool_calls", pa.list_(CALL)),
        ("tool_call_id", pa.string()),
    ]
)
MESSAGES = pa.list_(MESSAGE)


@dataclass(frozen=True, slots=True)
class Row:
    """`cell` is where its file is: the day of its last event, and the bucket of whoever it is from."""

    table: Table
    row_id: str
    cell: Cell
    values: Mapping[str, Any]

    @property
    def has_margin(self) -> bool:
        return MARGIN in self.values


def schema(table: Table, *, margin: bool = False) -> pa.Schema:
    """Columns in a fixed order: the bytes of a shard depend on it."""
    sides = SIDES[table]
    columns: list[tuple[str, pa.DataType]] = [("prompt", MESSAGES), *((side, MESSAGES) for side in sides)]
    columns += [*EXTRA.get(table, ()), ("tools", pa.string()), *_provenance(table, sides)]
    return pa.schema([*columns, (MARGIN, pa.float64())] if margin else columns)


def _provenance(table: Table, sides: tuple[str, ...]) -> list[tuple[str, pa.DataType]]:
    """Whose judgement of whose answers it is. Per-side columns are structs with the sides as fields."""
    names = ("prompt_id", "rater", "unit", "rater_group", "segment")  # unit: the rater, or the conversation of nobody
    who = [(name, pa.string()) for name in names]
    when = [("occurred_at", pa.timestamp("us", tz="UTC")), ("source_event_ids", pa.list_(pa.string()))]
    if table is Table.PROMPTS:
        return [*who, ("source", pa.string()), *when, ("weight", pa.float64())]
    return [
        ("pair_id", pa.string()),
        *who,
        ("source", pa.string()),
        ("versions", pa.struct([(side, pa.string()) for side in sides])),
        ("behaviour_logprob", pa.struct([(side, pa.float64()) for side in sides])),
        ("finish_reason", pa.struct([(side, pa.string()) for side in sides])),
        ("shown_first", pa.string()),
        ("latency_ms", pa.float64()),
        *when,
        ("weight", pa.float64()),
    ]
