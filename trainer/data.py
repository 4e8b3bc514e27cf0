"""Dataset rows as the trainer sees them, and their encoding: prompt ids, answer ids, nothing re-tokenised twice."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow.parquet
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from trainer.errors import TrainerError
from trainer.weights import Factors

Message = dict[str, Any]
AI = "ai"  # `source` of rows that a model judged
CORRECTION = "correction"  # `source` of rows that a person's own text won


class BadRow(TrainerError):
    """A dataset row is not in the format that its table has."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A whole conversation so far, tools included."""

    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]] | None = None
    prompt_id: str = ""
    segment: str = ""


@dataclass(frozen=True, slots=True)
class Preference:
    """One rater's strict choice. `weight` scales its loss, `margin` is how strong it was said to be.

    `event` is the same in all rows that one judgement made: a ranking of K answers is K(K-1)/2 of them.
    """

    prompt: Prompt
    chosen: Message
    rejected: Message
    weight: float = 1.0
    source: str = "human"
    rater: str = ""
    segment: str = ""
    event: str = ""
    margin: float = 0.0
    pair_id: str = ""

    @property
    def sampled(self) -> bool:
        """Whether a policy wrote both sides. A correction's text has log-probabilities of quite another size."""
        return self.source != CORRECTION


@dataclass(frozen=True, slots=True)
class Tie:
    """No side was better; `kind` says whether both were fine (`tie`) or neither (`both_bad`)."""

    prompt: Prompt
    completion_a: Message
    completion_b: Message
    kind: str = "tie"
    weight: float = 1.0
    source: str = "human"
    rater: str = ""
    event: str = ""


@dataclass(frozen=True, slots=True)
class Unpaired:
    """One answer that was found good or bad by itself, or as turn `turn` of a conversation of `turns` that was.

    `turns` is 0 where the verdict is about this answer alone.
    """

    prompt: Prompt
    completion: Message
    label: bool
    weight: float = 1.0
    source: str = "human"
    rater: str = ""
    turn: int = 0
    turns: int = 0


@dataclass(frozen=True, slots=True)
class Demonstration:
    """An answer to imitate."""

    prompt: Prompt
    completion: Message
    weight: float = 1.0


def read_table(dataset: Path, table: str, split: str) -> list[dict[str, Any]]:
    """All rows of `<table>/<split>/*.parquet` that weigh anything, in the order of the shards' names.

    None where there are no files. A judgement's weight is its own times what the dataset's side files say.
    """
    shards = sorted((dataset / table / split).glob("*.parquet"))
    rows = [row for shard in shards for row in pyarrow.parquet.ParquetFile(shard).read().to_pylist()]
    if table == "prompts":  # what was asked may be used, however little its owner's votes count
        return rows
    factors = Factors.read(dataset)
    weighed = [{**row, "weight": _weight(row) * factors.of(row)} for row in rows]
    return [row for row in weighed if row["weight"] > 0]


def preferences(rows: Iterable[dict[str, Any]]) -> list[Preference]:
    """A row without a prompt has whole conversations, which begin alike. Raises BadRow, as the four below do."""
    return [
        Preference(
            prompt=_prompt(row),
            chosen=_answer(row, "chosen"),
            rejected=_answer(row, "rejected"),
            pair_id=str(row.get("pair_id") or ""),
            segment=str(row.get("segment") or ""),
            event=_event(row),
            margin=_margin(row),
            **_judgement(row),
        )
        for row in map(_with_prompt, rows)
    ]


def ties(rows: Iterable[dict[str, Any]]) -> list[Tie]:
    return [
        Tie(
            prompt=_prompt(row),
            completion_a=_answer(row, "completion_a"),
            completion_b=_answer(row, "completion_b"),
            kind=str(row.get("kind") or "tie"),
            event=_event(row),
            **_judgement(row),
        )
        for row in rows
    ]


def unpaired(rows: Iterable[dict[str, Any]]) -> list[Unpaired]:
    return [
        Unpaired(
            prompt=_prompt(row),
            completion=_answer(row, "completion"),
            label=_label(row),
            **_judgement(row),
            **_place_in_conversation(row),
        )
        for row in rows
    ]


def demonstrations(rows: Iterable[dict[str, Any]]) -> list[Demonstration]:
    return [Demonstration(_prompt(row), _answer(row, "completion"), _judgement(row)["weight"]) for row in rows]


def prompts(rows: Iterable[dict[str, Any]]) -> list[Prompt]:
    return [_prompt(row) for row in rows]


def fitting(tokenizer: PreTrainedTokenizerBase, asked: Iterable[Prompt], room: int) -> list[Prompt]:
    """Prompts of at most `room` tokens: an engine refuses what leaves no room for an answer."""
    return [prompt for prompt in asked if len(encode_prompt(tokenizer, prompt)) <= room]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[int]:
    """As the engine encodes a chat request: the template with the generation prompt, no further special tokens."""
    return _ids(tokenizer, _render(tokenizer, prompt, None))


