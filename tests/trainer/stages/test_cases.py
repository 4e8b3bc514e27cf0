"""Cases that operators added from live answers are asked of every candidate, as those of the files are."""

import string
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from infra.cases import Case, Wanted, make_row
from infra.clock import now
from infra.contracts.manifests import Verdict
from infra.ports import Ports
from infra.registry import cases
from infra.registry.cases import Source
from infra.settings import ServingSettings
from serving.gates import regression
from serving.gates.subject import Subject, files_named
from tests.support.cases import stored
from tests.support.cycles import hold
from tests.support.datasets import make_snapshotted_cycle, make_tables
from tests.support.tiny_cycles import evidence_of, make_tiny_ports, manifest_of, train
from trainer.cycle import Holding
from trainer.stages.cases import all_suites
from trainer.stages.material import Material
from trainer.workdir import work_dir

pytestmark = pytest.mark.training
TALKATIVE = {"sft_min_rows": 1, "sft_learning_rate": 0.02, "sft_epochs": 4}  # it learns to say what it is shown


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_tiny_ports(tmp_path)
    yield made
    made.close()


@contextmanager
def opened(ports: Ports) -> Iterator[Material]:
    cycle_id = make_snapshotted_cycle(ports)
    holding = Holding(ports.database, cycle_id, hold(ports, cycle_id, ttl_s=600), work_dir(ports.home, cycle_id))
    yield Material(ports, holding)


def add(ports: Ports, name: str, question: str = "What does sin do?", **overrides: Any) -> None:
    """As the feedback process leaves it."""
    wanted = overrides.pop("wanted", Wanted(contains_all=["sine"]))
    row = make_row(ports.sealer, "default", "r1", wanted, name=name)
    case = Case(name=name, messages=[{"role": "user", "content": question}], **wanted.model_dump())
    key_id, sealed = ports.sealer.seal(case, "default", "rater-mia", context=UUID(row.case_id))
    fields = {"alias": "assistant", "rater": "rater-mia", "asked_at": now(), "retain_until": None, **overrides}
    with ports.database.transaction() as session:
        cases.request(session, row, actor="ann", reason="it was wrong")
        cases.keep(session, row, Source(**{"key_id": key_id, "sealed": sealed, **fields}))


def test_stored_cases_follow_those_of_the_file_in_the_order_of_their_adding(ports: Ports) -> None:
    add(ports, "first")
    add(ports, "second", "What does tan do?")
    with opened(ports) as material:
        suites, left_out = all_suites(material)
    assert [case.name for case in suites.regression] == ["cos", "anything", "first", "second"]
    assert suites.regression[3].messages == [{"role": "user", "content": "What does tan do?"}]
    assert suites.regression[2].contains_all == ["sine"]
    assert left_out == {}


def test_another_aliass_cases_and_wishes_that_nobody_decided_are_not_asked(ports: Ports) -> None:
    add(ports, "theirs", alias="another")
    with ports.database.transaction() as session:
        row = make_row(ports.sealer, "default", "r1", Wanted(refuses=True), name="waiting")
        cases.request(session, row, actor="ann", reason="it did")
    with opened(ports) as material:
        suites, left_out = all_suites(material)
    assert ([case.name for case in suites.regression], left_out) == (["cos", "anything"], {})


def test_what_may_not_be_read_any_more_is_left_out_and_counted(ports: Ports) -> None:
    add(ports, "erased")
    with ports.database.transaction() as session:
        cases.erase(session, "default", "rater-mia", now())
    add(ports, "ended", retain_until=now() - timedelta(seconds=1))
    add(ports, "broken", sealed=b"no box of ours, though long enough")
    add(ports, "elsewhere", key_id="of another home")
    add(ports, "fine")
    with opened(ports) as material:
        suites, left_out = all_suites(material)
    assert [case.name for case in suites.regression] == ["cos", "anything", "fine"]
    assert left_out == {"erased": 1, "expired": 1, "unreadable": 2}


def test_where_only_the_key_is_gone_yet_the_person_counts_as_erased(ports: Ports) -> None:
    add(ports, "hers")
    ports.sealer.forget("default", "rater-mia", now())
    assert stored(ports.database, "hers").state == "live"
    with opened(ports) as material:
        assert all_suites(material)[1] == {"erased": 1}


def test_a_conversation_that_leaves_no_room_for_an_answer_ends_no_cycle(ports: Ports) -> None:
    add(ports, "long", "What does cos do? " * 100)
    with opened(ports) as material:
        suites, left_out = all_suites(material)
    assert ([case.name for case in suites.regression], left_out) == (["cos", "anything"], {"unfit": 1})


def test_a_candidate_that_answers_stored_cases_otherwise_is_blocked_by_the_regression_gate(tmp_path: Path) -> None:
    """Greedily this base says nothing at all, and that is what it must go on to do; no file is set."""
    ports = make_tiny_ports(tmp_path, regression_file="", **TALKATIVE)
    for number in range(8):
        silent = Wanted(contains_none=list(string.printable))
        add(ports, f"case-{number}", f"What does lantern{number} do?", wanted=silent)
    cycle_id = make_snapshotted_cycle(ports, make_tables(demonstrations=64))
    train(ports, cycle_id)
    evidence = evidence_of(ports, cycle_id)
    wanted = files_named(manifest_of(ports, cycle_id).settings)
    found = regression.check(Subject(evidence, "base", ServingSettings(), wanted=wanted))
    assert (found.verdict, found.blocking) == (Verdict.FAIL, True)
    assert found.evidence["lost_names"] == [f"case-{number}" for number in range(8)]
    assert "lantern" not in evidence.model_dump_json(), "cases are named, never quoted"
    ports.close()
