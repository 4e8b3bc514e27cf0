"""A live answer becomes a regression case: with its owner's consent, sealed for them, for as long as it may be kept."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from feedback.cases import KEPT
from feedback.datasets.redaction import Redactor
from feedback.intake import erasing
from infra.cases import Wanted, open_case
from infra.clock import now
from infra.contracts.events import Consent, InferenceStatus
from infra.database.engine import open_database
from infra.envelopes import Sealer
from infra.keystore.base import KeyringAway
from infra.registry import audit, cases, erasures
from infra.registry.errors import NotFound
from infra.sealing import KeyDestroyed
from tests.support.cases import make_case_maker, stored, wish
from tests.support.events import TENANT, make_inference
from tests.support.feedback import Event, Room, make_room
from tests.support.people import MIA
from tests.support.search import search
from tests.support.servers import emptied_database

QUESTION = "Where does Mia hide the lantern?"


@pytest.fixture(params=["sqlite", "postgres"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    made = make_room(tmp_path)
    if request.param == "postgres":
        url = emptied_database(request.getfixturevalue("postgres"))
        made.database.close()
        made = replace(made, database=open_database(url))
    yield made
    made.close()


def answer(room: Room, *, at: datetime | None = None, consent: Consent | None = None, **body: Any) -> None:
    header = {"rater": MIA, "occurred_at": at or now(), "consent": consent or Consent(train=True)}
    room.append([Event(make_inference("r1", **{"prompt": QUESTION, **body}), "chat", header)])
    room.consume()


def live(room: Room, **body: Any) -> None:
    answer(room, **body)
    wish(room.database, room.sealer, "r1")
    assert make_case_maker(room).turn() == 1
    assert stored(room.database).state == "live"


def refusal(room: Room) -> str:
    """What it says of a wish for r1; nothing of the answer or the checks is kept."""
    wish(room.database, room.sealer, "r1")
    assert make_case_maker(room).turn() == 1
    row = stored(room.database)
    assert (row.state, row.sealed, row.rater, row.alias) == ("refused", b"", None, None)
    assert row.refusal is not None
    return row.refusal


def test_what_was_asked_is_kept_with_its_checks_for_whoever_asked(room: Room) -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    answer(room, request={"messages": messages, "tools": tools})
    wish(room.database, room.sealer, "r1", Wanted(contains_any=["attic", "cellar"], refuses=False))
    maker = make_case_maker(room)
    assert (maker.turn(), maker.turn()) == (1, 0)
    row = stored(room.database)
    assert (row.state, row.alias, row.rater) == ("live", "assistant", MIA)
    assert row.checks == {"contains_any": 2, "refuses": False}
    case = open_case(room.sealer, row)
    assert (case.name, case.messages, case.tools) == ("cos", messages, tools)
    assert (case.contains_any, case.refuses) == (["attic", "cellar"], False)


def test_the_audit_says_who_added_it_why_and_what_became_of_it_in_nobodys_words(room: Room) -> None:
    live(room)
    with room.database.reading() as session:
        kept, added = audit.list_entries(session, TENANT, subject="cos")
    assert (added.action, added.actor, added.reason, added.before) == ("case.add", "ann", "it was wrong", {})
    assert (kept.action, kept.actor) == ("case.live", "feedback")
    assert (kept.before["state"], kept.after["state"]) == ("requested", "live")
    assert "lantern" not in str([kept.after, added.after])


def test_neither_prompt_nor_checks_lie_in_the_open(room: Room) -> None:
    answer(room)
    wish(room.database, room.sealer, "r1", Wanted(contains_all=["Mia's attic"]))
    with room.database.reading() as session:
        (waiting,) = cases.requested(session)
    assert b"attic" not in waiting.sealed
    make_case_maker(room).turn()
    row = stored(room.database)
    assert b"lantern" not in row.sealed and b"attic" not in row.sealed


def test_an_answer_that_is_not_stored_makes_none(room: Room) -> None:
    assert "no answer r1 is stored" in refusal(room)


def test_another_tenants_answer_is_not_there(room: Room) -> None:
    answer(room)
    wish(room.database, room.sealer, "r1", tenant="acme")
    make_case_maker(room).turn()
    assert "no answer r1 is stored" in (stored(room.database, tenant="acme").refusal or "")


@pytest.mark.parametrize("consent", [Consent(train=False), Consent(train=False, explicit=True)])
def test_without_consent_to_training_there_is_no_case(room: Room, consent: Consent) -> None:
    answer(room, consent=consent)
    assert "has not allowed training" in refusal(room)


@pytest.mark.parametrize(("body", "said"), [
    ({"stored": False, "request": {}, "choices": []}, "store: false"),
    ({"status": InferenceStatus.FAILED, "choices": []}, "failed or was cancelled"),
    ({"status": InferenceStatus.CANCELLED}, "failed or was cancelled"),
    ({"shadow_of": "chatcmpl-shown"}, "name chatcmpl-shown, which was shown"),
    ({"check": "better"}, "check question"),
    ({"request": {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}}, "not text"),
])  # fmt: skip
def test_what_cannot_be_asked_again_says_why(room: Room, body: dict[str, Any], said: str) -> None:
    answer(room, **body)
    assert said in refusal(room)


def test_an_erased_persons_answer_makes_none(room: Room) -> None:
    answer(room)
    room.erase(MIA)
    room.consume()
    assert "was erased" in refusal(room)


def test_an_answer_whose_key_is_gone_already_makes_none(room: Room) -> None:
    """The gateway destroys it at once; the rows are blanked when the event comes through."""
    answer(room)
    room.sealer.forget(TENANT, MIA, now())
    assert "was erased" in refusal(room)


def test_a_person_who_is_erased_while_their_case_is_made_leaves_none(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened with the old key, it would be sealed with a new one, which no erasure destroys."""
    answer(room)
    seal = Sealer.seal

    def seal_late(sealer: Sealer, body: Any, tenant: str, rater: str | None, **how: Any) -> tuple[str, bytes]:
        if rater == MIA:
            sealer.forget(TENANT, MIA, now())
        return seal(sealer, body, tenant, rater, **how)

    wish(room.database, room.sealer, "r1")
    monkeypatch.setattr(Sealer, "seal", seal_late)
    make_case_maker(room).turn()
    assert (stored(room.database).state, stored(room.database).sealed) == ("refused", b"")