def encode_answer(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, answer: Message | str) -> list[int]:
    """What the template writes for the answer up to and with the end token.

    A template that rewrites the conversation's past with each answer gets the bare content and the end token.
    """
    message = {"role": "assistant", "content": answer} if isinstance(answer, str) else answer
    before, whole = _render(tokenizer, prompt, None), _render(tokenizer, prompt, message)
    end = tokenizer.eos_token_id
    written = whole.removeprefix(before) if whole.startswith(before) else str(message.get("content") or "")
    ids = _ids(tokenizer, written)
    return [*ids[: ids.index(end)], end] if end in ids else [*ids, end]


def _render(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, answer: Message | None) -> str:
    messages = [_parsed_calls(message) for message in (*prompt.messages, *([answer] if answer else []))]
    tools: list[dict[str, Any] | Callable[..., Any]] | None = list(prompt.tools) if prompt.tools else None
    try:
        return str(
            tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=answer is None, tokenize=False)
        )
    except TemplateError as error:
        raise BadRow(f"the model's chat template can't write a conversation: {error.message}") from None


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _parsed_calls(message: Message) -> Message:
    """OpenAI has a call's arguments as a JSON string; templates, and so the engine, want the object."""
    if not message.get("tool_calls"):
        return message
    calls = [{**call, "function": _parsed_arguments(call["function"])} for call in message["tool_calls"]]
    return {**message, "tool_calls": calls}


def _parsed_arguments(function: dict[str, Any]) -> dict[str, Any]:
    arguments = function.get("arguments")
    return {**function, "arguments": json.loads(arguments)} if isinstance(arguments, str) else function


def _prompt(row: dict[str, Any]) -> Prompt:
    tools = _decoded(row.get("tools") or None)
    return Prompt(
        _messages(row, "prompt"), tools or None, str(row.get("prompt_id") or ""), str(row.get("segment") or "")
    )


def _with_prompt(row: dict[str, Any]) -> dict[str, Any]:
    """TRL's implicit prompt: what `chosen` and `rejected` have in common at their beginning."""
    if row.get("prompt") is not None:
        return row
    chosen, rejected = _messages(row, "chosen"), _messages(row, "rejected")
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    return {**row, "prompt": chosen[:common], "chosen": chosen[common:], "rejected": rejected[common:]}


def _answer(row: dict[str, Any], column: str) -> Message:
    return _messages(row, column)[-1]


def _messages(row: dict[str, Any], column: str) -> list[Message]:
    """A text stands for one message, the user's in `prompt` and the assistant's elsewhere."""
    value = row.get(column)
    found = _decoded(value)
    if isinstance(value, str) and value and not isinstance(found, list | dict):
        found = [{"role": "user" if column == "prompt" else "assistant", "content": value}]
    messages = [_decoded(message) for message in found] if isinstance(found, list) else []
    if not messages or not all(isinstance(message, dict) and "role" in message for message in messages):
        raise BadRow(f"column {column} of a row holds no messages: {str(found)[:80]}")
    return [{key: value for key, value in message.items() if value is not None} for message in messages]


def _label(row: dict[str, Any]) -> bool:
    if not isinstance(row.get("label"), bool):
        raise BadRow(f"column label of a row is neither true nor false: {row.get('label')}")
    return bool(row["label"])


def _decoded(value: Any) -> Any:
    """Nested columns come as they are or as JSON text; text that is no JSON stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _weight(row: dict[str, Any]) -> float:
    weight = row.get("weight")
    if weight is None:
        return 1.0
    if not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise BadRow(f"column weight of a row is no weight: {weight}")
    return float(weight)


def _margin(row: dict[str, Any]) -> float:
    margin = row.get("margin")
    if margin is None:
        return 0.0
    if not isinstance(margin, int | float) or not math.isfinite(margin):
        raise BadRow(f"column margin of a row is no number: {margin}")
    return float(margin)


def _place_in_conversation(row: dict[str, Any]) -> dict[str, Any]:
    turn, turns = row.get("conversation_turn"), row.get("conversation_turns")
    if turns is None:
        return {}
    if not isinstance(turn, int) or not isinstance(turns, int) or not 1 <= turn <= turns:
        raise BadRow(f"columns conversation_turn and conversation_turns of a row are no place in one: {turn}, {turns}")
    return {"turn": turn, "turns": turns}


def _event(row: dict[str, Any]) -> str:
    """The events that the row is made of; empty where a file doesn't say."""
    return " ".join(str(event) for event in row.get("source_event_ids") or ())


def _judgement(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "weight": _weight(row),
        "source": str(row.get("source") or "human"),
        "rater": "" if row.get("source") == AI else str(row.get("rater") or ""),  # a model is no rater to hold out
    }
