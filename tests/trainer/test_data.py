"""Rows come typed out of Parquet, and are encoded exactly as the engine would."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.support.tiny_model import Kind
from tests.support.training import make_base, make_message, make_prompt
from trainer.data import (
    BadRow,
    Prompt,
    demonstrations,
    encode_answer,
    encode_prompt,
    preferences,
    prompts,
    read_table,
    ties,
    unpaired,
)

PROMPT = [{"role": "user", "content": "What does math.cos do?"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "cos", "arguments": '{"x": 1}'}}
TOOL = {"type": "function", "function": {"name": "cos", "parameters": {"type": "object"}}}


def make_raw(**overrides: Any) -> dict[str, Any]:
    row = {"prompt": PROMPT, "chosen": [make_message("yes")], "rejected": [make_message("no")], "prompt_id": "p1"}
    return {**row, "rater": "r1", "weight": 0.5, "source": "human", "pair_id": "x", **overrides}


def write_shard(directory: Path, table: str, split: str, name: str, rows: list[dict[str, Any]]) -> None:
    target = directory / table / split / f"{name}.parquet"
    target.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), target)


def test_a_table_is_read_in_the_order_of_its_shards(tmp_path: Path) -> None:
    write_shard(tmp_path, "preference", "train", "b", [make_raw(rater="second")])
    write_shard(tmp_path, "preference", "train", "a", [make_raw(rater="first")])
    found = preferences(read_table(tmp_path, "preference", "train"))
    assert [row.rater for row in found] == ["first", "second"]


def test_a_table_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    assert read_table(tmp_path, "ties", "test") == []


def test_a_preference_keeps_weight_source_and_rater_and_both_texts() -> None:
    row = preferences([make_raw()])[0]
    assert (row.weight, row.source, row.rater, row.pair_id) == (0.5, "human", "r1", "x")
    assert (row.chosen["content"], row.rejected["content"]) == ("yes", "no")
    assert row.prompt.prompt_id == "p1"


def test_a_missing_weight_is_one_and_a_zero_stays_zero() -> None:
    kept, dropped = preferences([make_raw(weight=None), make_raw(weight=0.0)])
    assert (kept.weight, dropped.weight) == (1.0, 0.0)


def test_only_corrections_are_not_sampled_from_a_policy() -> None:
    corrected, chosen = preferences([make_raw(source="correction"), make_raw(source="ai")])
    assert not corrected.sampled
    assert chosen.sampled


def test_the_other_tables_are_typed_too() -> None:
    sides = {"completion_a": [make_message("a")], "completion_b": [make_message("b")], "kind": "both_bad"}
    assert ties([{"prompt": PROMPT, **sides}])[0].kind == "both_bad"
    assert unpaired([{"prompt": PROMPT, "completion": [make_message("a")], "label": False}])[0].label is False
    assert demonstrations([{"prompt": PROMPT, "completion": [make_message("a")]}])[0].weight == 1.0
    assert prompts([{"prompt": PROMPT, "prompt_id": "p2"}])[0].prompt_id == "p2"


def test_columns_may_hold_json_text_and_nulls_that_parquet_filled_in() -> None:
    row = make_raw(prompt=json.dumps([{**PROMPT[0], "tool_calls": None}]), tools=json.dumps([TOOL]))
    found = preferences([row])[0].prompt
    assert list(found.messages) == PROMPT
    assert found.tools == [TOOL]


@pytest.mark.parametrize("prompt", [None, [], "", "{}", 7, ["plain text"], [{"content": "no role"}]])
def test_a_row_without_messages_is_refused_by_name(prompt: Any) -> None:
    with pytest.raises(BadRow, match="column prompt"):
        prompts([{"prompt": prompt}])


@pytest.mark.parametrize("weight", ["heavy", -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight: Any) -> None:
    with pytest.raises(BadRow, match="column weight"):
        preferences([make_raw(weight=weight)])


def test_a_label_is_true_or_false_and_nothing_else() -> None:
    with pytest.raises(BadRow, match="column label"):
        unpaired([{"prompt": PROMPT, "completion": [make_message("a")], "label": "good"}])


def test_a_stated_margin_and_the_events_of_a_choice_are_read() -> None:
    row = {"prompt": PROMPT, "chosen": [make_message("a")], "rejected": [make_message("b")]}
    told = {"margin": 2, "source_event_ids": ["e1", "e2"], "segment": "de"}
    plain, full = preferences([row, {**row, **told}])
    assert (plain.margin, plain.event, plain.segment) == (0.0, "", "")
    assert (full.margin, full.event, full.segment) == (2.0, "e1 e2", "de")


@pytest.mark.parametrize("margin", ["strong", math.nan, math.inf])
def test_a_margin_that_is_no_number_is_refused(margin: object) -> None:
    row = {"prompt": PROMPT, "chosen": [make_message("a")], "rejected": [make_message("b")], "margin": margin}
    with pytest.raises(BadRow, match="margin"):
        preferences([row])


def test_a_row_may_be_a_turn_of_a_conversation_that_was_judged() -> None:
    row = {"prompt": PROMPT, "completion": [make_message("a")], "label": True}
    alone, turn = unpaired([row, {**row, "conversation_turn": 2, "conversation_turns": 3}])
    assert (alone.turn, alone.turns) == (0, 0)
    assert (turn.turn, turn.turns) == (2, 3)


@pytest.mark.parametrize(("turn", "turns"), [(0, 3), (4, 3), (None, 3), ("2", 3)])
def test_a_turn_outside_its_conversation_is_refused(turn: object, turns: int) -> None:
    row = {"prompt": PROMPT, "completion": [make_message("a")], "label": True}
    with pytest.raises(BadRow, match="no place"):
        unpaired([{**row, "conversation_turn": turn, "conversation_turns": turns}])


def test_what_the_template_refuses_is_a_bad_row(tmp_path: Path) -> None:
    tokenizer = make_base(tmp_path).tokenizer
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(BadRow, match="roles must alternate"):
        encode_prompt(tokenizer, make_prompt())


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_prompt_and_answer_ids_together_are_the_whole_conversation_s(tmp_path: Path, kind: Kind) -> None:
    tokenizer = make_base(tmp_path, kind=kind).tokenizer
    prompt = make_prompt()
    whole = tokenizer.apply_chat_template([*prompt.messages, make_message("a list")], return_dict=False)
    found = [*encode_prompt(tokenizer, prompt), *encode_answer(tokenizer, prompt, "a list")]
    assert found == whole[: len(found)]
    assert found[-1] == tokenizer.eos_token_id


def test_a_long_conversation_goes_into_the_prompt_whole(tmp_path: Path) -> None:
    tokenizer = make_base(tmp_path).tokenizer
    messages = [{"role": "system", "content": "S"}, *PROMPT, make_message("A"), {"role": "user", "content": "B"}]
    text = tokenizer.decode(encode_prompt(tokenizer, Prompt(messages)))
    assert (
        text
        == "<|system|>S<|end|><|user|>What does math.cos do?<|end|><|assistant|>A<|end|><|user|>B<|end|><|assistant|>"
    )


def test_tools_are_part_of_the_prompt(tmp_path: Path) -> None:
    tokenizer = make_base(tmp_path).tokenizer
    assert '"cos"' in tokenizer.decode(encode_prompt(tokenizer, make_prompt(tools=[TOOL])))


def test_a_tool_call_s_arguments_reach_the_template_as_an_object(tmp_path: Path) -> None:
    tokenizer = make_base(tmp_path).tokenizer
    answer = {"role": "assistant", "tool_calls": [CALL]}
    text = tokenizer.decode(encode_answer(tokenizer, make_prompt(), answer))
    assert '"arguments": {"x": 1}' in text
    assert text.endswith("<|end|>")


def test_a_template_that_rewrites_the_past_gets_the_bare_content(tmp_path: Path) -> None:
    tokenizer = make_base(tmp_path).tokenizer
    tokenizer.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    assert tokenizer.decode(encode_answer(tokenizer, make_prompt(), "Hello")) == "Hello<|end|>"


def test_a_text_stands_for_the_message_of_whoever_speaks_there() -> None:
    row = preferences([{"prompt": "What is 7?", "chosen": "A number.", "rejected": "42"}])[0]
    assert row.prompt.messages == [{"role": "user", "content": "What is 7?"}]
    assert (row.chosen, row.rejected) == (make_message("A number."), make_message("42"))


def test_without_a_prompt_it_is_what_both_conversations_begin_with() -> None:
    earlier = [*PROMPT, make_message("It is a function."), {"role": "user", "content": "Of what?"}]
    row = preferences([{"chosen": [*earlier, make_message("yes")], "rejected": [*earlier, make_message("no")]}])[0]
    assert list(row.prompt.messages) == earlier
    assert (row.chosen["content"], row.rejected["content"]) == ("yes", "no")


def test_two_conversations_that_are_the_same_are_no_choice() -> None:
    same = [*PROMPT, make_message("yes")]
    with pytest.raises(BadRow, match="column chosen"):
        preferences([{"chosen": same, "rejected": same}])
