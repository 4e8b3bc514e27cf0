"""A rollout's judge learnt from raters whom neither of its versions learnt from, and stays the same."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.contracts.routing import BASE_VERSION, base_version
from infra.registry import judges, rollouts
from tests.support.events import moment
from tests.support.feedback import Room, make_room
from tests.support.mirroring import JUDGE, put_judge, put_versions
from tests.support.trials import ROLLOUT, put_rollout


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = make_room(tmp_path)
    put_rollout(made)
    yield made
    made.close()


def judge(room: Room) -> str | None:
    with room.database.reading() as session:
        return judges.judge_of(session, rollouts.get(session, ROLLOUT))


def test_the_newest_judge_from_before_the_rollout_is_taken_and_kept(room: Room) -> None:
    put_versions(room.database)
    put_judge(room.database, "assistant-1-judge-aaaaaaaa", at=moment(-7200))
    put_judge(room.database)
    assert judge(room) == JUDGE
    put_judge(room.database, "assistant-3-judge-dddddddd", at=moment(60))
    assert judge(room) == JUDGE


@pytest.mark.parametrize(
    "name", ["assistant-2-reward-cccccccc", "assistant-2-guard-cccccccc", "other-2-judge-cccccccc"]
)
def test_what_is_no_judge_of_this_alias_is_not_asked(room: Room, name: str) -> None:
    put_versions(room.database)
    put_judge(room.database, name)
    assert judge(room) is None


@pytest.mark.parametrize(
    ("shares", "found"),
    [
        ({"champion": 0.3, "challenger": 0.3}, JUDGE),
        ({"champion": 0.5, "challenger": 0.4}, JUDGE),
        ({"champion": 0.2, "challenger": 0.3}, None),
        ({"champion": 0.3, "challenger": 0.2}, None),
    ],
)
def test_a_judge_some_of_whose_raters_taught_a_version_is_not_asked(
    room: Room, shares: dict[str, float], found: str | None
) -> None:
    put_versions(room.database, **shares)
    put_judge(room.database)
    assert judge(room) == found


@pytest.mark.parametrize("more", [{"base_revision": "ba9876543210"}, {"share": 0.9}], ids=str)
def test_an_older_one_that_fits_is_taken_before_a_newer_one_that_does_not(room: Room, more: dict[str, Any]) -> None:
    put_versions(room.database)
    put_judge(room.database, "assistant-1-judge-aaaaaaaa", at=moment(-7200))
    put_judge(room.database, **more)
    assert judge(room) == "assistant-1-judge-aaaaaaaa"


def test_the_base_learnt_from_nobody(room: Room) -> None:
    put_versions(room.database)
    put_judge(room.database)
    put_rollout(room, from_version=BASE_VERSION)
    assert judge(room) == JUDGE


def test_another_base_without_an_adapter_learnt_from_nobody_either(room: Room) -> None:
    put_versions(room.database)
    put_judge(room.database)
    put_rollout(room, version=base_version("0123456789ab"))
    assert judge(room) == JUDGE