def test_what_may_no_longer_be_kept_makes_none(room: Room) -> None:
    answer(room, consent=Consent(train=True, retain_until=now() - timedelta(seconds=1)))
    assert "has passed" in refusal(room)


def test_erasing_whoever_asked_blanks_the_case_and_says_so(room: Room) -> None:
    live(room)
    before = stored(room.database)
    erasure_id = room.erase(MIA)
    room.consume()
    row = stored(room.database)
    assert (row.state, row.sealed, row.rater) == ("erased", b"", None)
    with pytest.raises(KeyDestroyed):
        open_case(room.sealer, before)
    with room.database.reading() as session:
        assert erasures.get(session, TENANT, erasure_id).report["blanked"]["regression_cases"] == 1


def test_a_search_finds_a_case_before_the_erasure_and_nothing_after(room: Room) -> None:
    live(room)
    room.erase("rater-another")
    room.consume()
    assert "sql" in search(room, ["lantern"])["lantern"]
    room.erase(MIA, name="hers")
    room.consume()
    assert search(room, ["lantern"])["lantern"] == set()


def test_a_case_of_what_was_asked_after_an_erasure_stays(room: Room) -> None:
    room.erase(MIA)
    room.consume()
    live(room, at=now() + timedelta(seconds=1))
    with room.database.transaction() as session:
        assert cases.erase(session, TENANT, MIA, now() - timedelta(hours=1)) == 0
    assert stored(room.database).state == "live"


def test_a_case_ends_with_its_answers_retention(room: Room) -> None:
    live(room, consent=Consent(train=True, retain_until=now() + timedelta(hours=1)))
    assert erasing.purge(room.database, room.artifacts) == 0
    with room.database.transaction() as session:
        cases.get(session, TENANT, "cos").retain_until = now() - timedelta(seconds=1)
    assert erasing.purge(room.database, room.artifacts) == 1
    assert (stored(room.database).state, stored(room.database).sealed) == ("expired", b"")


def test_what_identifies_a_person_is_taken_out_as_of_a_dataset(room: Room) -> None:
    answer(room, prompt="Write to mia@example.org.")
    wish(room.database, room.sealer, "r1")
    make_case_maker(room, Redactor()).turn()
    assert open_case(room.sealer, stored(room.database)).messages[0]["content"] == "Write to [email]."


def test_while_the_keyring_is_away_a_wish_waits(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(room)
    wish(room.database, room.sealer, "r1")

    def away(*_: object) -> None:
        raise KeyringAway("the keyring does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Sealer, "open", away)
        assert make_case_maker(room).turn() == 0
    assert stored(room.database).state == "requested"
    assert make_case_maker(room).turn() == 1


def test_why_one_was_refused_can_be_read_for_an_hour(room: Room) -> None:
    refusal(room)
    maker = make_case_maker(room)
    maker.turn()
    assert stored(room.database).state == "refused"
    with room.database.transaction() as session:
        cases.get(session, TENANT, "cos").decided_at = now() - KEPT - timedelta(seconds=1)
    maker.turn()
    with pytest.raises(NotFound):
        stored(room.database)
