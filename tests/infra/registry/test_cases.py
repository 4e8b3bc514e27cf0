"""Regression cases: wished for once a name, decided once, blanked or removed."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from infra.cases import Wanted, make_row
from infra.clock import now
from infra.database.tables import CaseRow
from infra.ports import Ports
from infra.registry import audit, cases
from infra.registry.cases import Source
from infra.registry.errors import Conflict, IllegalTransition, NotFound


def wish(ports: Ports, name: str = "cos", *, tenant: str = "default") -> CaseRow:
    row = make_row(ports.sealer, tenant, "r1", Wanted(refuses=False), name=name)
    with ports.database.transaction() as session:
        return cases.request(session, row, actor="ann", reason="it refused")


def keep(ports: Ports, name: str = "cos", **overrides: Any) -> None:
    fields = {
        "alias": "assistant", "rater": "rater-1", "asked_at": now(), "retain_until": None, "key_id": "k",
        "sealed": b"box", **overrides,
    }  # fmt: skip
    with ports.database.transaction() as session:
        cases.keep(session, cases.get(session, "default", name), Source(**fields))


def state(ports: Ports, name: str = "cos") -> tuple[str, bytes]:
    with ports.database.reading() as session:
        row = cases.get(session, "default", name)
    return row.state, row.sealed


def erase(ports: Ports, rater: str, up_to: datetime) -> int:
    with ports.database.transaction() as session:
        return cases.erase(session, "default", rater, up_to)


def test_a_name_is_taken_until_the_case_is_removed(ports: Ports) -> None:
    wish(ports)
    with pytest.raises(Conflict, match="named cos already"):
        wish(ports)
    assert wish(ports, tenant="acme").state == "requested"
    with ports.database.transaction() as session:
        cases.remove(session, tenant="default", name="cos", actor="ben", reason="settled")
    assert wish(ports).state == "requested"


def test_one_that_was_refused_leaves_its_name_to_the_next(ports: Ports) -> None:
    wish(ports)
    with ports.database.transaction() as session:
        cases.refuse(session, cases.get(session, "default", "cos"), "no consent")
    assert state(ports) == ("refused", b"")
    wish(ports)
    assert state(ports)[0] == "requested"


def test_what_was_decided_is_not_decided_again(ports: Ports) -> None:
    wish(ports)
    keep(ports)
    with pytest.raises(IllegalTransition, match="live to live"):
        keep(ports)


def test_only_who_comes_first_claims_a_wish(ports: Ports) -> None:
    row = wish(ports)
    with ports.database.transaction() as session:
        claimed = cases.claim(session, "default", "cos", row.case_id)
        assert claimed is not None
        cases.refuse(session, claimed, "no consent")
    with ports.database.transaction() as session:
        assert cases.claim(session, "default", "cos", row.case_id) is None
        assert cases.claim(session, "default", "cos", "another") is None


def test_an_erasure_takes_what_that_person_asked_until_then(ports: Ports) -> None:
    moment = now()
    for name, rater, at in (("old", "mia", -1), ("new", "mia", 1), ("others", "ben", -1)):
        wish(ports, name)
        keep(ports, name, rater=rater, asked_at=moment + timedelta(seconds=at))
    assert erase(ports, "mia", moment) == 1
    assert [state(ports, name)[0] for name in ("old", "new", "others")] == ["erased", "live", "live"]
    assert erase(ports, "mia", moment) == 0, "it can be done again"


def test_what_may_be_kept_until_a_day_ends_with_it(ports: Ports) -> None:
    for name, end in (("over", -1), ("later", 60)):
        wish(ports, name)
        keep(ports, name, retain_until=now() + timedelta(seconds=end))
    with ports.database.transaction() as session:
        assert cases.expire(session) == 1
    assert (state(ports, "over"), state(ports, "later")[0]) == (("expired", b""), "live")


def test_removing_is_audited_with_what_it_was(ports: Ports) -> None:
    wish(ports)
    keep(ports)
    with ports.database.transaction() as session:
        cases.remove(session, tenant="default", name="cos", actor="ben", reason="settled")
    with ports.database.reading() as session:
        with pytest.raises(NotFound, match="no case cos"):
            cases.get(session, "default", "cos")
        entry = audit.list_entries(session, "default", subject="cos")[0]
    assert (entry.action, entry.actor, entry.reason) == ("case.remove", "ben", "settled")
    assert entry.before == {"state": "live", "alias": "assistant", "response_id": "r1", "checks": {"refuses": False}}
    assert entry.after == {}


def test_cases_are_listed_by_alias_newest_first(ports: Ports) -> None:
    for name, alias in (("one", "assistant"), ("two", "other"), ("three", "assistant")):
        wish(ports, name)
        keep(ports, name, alias=alias)
    with ports.database.reading() as session:
        assert [row.name for row in cases.list_cases(session, "default", alias="assistant")] == ["three", "one"]
        assert [row.name for row in cases.list_cases(session, "default", limit=1)] == ["three"]
        assert cases.list_cases(session, "acme") == []
