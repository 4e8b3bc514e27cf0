"""Of logged votes those are used whose every token can be weighed; all others are counted by the reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.events import TENANT, make_choice, make_feedback, make_inference
from tests.support.feedback import Event, make_room
from trainer.data import read_table
from trainer.logged import Origin, drawn, usable

ORIGIN = Origin("base-1", "template-1", longest=10)


def make_row(**overrides: Any) -> dict[str, Any]:
    """A thumb up that can be used."""
    sampling = {"temperature": 0.7, "top_p": 1.0, "top_k": 0, "n": 1, **overrides.pop("sampling", {})}
    row = {
        "prompt": [{"role": "user", "content": "What?"}], "completion": [{"role": "assistant", "content": "This."}],
        "label": True, "pair_id": "p1", "unit": "rater-1", "rater": "rater-1", "source": "human", "weight": 0.5,
        "versions": {"completion": "v1"}, "behaviour_logprob": {"completion": -2.5}, "feedback_kind": "thumbs",
        "conversation_turns": None, "prompt_token_ids": [1, 2], "completion_token_ids": [3, 4],
        "sampling": json.dumps(sampling), "arm": "champion", "arm_propensity": 0.9, "base_revision": "base-1",
        "template_hash": "template-1",
    }  # fmt: skip
    return {**row, **overrides}


def test_a_vote_says_what_its_weight_is_made_of() -> None:
    (vote,) = usable([make_row()], ORIGIN).votes
    assert (vote.up, vote.rater, vote.weight, vote.version) == (True, "rater-1", 0.5, "v1")
    assert (vote.propensity, vote.temperature, vote.logprob) == (0.9, 0.7, -2.5)
    assert (vote.encoded.prompt, vote.encoded.answer) == ([1, 2], [3, 4])
    assert vote.prompt.messages == [{"role": "user", "content": "What?"}]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"source": "ai"}, "no_persons"),
        ({"conversation_turns": 3}, "whole_conversation"),
        ({"feedback_kind": "comparison"}, "no_thumb_or_rating"),
        ({"completion_token_ids": None}, "tokens_unknown"),
        ({"prompt_token_ids": None}, "tokens_unknown"),
        ({"behaviour_logprob": {"completion": None}}, "tokens_unknown"),
        ({"arm_propensity": None}, "tokens_unknown"),
        ({"base_revision": "base-0"}, "other_base"),
        ({"template_hash": "template-0"}, "other_template"),
        ({"prompt_token_ids": [1] * 9}, "too_long"),
        ({"sampling": {"temperature": 0.0}}, "greedy"),
        ({"sampling": {"top_p": 0.9}}, "sampled_with_top_p"),
        ({"sampling": {"top_k": 20}}, "sampled_with_top_k"),
        ({"sampling": {"repetition_penalty": 1.1}}, "sampled_with_repetition_penalty"),
        ({"sampling": {"logit_bias": True}}, "sampled_with_logit_bias"),
        ({"sampling": {"structured_outputs": True}}, "sampled_with_structured_outputs"),
        ({"sampling": {"tool_choice": "required"}}, "sampled_with_tool_choice"),
        ({"sampling": {"response_format": "json_schema"}}, "sampled_with_response_format"),
        ({"sampling": {"something_new": True}}, "sampled_with_something_new"),
    ],
)
def test_what_cannot_be_weighed_is_left_out_by_its_reason(overrides: dict[str, Any], reason: str) -> None:
    found = usable([make_row(**overrides), make_row()], ORIGIN)
    assert (len(found.votes), found.left_out) == (1, {reason: 1})


@pytest.mark.parametrize(
    "sampling",
    [{"top_k": -1}, {"stop": True}, {"seed": 7}, {"tool_choice": "auto"}, {"response_format": "text"}],
)  # fmt: skip
def test_what_does_not_change_a_tokens_chance_does_not_matter(sampling: dict[str, Any]) -> None:
    assert usable([make_row(sampling=sampling)], ORIGIN).left_out == {}


def test_rows_of_a_dataset_that_kept_no_tokens_are_counted() -> None:
    older = {key: value for key, value in make_row().items() if not key.endswith("token_ids")}
    assert usable([older], ORIGIN).left_out == {"tokens_unknown": 1}


def test_a_version_of_which_nothing_can_be_used_is_named() -> None:
    lost = make_row(versions={"completion": "v2"}, base_revision="base-0")
    assert usable([make_row(), lost], ORIGIN).lost_versions == {"v2"}
    assert usable([make_row(), make_row(base_revision="base-0")], ORIGIN).lost_versions == frozenset()
    assert usable([make_row(), make_row(versions={"completion": "v3"}, source="ai")], ORIGIN).lost_versions == set()


def test_the_same_votes_are_drawn_in_whatever_order_they_come_and_others_for_another_seed() -> None:
    votes = usable([make_row(pair_id=f"p{at}") for at in range(40)], ORIGIN).votes
    mine = [vote.vote_id for vote in drawn(votes, 10, seed=0)]
    assert [vote.vote_id for vote in drawn(votes[::-1], 10, seed=0)] == mine
    assert [vote.vote_id for vote in drawn(votes, 10, seed=1)] != mine
    assert len(drawn(votes, 100, seed=0)) == 40


def test_what_feedback_freezes_is_what_is_weighed(tmp_path: Path) -> None:
    """From events on the log to votes with tokens; the event without log-probabilities is counted."""
    room = make_room(tmp_path)
    blind = make_inference("r2", choices=[make_choice(logprobs=[])], prompt="And sin?")
    chats = [Event(make_inference("r1"), "chat 1"), Event(blind, "chat 2")]
    votes = [Event(make_feedback(name, value=name == "r1"), f"vote {name}") for name in ("r1", "r2")]
    room.append([*chats, *votes])
    room.consume()
    manifest = room.build()
    directory = room.artifacts.local_path(f"datasets/{TENANT}/{manifest.dataset_id}")
    found = usable(read_table(directory, "unpaired", "train"), Origin("base-revision", "any", longest=100))
    room.close()
    (vote,) = found.votes
    assert (vote.up, vote.logprob, vote.temperature, vote.propensity) == (True, -0.875, 0.7, 1.0)
    assert (vote.encoded.prompt, vote.encoded.answer) == ([1, 2, 3], [5, 6, 7])
    assert found.left_out == {"tokens_unknown": 1}
