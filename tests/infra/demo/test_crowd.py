import asyncio
from collections import Counter
from typing import Any

from infra.demo.assistant import Assistant
from infra.demo.crowd import Crowd
from infra.demo.raters import Habit, Rater
from tests.support.demo import COS, QUESTIONS, FakeGateway, assistant_of, make_plan, make_taste

HONEST = [Rater(f"r{at}", Habit.HONEST, 0.0) for at in range(4)]
Body = dict[str, Any]


def make_crowd(assistant: Assistant, **overrides: Any) -> Crowd:
    questions = [(symbol, text) for text, symbol in QUESTIONS.items()]
    fields: dict[str, Any] = {"taste": make_taste(), "raters": HONEST, "questions": questions, "seed": 0}
    return Crowd(assistant, **{**fields, "plan": make_plan(), **overrides})


def hedged_first(body: Body) -> tuple[str, list[str]]:
    symbol = next(symbol for text, symbol in QUESTIONS.items() if text == body["messages"][0]["content"])
    hedged = f"I am not sure, but perhaps this: {symbol.sentence}"
    return "base", [hedged, hedged, symbol.sentence][: body["n"]]


def ignore(done: int, total: int) -> None:
    """No screen in tests."""


async def rated(gateway: FakeGateway, **overrides: Any) -> tuple[int, Assistant]:
    async with assistant_of(gateway) as assistant:
        return await make_crowd(assistant, **overrides).rate(1, ignore), assistant


async def test_raters_vote_until_enough_comparisons_are_acknowledged() -> None:
    gateway = FakeGateway()
    count, assistant = await rated(gateway)
    plan = make_plan()
    assert plan.pairs_first <= count < plan.pairs_first + plan.vote_concurrency
    assert len(gateway.sent["/comparisons"]) == assistant.tally.acknowledged["comparison"] == count


def until(ended: asyncio.Event, asked: int) -> FakeGateway:
    """The trial is over once so many have asked."""

    def answering(body: Body) -> tuple[str, list[str]]:
        if len(gateway.sent["/chat/completions"]) >= asked:
            ended.set()
        return hedged_first({**body, "n": 3})

    gateway = FakeGateway(answering=answering)
    return gateway


async def test_votes_on_a_trial_count_towards_the_next_cycle() -> None:
    plan, ended = make_plan(), asyncio.Event()
    async with assistant_of(until(ended, 60)) as assistant:
        crowd = make_crowd(assistant)
        await crowd.rate(1, ignore)
        await crowd.try_out(1, ended)
        assert assistant.tally.acknowledged["comparison"] >= plan.pairs_first + plan.pairs_later
        assert await crowd.rate(2, ignore) == 0


async def test_on_a_trial_two_answers_are_asked_for_side_by_side_until_it_is_over() -> None:
    ended = asyncio.Event()
    gateway = until(ended, 2 * len(HONEST))  # everybody comes again
    async with assistant_of(gateway) as assistant:
        await make_crowd(assistant).try_out(1, ended)
    asked = gateway.sent["/chat/completions"]
    assert {body["n"] for body in asked} == {2}
    assert 2 * len(HONEST) <= len(asked) < 2 * len(HONEST) + make_plan().vote_concurrency


async def test_the_two_that_are_compared_are_the_first_that_differ() -> None:
    gateway = FakeGateway(answering=hedged_first)
    await rated(gateway)
    for body in gateway.sent["/comparisons"]:
        assert (body["a"]["index"], body["b"]["index"]) == (0, 2)
        assert body["a"]["response_id"] == body["b"]["response_id"]


async def test_honest_raters_choose_what_the_taste_likes_and_say_how_they_looked() -> None:
    gateway = FakeGateway(answering=hedged_first)
    await rated(gateway)
    for body in gateway.sent["/comparisons"]:
        assert body["choice"] == "b"
        assert body["shown_first"] in ("a", "b")
        assert body["latency_ms"] > 0
        assert body["consent_train"] is True


async def test_whoever_votes_is_who_asked() -> None:
    gateway = FakeGateway()
    await rated(gateway, plan=make_plan(vote_concurrency=1))
    asked = [body["user"] for body in gateway.sent["/chat/completions"]]
    assert [body["rater"] for body in gateway.sent["/comparisons"]] == asked


async def test_identical_answers_make_no_comparison_and_the_raters_give_up_in_the_end() -> None:
    gateway = FakeGateway(answering=lambda body: ("base", [COS.sentence] * body["n"]))
    count, _ = await rated(gateway)
    assert count == 0
    assert "/comparisons" not in gateway.sent
    assert len(gateway.sent["/chat/completions"]) == 24  # twice as many questions as wanted pairs


async def test_thumbs_stars_and_corrections_come_now_and_then() -> None:
    gateway = FakeGateway(answering=lambda body: ("base", ["Wrong.", "Wrong too."]))
    plan = make_plan(thumbs_share=0.5, rating_share=0.5, correction_share=0.5, pairs_first=40)
    _, assistant = await rated(gateway, plan=plan)
    values: dict[str, Counter[object]] = {}
    for body in gateway.sent["/feedback"]:
        values.setdefault(body["name"], Counter())[body["value"]] += 1
    assert set(values) == {"thumbs", "rating", "correction"}
    assert set(values["thumbs"]) == {False}
    assert set(values["rating"]) == {1}
    assert all("Usage: " in str(text) for text in values["correction"])
    assert assistant.tally.acknowledged.total() == len(gateway.sent["/feedback"]) + len(gateway.sent["/comparisons"])


async def test_with_coins_nobody_looks_and_nobody_corrects() -> None:
    gateway = FakeGateway(answering=hedged_first)
    plan = make_plan(thumbs_share=1.0, rating_share=0.0, correction_share=1.0, pairs_first=60)
    await rated(gateway, plan=plan, votes="coin")
    assert {body["choice"] for body in gateway.sent["/comparisons"]} == {"a", "b"}
    assert {body["value"] for body in gateway.sent["/feedback"]} == {True, False}
    assert {body["name"] for body in gateway.sent["/feedback"]} == {"thumbs"}


async def test_the_same_seed_asks_the_same_questions() -> None:
    one, two = FakeGateway(), FakeGateway()
    for gateway in (one, two):
        await rated(gateway, plan=make_plan(vote_concurrency=1))
    assert one.sent == two.sent


async def test_failed_answers_are_no_ground_for_a_vote() -> None:
    gateway = FakeGateway(status=500)
    count, assistant = await rated(gateway)
    assert count == 0
    assert set(gateway.sent) == {"/chat/completions"}
    assert len(assistant.tally.failures) == assistant.tally.requests
