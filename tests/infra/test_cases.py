"""Exact checks, and what of a wish for some may be seen."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.cases import Case, Checks, Wanted, make_row, open_checks
from infra.envelopes import Sealer
from infra.sealing import SealBroken
from tests.support.events import TENANT, make_sealer


@pytest.fixture
def sealer(tmp_path: Path) -> Sealer:
    return make_sealer(tmp_path)


def test_a_wish_is_sealed_and_tells_how_many_checks_of_each_kind_it_has(sealer: Sealer) -> None:
    wanted = Wanted(contains_all=["cosine", "radians"], contains_none=["sine of"], refuses=False)
    row = make_row(sealer, TENANT, "r1", wanted, name="cos")
    assert row.checks == {"contains_all": 2, "contains_none": 1, "refuses": False}
    assert b"cosine" not in row.sealed
    assert open_checks(sealer, row) == Checks(**wanted.model_dump())


def test_each_case_has_a_name_and_its_own_seal(sealer: Sealer) -> None:
    first, second = (make_row(sealer, TENANT, "r1", Wanted(refuses=True), name=None) for _ in range(2))
    assert first.name.startswith("case-") and first.name != second.name
    first.sealed = second.sealed
    with pytest.raises(SealBroken):
        open_checks(sealer, first)


def test_a_case_without_a_check_is_refused() -> None:
    with pytest.raises(ValidationError, match="a case needs a check"):
        Wanted()


@pytest.mark.parametrize("kind", ["contains_all", "contains_any", "contains_none"])
def test_nothing_is_in_every_answer_so_it_is_no_check(kind: str) -> None:
    with pytest.raises(ValidationError, match=kind):
        Wanted.model_validate({kind: [""]})


def test_a_files_case_may_have_tools() -> None:
    line = {"name": "cos", "messages": [{"role": "user", "content": "cos?"}], "tools": [{"type": "function"}]}
    assert Case.model_validate(line).tools == [{"type": "function"}]
