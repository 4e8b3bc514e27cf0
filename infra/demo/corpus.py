"""The text that the demo's base model is made from, and the exact checks that guard its facts."""

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from infra.demo.phrasing import ASKED, CHECKED, TRAINED, Style, answer, question
from infra.demo.symbols import Symbol


def training_rows(symbols: Sequence[Symbol], seed: int) -> list[dict[str, Any]]:
    """Every symbol in every trained phrasing and every style, shuffled."""
    rng = random.Random(seed)
    rows = [
        _conversation(question(phrasing, symbol), answer(style, symbol, rng))
        for symbol in symbols
        for phrasing in TRAINED
        for style in Style
    ]
    rng.shuffle(rows)
    return rows


def regression_rows(symbols: Sequence[Symbol], count: int, seed: int) -> list[dict[str, Any]]:
    """Exact checks `{name, messages, contains_all, contains_any}`: the fact, asked in words that no one votes on."""
    rng = random.Random(seed)
    chosen = rng.sample(list(symbols), min(count, len(symbols)))
    return [
        {
            "name": f"fact:{symbol.name}",
            "messages": [{"role": "user", "content": question(rng.choice(CHECKED), symbol)}],
            "contains_all": [symbol.sentence],
            "contains_any": [],
        }
        for symbol in chosen
    ]


def asked_questions(symbols: Sequence[Symbol]) -> list[tuple[Symbol, str]]:
    """What raters may ask."""
    return [(symbol, question(phrasing, symbol)) for symbol in symbols for phrasing in (*TRAINED, *ASKED)]


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _conversation(asked: str, answered: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]}
