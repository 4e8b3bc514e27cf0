from typing import Any

import pytest

from gateway.capture import Capture
from gateway.routing import Target
from gateway.visible import View

Json = dict[str, Any]


def make_chunk(*, index: int = 0, finish: str | None = None, ids: list[int] | None = None, **delta: Any) -> Json:
    logprobs = {"content": [{"token": "t", "logprob": -float(token), "bytes": None} for token in ids or []]}
    choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": logprobs, "token_ids": ids or []}
    return {"id": "e", "model": "e", "object": "chat.completion.chunk", "choices": [choice]}


def make_target(**overrides: Any) -> Target:
    fields = {"alias": "assistant", "version": "v1", "arm": "champion", "propensity": 1.0, "base_revision": "base-rev"}
    return Target(**{**fields, "rollout_id": None, "rollout_step": None, "revision": 1, **overrides})


def captured(*chunks: Json, n: int = 1) -> Capture:
    capture = Capture(n)
    for chunk in chunks:
        capture.take_chunk(chunk)
    return capture


def messages(capture: Capture) -> list[Json | None]:
    return [c.message for c in capture.choices(make_target(), stored=True)]


def test_pieces_join_to_the_whole_message() -> None:
    capture = captured(
        make_chunk(role="assistant", content=""),
        make_chunk(content="The ", ids=[1], reasoning="hm"),
        make_chunk(content="cosine", ids=[2, 3], finish="stop"),
    )
    (choice,) = capture.choices(make_target(propensity=0.5), stored=True)
    assert choice.message == {"role": "assistant", "content": "The cosine", "reasoning": "hm"}
    assert (choice.token_ids, choice.logprobs, choice.finish_reason) == ([1, 2, 3], [-1, -2, -3], "stop")
    assert (choice.version, choice.arm, choice.arm_propensity) == ("v1", "champion", 0.5)


def test_tool_calls_join_by_their_index() -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": '{"city": '}}
    other = {"index": 1, "id": "c2", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    capture = captured(
        make_chunk(role="assistant", tool_calls=[call]),
        make_chunk(tool_calls=[more, other]),
        make_chunk(tool_calls=[{"index": 0, "function": {"arguments": '"Ulm"}'}}], finish="tool_calls"),
    )
    (message,) = messages(capture)
    assert message is not None
    assert message["content"] is None
    assert [(call["id"], call["function"]) for call in message["tool_calls"]] == [
        ("c1", {"name": "weather", "arguments": '{"city": "Ulm"}'}),
        ("c2", {"name": "time", "arguments": "{}"}),
    ]


def test_choices_that_arrive_interleaved_are_told_apart() -> None:
    capture = captured(
        make_chunk(index=1, content="b"), make_chunk(index=0, content="a"), make_chunk(index=1, content="B"), n=2
    )
    assert [m and m["content"] for m in messages(capture)] == ["a", "bB"]


def test_a_pair_tells_both_sides_even_where_one_has_said_nothing() -> None:
    sides = (make_target(version="v2", arm="challenger"), make_target())
    first, second = captured(make_chunk(index=1, content="b"), n=2).choices(make_target(sides=sides), stored=True)
    assert [(side.index, side.version, side.arm) for side in (first, second)] == [
        (0, "v2", "challenger"),
        (1, "v1", "champion"),
    ]
    assert (first.message, first.finish_reason) == ({"role": "assistant", "content": None}, None)


def test_an_answer_is_finished_when_every_choice_is() -> None:
    capture = captured(make_chunk(index=0, finish="stop"), n=2)
    assert not capture.finished
    capture.take_chunk(make_chunk(index=1, finish="length"))
    assert capture.finished


def test_without_storing_nothing_of_the_content_is_kept() -> None:
    capture = captured(make_chunk(content="secret", ids=[1], finish="stop"))
    (choice,) = capture.choices(make_target(), stored=False)
    assert (choice.message, choice.token_ids, choice.logprobs, choice.finish_reason) == (None, [], [], "stop")


VIEW = View(response_id="chatcmpl-ours", model="v1")


def test_a_client_sees_our_names_and_not_what_it_did_not_ask_for() -> None:
    chunk = VIEW.chunk({**make_chunk(content="hi", ids=[1]), "prompt_token_ids": [1], "usage": {"total_tokens": 1}})
    assert chunk == {
        "id": "chatcmpl-ours",
        "model": "v1",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}],
    }


@pytest.mark.parametrize("asked", ["logprobs", "token_ids"])
def test_what_was_asked_for_stays(asked: str) -> None:
    view = View(response_id="r", model="v1", **{asked: True})
    chunk = view.chunk({**make_chunk(content="hi", ids=[1]), "prompt_token_ids": [1]})
    assert chunk is not None
    assert (asked in chunk["choices"][0], "prompt_token_ids" in chunk) == (True, asked == "token_ids")


def test_a_piece_without_anything_asked_for_is_left_out() -> None:
    assert VIEW.chunk(make_chunk(ids=[1])) is None
    assert VIEW.chunk(make_chunk(ids=[1], content="")) is None
    assert VIEW.chunk({"choices": [], "usage": {"total_tokens": 1}}) is None


def test_the_first_piece_with_the_role_and_the_last_with_its_reason_stay() -> None:
    assert VIEW.chunk(make_chunk(role="assistant", content="")) is not None
    assert VIEW.chunk(make_chunk(finish="stop")) is not None


def test_usage_comes_as_a_piece_of_its_own_when_it_was_asked_for() -> None:
    view = View(response_id="r", model="v1", usage=True)
    assert view.chunk({"choices": [], "usage": {"total_tokens": 1}}) == {
        "id": "r",
        "model": "v1",
        "choices": [],
        "usage": {"total_tokens": 1},
    }
