"""A judge's votes arrive in the store as a model's, each pair once, whatever stops a run in between."""

import json
from collections import Counter

import pytest
from sqlalchemy import select

from feedback.tables import VoteEventRow, VoteRow
from infra.contracts.events import Consent
from infra.registry import fleet
from tests.support.events import TENANT
from tests.support.feedback import ALIAS, Room
from tests.support.judging import chats, judge_rater, run_judge, settings_for, votes
from tests.support.scripted_judge import ScriptedJudge, always_first, longer, running_judge


def stored(room: Room) -> Counter[tuple[str, str | None]]:
    """Votes by source and rater."""
    with room.database.reading() as session:
        return Counter((row.source, row.rater) for row in session.scalars(select(VoteEventRow)))


def test_votes_arrive_in_the_store_as_a_models(room: Room) -> None:
    room.append(chats(4))
    room.consume()
    with running_judge(ScriptedJudge()) as judge:
        tally = run_judge(room, judge)
        assert tally.votes == {"b": 4}
        assert stored(room) == {("ai", judge_rater(settings_for(judge))): 4}


def test_a_judge_that_always_says_the_first_gives_only_ties(room: Room) -> None:
    room.append(chats(4))
    room.consume()
    with running_judge(ScriptedJudge(always_first)) as judge:
        tally = run_judge(room, judge)
    assert (tally.votes, tally.flipped) == ({"tie": 4}, 4)


def test_each_pair_is_asked_in_both_orders(room: Room) -> None:
    room.append(chats(1))
    room.consume()
    with running_judge(ScriptedJudge()) as judge:
        run_judge(room, judge)
        shown = [json.loads(request["messages"][1]["content"]) for request in judge.requests]
    assert [one["conversation"] for one in shown] == [[{"role": "user", "content": "Question 0?"}]] * 2
    assert (shown[0]["A"], shown[0]["B"]) == (shown[1]["B"], shown[1]["A"])
    assert "longer" not in shown[0]["A"]


def test_a_pair_that_it_has_answered_is_not_asked_again_and_a_new_one_is(room: Room) -> None:
    room.append(chats(3))
    room.consume()
    with running_judge(ScriptedJudge()) as judge:
        run_judge(room, judge)
        room.append(chats(2, start=3))
        room.consume()
        assert run_judge(room, judge).votes == {"b": 2}
        assert len(judge.requests) == 2 * 5


def test_the_same_texts_under_other_handles_are_the_same_question(room: Room) -> None:
    room.append(chats(1))
    room.consume()
    with running_judge(ScriptedJudge()) as judge:
        run_judge(room, judge)
        room.append(chats(1, prefix="again"))
        room.consume()
        assert not run_judge(room, judge).votes


def test_pairs_that_people_compared_are_asked_first_and_no_more_than_are_wanted(room: Room) -> None:
    room.append([*chats(6), *votes(4)])
    room.consume()
    with running_judge(ScriptedJudge()) as judge:
        run_judge(room, judge, shared=3, most=4)
        asked = {
            json.loads(request["messages"][1]["content"])["conversation"][0]["content"] for request in judge.requests
        }
    compared = {f"Question {at}?" for at in range(4)}
    assert (len(asked), len(asked & compared)) == (4, 3)


def test_whoever_did_not_consent_is_not_shown_to_the_judge(room: Room) -> None:
    room.append(chats(2, consent=Consent(train=False)))
    room.append(votes(2))
    room.consume()
    with running_judge(ScriptedJudge()) as judge:
        run_judge(room, judge)
        assert judge.requests == []


def test_a_server_that_fails_for_good_stops_the_run_and_loses_no_vote(room: Room) -> None:
    room.append(chats(6))
    room.consume()
    with running_judge(ScriptedJudge()) as judge:
        judge.script.extend([200] * 6 + [500] * 4)
        tally = run_judge(room, judge, judge_attempts=2, judge_concurrency=1)
        assert "answered 500" in tally.stopped
        assert tally.votes == {"b": 3}
        judge.script.clear()
        assert run_judge(room, judge).votes == {"b": 3}
    assert sum(stored(room).values()) == 6


def test_a_refused_key_stops_the_run_at_once(room: Room) -> None:
    room.append(chats(6))
    room.consume()
    with running_judge(ScriptedJudge(key="sk-right")) as judge:
        tally = run_judge(room, ScriptedJudge(url=judge.url, key="sk-wrong"), judge_concurrency=1)
    assert "answered 401" in tally.stopped
    assert len(judge.requests) == 1
    assert stored(room) == {}


def test_an_answer_that_cannot_be_read_is_no_vote_and_the_pair_is_asked_in_the_next_run(room: Room) -> None:
    room.append(chats(3))
    room.consume()
    with running_judge(ScriptedJudge()) as judge:
        judge.script.extend(["I like the first one"])
        tally = run_judge(room, judge, judge_concurrency=1)
        assert (tally.unclear, tally.votes, tally.stopped) == (1, {"b": 2}, "")
        assert run_judge(room, judge).votes == {"b": 1}


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_requests_than_are_set_are_under_way(room: Room, most: int) -> None:
    room.append(chats(8))
    room.consume()
    with running_judge(ScriptedJudge(longer)) as judge:
        run_judge(room, judge, judge_concurrency=most)
        assert judge.most_at_once <= most


def test_a_models_votes_start_no_cycle(room: Room) -> None:
    room.append([*chats(5), *votes(2, raters=["ann"])])
    room.consume()
    with running_judge(ScriptedJudge()) as judge:
        run_judge(room, judge)
    with room.database.reading() as session:
        assert fleet.counts(session, TENANT, ALIAS).pairs == 2
        assert len(session.scalars(select(VoteRow)).all()) == 2 + 5


def test_a_server_that_knows_no_schema_answers_with_a_letter(room: Room) -> None:
    room.append(chats(2))
    room.consume()
    with running_judge(ScriptedJudge(form="letter")) as judge:
        assert run_judge(room, judge, judge_format="letter").votes == {"b": 2}
        assert all("response_format" not in request for request in judge.requests)
