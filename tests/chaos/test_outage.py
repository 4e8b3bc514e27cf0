"""Kafka is away under steady chat and votes: who chats doesn't notice, and every vote is stored afterwards, in order.

Half a minute, or as long as OUTAGE_S says: `make chaos-outage OUTAGE_S=600`.
"""

import json
import os
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from tests.chaos.audit import Held, compare, hold
from tests.chaos.books import Books, Cast, Chat, VoteKey, Window
from tests.chaos.crowd import crowd
from tests.chaos.driver import DIRECTORY, HEAL_TIMEOUT_S, QUIET_TIMEOUT_S, WARM_UP_VOTES, say
from tests.chaos.stage import Stage, open_stage, wait_until
from tests.support.servers import missing_is_skipped
from tests.support.tiny_model import make_tiny_model

OUTAGE_S = float(os.environ.get("OUTAGE_S", "30"))
CALM_S = min(OUTAGE_S, 60.0)  # before and after
FULL_S = 10.0
SPOOL_BYTES = int(2e6 + 1e5 * OUTAGE_S)  # room for the outage, and little more: half of it is used by these clients
SHIPPED_BYTES = 100_000  # new answers pass through the spool all the time
SPOOL_METRIC = re.compile(r"^thumbwheel_gateway_spool_bytes (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outage:
    """Medians of whole answers, in milliseconds. `full` is the time after the first 503, `drained_s` from Kafka's
    return until the spool was shipped."""

    outage_s: float
    p50_ms: dict[str, float]
    chats: dict[str, int]
    chat_failed: int
    spooled: int
    spooled_bytes: int
    refused_503: int
    acknowledged: int
    stored: int
    lost: int
    doubled: int
    out_of_order: int
    drained_s: float


class Times:
    """When each part of the story began."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}

    def begin(self, part: str) -> None:
        self.began[part] = time.monotonic()

    def of(self, part: str, chats: Sequence[Chat]) -> list[Chat]:
        """The requests that began and ended in that part."""
        parts = list(self.began)
        ends = [*list(self.began.values())[1:], float("inf")]
        end = ends[parts.index(part)]
        return [chat for chat in chats if chat.began >= self.began[part] and chat.ended <= end]


@pytest.mark.chaos
@pytest.mark.timeout(int(4 * OUTAGE_S + 1200))
def test_while_kafka_is_away_chat_goes_on_and_no_vote_is_lost(home: Path, tmp_path: Path) -> None:
    spool = {"THUMBWHEEL_GATEWAY__SPOOL_MAX_BYTES": str(SPOOL_BYTES)}
    with missing_is_skipped(), open_stage(home, make_tiny_model(tmp_path / "model"), **spool) as stage:
        outage = endure(stage)
    path = DIRECTORY / "outage.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(outage), indent=1) + "\n")
    say(path.read_text())
    assert (outage.lost, outage.doubled, outage.out_of_order, outage.chat_failed) == (0, 0, 0, 0)
    assert outage.spooled > 0 and outage.refused_503 > 0
    assert outage.p50_ms["during"] < 1.5 * outage.p50_ms["before"]


def endure(stage: Stage) -> Outage:
    books, times, kafka = Books(), Times(), stage.services.kafka
    with crowd(stage.product, books, seed=0) as clients:
        wait_until(lambda: len(books.casts) >= WARM_UP_VOTES, timeout_s=HEAL_TIMEOUT_S, what="the first votes")
        last(times, "before", CALM_S)
        kafka.stop()
        last(times, "during", OUTAGE_S)
        spooled_bytes = spool_bytes(stage)
        refused = len(books.refused)
        clients.filling.set()
        wait_until(lambda: len(books.refused) > refused, timeout_s=HEAL_TIMEOUT_S, what="the full spool answers 503")
        last(times, "full", FULL_S)
        clients.filling.clear()
        times.begin("return")
        kafka.start()
        returned = time.monotonic()
        wait_until(lambda: spool_bytes(stage) < SHIPPED_BYTES, timeout_s=HEAL_TIMEOUT_S, what="the spool is shipped")
        drained = time.monotonic() - returned
        wait_until(lambda: stage.is_well(books, returned), timeout_s=HEAL_TIMEOUT_S, what="all is well again")
        last(times, "after", CALM_S)
    wait_until(stage.is_quiet, timeout_s=QUIET_TIMEOUT_S, what="everything that was acknowledged is consumed")
    full = [Window("spool", times.began["full"] - HEAL_TIMEOUT_S, times.began["after"])]
    held = hold(stage.ports)
    verdict = compare(books, held, full)
    whole = [chat for chat in books.chats if chat.response_id]
    return Outage(
        outage_s=OUTAGE_S,
        p50_ms={part: p50_ms(times.of(part, whole)) for part in times.began},
        chats={part: len(times.of(part, whole)) for part in times.began},
        chat_failed=len(books.failed),
        spooled=sum(cast.place == "spool" for cast in books.casts),
        spooled_bytes=spooled_bytes,
        refused_503=len(books.refused),
        acknowledged=verdict.acknowledged,
        stored=verdict.stored,
        lost=verdict.lost,
        doubled=verdict.doubled,
        out_of_order=out_of_order(books, held),
        drained_s=round(drained, 1),
    )


def last(times: Times, part: str, seconds: float) -> None:
    """That part of the story takes so long; what is waited for is the time itself."""
    times.begin(part)
    time.sleep(seconds)


def spool_bytes(stage: Stage) -> int:
    found = SPOOL_METRIC.search(stage.product.page("gateway", "/metrics").text)
    assert found is not None
    return int(float(found[1]))


def p50_ms(chats: Sequence[Chat]) -> float:
    return round(statistics.median(chat.seconds for chat in chats) * 1000, 1) if chats else 0.0


def out_of_order(books: Books, held: Held) -> int:
    """Spooled votes of one person on one answer that stand on the log before an earlier one."""
    spooled: dict[VoteKey, list[Cast]] = {}
    for cast in books.casts:
        if cast.place == "spool":
            spooled.setdefault(cast.key, []).append(cast)
    places = [[held.place(cast) for cast in casts] for casts in spooled.values()]
    return sum(first > second for row in places for first, second in pairwise(row))
