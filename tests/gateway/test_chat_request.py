from typing import Any

import orjson
import pytest

from gateway.chat_request import RESERVED, content, engine_body, parse, resolved_sampling, turn
from gateway.errors import BadRequest
from tests.support.scene import QUESTION


def make_sent(**fields: Any) -> dict[str, Any]:
    return {"model": "assistant", "messages": QUESTION, **fields}


def parsed(**fields: Any) -> Any:
    return parse(orjson.dumps(make_sent(**fields)))[0]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "hi"}]}, "messages.0.role"),
        ({"model": None}, "model"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"n": "2"}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"metadata": {"consent_train": "maybe"}}, "metadata.consent_train"),
        ({"user": ""}, "user"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parsed(**fields)
    assert caught.value.detail.param == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"nul", b'{"model": "\xff"}'])
def test_what_is_no_json_object_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(body)


def test_top_logprobs_without_logprobs_are_refused_since_the_engine_would_no_longer_object() -> None:
    with pytest.raises(BadRequest, match="top_logprobs"):
        parsed(top_logprobs=3)


def test_stream_options_without_a_stream_are_refused() -> None:
    with pytest.raises(BadRequest, match="stream_options"):
        parsed(stream_options={"include_usage": True})


def test_the_engine_is_always_asked_for_token_ids_and_logprobs() -> None:
    body = engine_body(make_sent(logprobs=False), model="v1", cache_salt="s")
    assert (body["model"], body["logprobs"], body["return_token_ids"], body["cache_salt"]) == ("v1", True, True, "s")


def test_a_streams_usage_is_always_asked_for_and_its_other_options_kept() -> None:
    sent = make_sent(stream=True, stream_options={"continuous_usage_stats": True})
    assert engine_body(sent, model="v1", cache_salt="s")["stream_options"] == {
        "continuous_usage_stats": True,
        "include_usage": True,
    }


def test_fields_that_only_the_gateway_may_set_never_come_from_a_client() -> None:
    sent = make_sent(**dict.fromkeys(RESERVED, "evil"))
    body = engine_body(sent, model="v1", cache_salt="ours")
    assert body["cache_salt"] == "ours"
    assert not (RESERVED - {"cache_salt"}) & body.keys()


def test_who_speaks_stays_here() -> None:
    sent = make_sent(user="ann", safety_identifier="a", metadata={"session_id": "s"}, store=True)
    assert not {"user", "safety_identifier", "metadata", "store"} & engine_body(sent, model="v", cache_salt="s").keys()


def test_every_other_field_goes_through_untouched() -> None:
    fields = {
        "temperature": 0.1,
        "tools": [{"type": "function"}],
        "stop": ["x"],
        "min_p": 0.2,
        "chat_template_kwargs": {},
    }
    body = engine_body(make_sent(**fields), model="v", cache_salt="s")
    assert {name: body[name] for name in fields} == fields


def test_sampling_is_resolved_as_the_engine_does_it() -> None:
    defaults = {"temperature": 0.6, "top_k": 20, "max_new_tokens": 99}
    assert resolved_sampling(make_sent(temperature=0.2, seed=4), defaults) == {
        "temperature": 0.2,
        "top_p": 1.0,
        "top_k": 20,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": 4,
        "max_tokens": 99,
    }


def test_a_null_leaves_the_models_default() -> None:
    assert resolved_sampling(make_sent(temperature=None), {"temperature": 0.6})["temperature"] == 0.6


@pytest.mark.parametrize(
    ("fields", "limit"), [({"max_tokens": 5}, 5), ({"max_tokens": 5, "max_completion_tokens": 6}, 6), ({}, None)]
)
def test_the_newer_name_of_the_length_limit_wins(fields: dict[str, int], limit: int | None) -> None:
    assert resolved_sampling(make_sent(**fields), {})["max_tokens"] == limit


def test_the_prompt_is_all_that_the_template_sees() -> None:
    sent = make_sent(tools=[{"type": "function"}], response_format={"type": "json_object"}, temperature=1, user="ann")
    assert content(sent).keys() == {"messages", "tools", "response_format"}


def test_turns_are_counted_by_the_answers_so_far() -> None:
    assert turn(make_sent()) == 1
    assert turn(make_sent(messages=[*QUESTION, {"role": "assistant", "content": "a"}, *QUESTION])) == 2


def test_user_names_the_person_before_safety_identifier() -> None:
    assert parsed(user="ann", safety_identifier="x").person == "ann"
    assert parsed(safety_identifier="x").person == "x"
    assert parsed().person is None
