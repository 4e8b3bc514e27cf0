"""Regression cases from live answers: wished for as an operator does, looked up as the feedback process does."""

from typing import Any

from feedback.cases import CaseMaker
from feedback.datasets.redaction import Redactor
from infra.cases import Wanted, make_row
from infra.database.engine import Database
from infra.database.tables import CaseRow
from infra.envelopes import Sealer
from infra.registry import cases
from tests.support.events import TENANT

WANTED = Wanted(contains_all=["cosine"])


def wish(
    database: Database, sealer: Sealer, response_id: str, wanted: Wanted = WANTED, *, name: str = "cos",
    tenant: str = TENANT,
) -> CaseRow:  # fmt: skip
    row = make_row(sealer, tenant, response_id, wanted, name=name)
    with database.transaction() as session:
        return cases.request(session, row, actor="ann", reason="it was wrong")


def stored(database: Database, name: str = "cos", *, tenant: str = TENANT) -> CaseRow:
    with database.reading() as session:
        return cases.get(session, tenant, name)


def make_case_maker(room: Any, redactor: Redactor | None = None) -> CaseMaker:
    """`room` is whatever has a database and a sealer: ports, or the feedback room of tests."""
    return CaseMaker(room.database, room.sealer, redactor)
