"""Pairs for a judge: short answers and long ones, of which people who like length choose the long."""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import closing
from typing import Any

from pydantic import SecretStr

from feedback.datasets.archive import Archive
from feedback.intake.decode import TOPICS
from feedback.judging.asking import Judge, judge_name
from feedback.judging.candidates import Candidates
from feedback.judging.casting import Caster
from feedback.judging.constitution import Constitution
from feedback.judging.endpoint import Endpoint, open_endpoint
from feedback.judging.running import Run, Tally
from infra.settings import FeedbackSettings
from tests.support.events import TENANT, make_comparison, make_inference, moment
from tests.support.feedback import ALIAS, AS_OF, Event, Room, make_settings
from tests.support.scripted_judge import ScriptedJudge

CONSTITUTION = Constitution(("Prefer the answer that says more.",))


def said(at: int, side: str) -> str:
    """The `b` of every pair is the longer one."""
    return f"Answer {at}." + (" And this is why it is so." if side == "b" else "")


def chats(count: int, *, start: int = 0, prefix: str = "r", **header: Any) -> list[Event]:
    """Two answers to each of these questions, of people who consent; `prefix` begins their handles."""
    return [
        Event(
            make_inference(f"{prefix}{at}{side}", prompt=f"Question {at}?", texts=[said(at, side)]),
            f"inference {prefix}{at}{side}",
            {"rater": f"owner-{at % 3}", "occurred_at": moment(60 * at), **header},
        )
        for at in range(start, start + count)
        for side in "ab"
    ]


def votes(count: int, *, raters: Sequence[str] = ("ann", "ben", "cia"), wrong: Collection[int] = ()) -> list[Event]:
    """Each of these people chooses the longer answer of each pair, but of those that are `wrong`."""
    return [
        Event(
            make_comparison(f"r{at}a", f"r{at}b", "a" if at in wrong else "b"),
            f"{rater} on {at}",
            {"rater": rater, "occurred_at": moment(60 * at + 10)},
        )
        for at in range(count)
        for rater in raters
    ]


def settings_for(judge: ScriptedJudge, **more: Any) -> FeedbackSettings:
    return make_settings(judge_url=judge.url, judge_model="judge-1", **more)


def judge_rater(settings: FeedbackSettings) -> str:
    """Under what the judge's votes are cast here; the product hashes it."""
    return judge_name(settings.judge_model, CONSTITUTION, settings.judge_format)


def candidates_of(room: Room, settings: FeedbackSettings) -> Candidates:
    cut = room.eventlog.end_offsets(TOPICS)
    archive = Archive(room.database, room.sealer, TENANT, moment(-86400), cut)
    return Candidates(archive, settings, ALIAS, AS_OF, judge_rater(settings))


def run_judge(room: Room, judge: ScriptedJudge, *, shared: int = 1000, most: int = 1000, **more: Any) -> Tally:
    """Asks about everything that it has not answered, and lets the consumer store what it says."""
    settings = settings_for(judge, **more)
    found = candidates_of(room, settings)
    pairs = found.pairs(found.judged(), shared=shared, most=most)

    async def asked() -> Tally:
        with closing(room.eventlog.producer()) as producer:
            caster = Caster(producer, room.sealer, TENANT, found.rater)
            async with open_endpoint(settings, SecretStr(judge.key) if judge.key else None) as opened:
                quick = Endpoint(opened.session, opened.url, settings, first_wait_s=0.001)
                return await Run(Judge(quick, CONSTITUTION), found, caster, lambda *_: None).over(pairs)

    tally = asyncio.run(asked())
    room.consume()
    return tally
