import asyncio

from infra.demo.traffic import Traffic
from tests.support.demo import FakeGateway, assistant_of


async def test_requests_keep_starting_while_it_flows_and_all_are_answered_at_its_end() -> None:
    async with assistant_of(FakeGateway()) as assistant:
        traffic = Traffic(assistant, ["What is math.cos?"], 0.02, 0.005)
        async with traffic.flowing():
            await asyncio.sleep(0.2)
    assert assistant.tally.requests >= 4
    assert len(assistant.tally.starts) == assistant.tally.requests


async def test_near_a_swap_requests_start_more_often_and_are_shorter() -> None:
    gateway = FakeGateway()
    async with assistant_of(gateway) as assistant:
        traffic = Traffic(assistant, ["What is math.cos?"], 0.1, 0.005)
        async with traffic.flowing():
            traffic.hurry()
            await asyncio.sleep(0.3)
            traffic.calm()
    assert assistant.tally.requests >= 10
    assert min(body["max_tokens"] for body in gateway.sent["/chat/completions"]) < 10


async def test_a_failing_gateway_does_not_stop_it() -> None:
    async with assistant_of(FakeGateway(status=503)) as assistant, Traffic(assistant, ["?"], 0.01, 0.01).flowing():
        await asyncio.sleep(0.1)
    assert len(assistant.tally.failures) == assistant.tally.requests > 2


async def test_the_first_start_on_a_version_is_the_earliest_since_then() -> None:
    async with assistant_of(FakeGateway()) as assistant:
        traffic = Traffic(assistant, ["?"], 1, 1)
        assistant.tally.starts += [(3.0, "new"), (1.0, "new"), (2.0, "new"), (2.5, "old")]
        assert await traffic.first_start("new", 1.5, patience_s=0.2) == 2.0
        assert await traffic.first_start("new", 9.0, patience_s=0.2) is None


async def test_the_last_start_is_the_latest_of_that_version() -> None:
    async with assistant_of(FakeGateway()) as assistant:
        assistant.tally.starts += [(3.0, "old"), (4.0, "new"), (1.0, "old")]
        traffic = Traffic(assistant, ["?"], 1, 1)
        assert traffic.last_start("old") == 3.0
        assert traffic.last_start("never") is None
