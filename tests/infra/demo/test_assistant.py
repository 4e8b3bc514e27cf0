import time

import pytest

from infra.demo.assistant import Ask
from tests.support.demo import FakeGateway, assistant_of

ASK = Ask("What is math.cos?", user="rater-1", n=2, consent=True)


async def test_an_answer_carries_its_handle_its_version_and_all_choices() -> None:
    async with assistant_of(FakeGateway()) as assistant:
        reply = await assistant.ask(ASK)
    assert reply is not None
    assert (reply.response_id, reply.version, len(reply.answers)) == ("chatcmpl-1", "base", 2)


async def test_who_asks_and_what_they_allow_travels_in_openai_s_own_fields() -> None:
    gateway = FakeGateway()
    async with assistant_of(gateway) as assistant:
        await assistant.ask(ASK)
    (body,) = gateway.sent["/chat/completions"]
    assert body["user"] == "rater-1"
    assert body["metadata"] == {"consent_train": "true", "session_id": "rater-1"}
    assert (body["model"], body["top_p"]) == ("assistant", 1.0)


async def test_a_failed_request_is_counted_and_gives_nothing() -> None:
    async with assistant_of(FakeGateway(status=503)) as assistant:
        assert await assistant.ask(ASK) is None
        assert await assistant.stream(ASK) is None
    assert assistant.tally.requests == 2
    assert len(assistant.tally.failures) == 2
    assert assistant.tally.starts == []


async def test_a_stream_of_one_version_is_one_answer() -> None:
    before = time.time()
    async with assistant_of(FakeGateway()) as assistant:
        reply = await assistant.stream(ASK)
    assert reply is not None
    assert reply.answers == ["word word "]
    ((started, version),) = assistant.tally.starts
    assert version == "base"
    assert before <= started <= time.time()


async def test_a_stream_of_two_versions_is_a_mixed_answer() -> None:
    async with assistant_of(FakeGateway(stream_models=("base", "assistant-1"))) as assistant:
        assert await assistant.stream(ASK) is None
    assert len(assistant.tally.mixed) == 1
    assert assistant.tally.failures == []


async def test_a_stream_that_says_nothing_is_a_failure() -> None:
    async with assistant_of(FakeGateway(stream_models=())) as assistant:
        assert await assistant.stream(ASK) is None
    assert len(assistant.tally.failures) == 1


async def test_a_version_asked_for_by_name_says_nothing_about_routing() -> None:
    async with assistant_of(FakeGateway()) as assistant:
        await assistant.ask(Ask("What is math.cos?", user="examiner", model="base"))
    assert assistant.tally.requests == 1
    assert assistant.tally.starts == []


@pytest.mark.parametrize(("status", "counted"), [(202, 1), (200, 0), (400, 0), (503, 0)])
async def test_only_what_is_acknowledged_with_202_counts_as_a_vote(status: int, counted: int) -> None:
    async with assistant_of(FakeGateway(vote_status=status)) as assistant:
        assert await assistant.vote("/feedback", "thumbs", {"value": True}) is bool(counted)
    assert assistant.tally.acknowledged.total() == counted
    assert len(assistant.tally.refused) == 1 - counted
