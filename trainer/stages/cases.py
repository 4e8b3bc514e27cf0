"""The exact checks of a cycle: those of its files, and those that operators added from live answers."""

from collections import Counter
from dataclasses import replace

import structlog

from infra.cases import Case, open_case
from infra.clock import now
from infra.database.tables import CaseRow
from infra.registry import cases
from infra.registry.cases import CaseState
from infra.sealing import KeyDestroyed, KeyUnknown, SealBroken
from trainer.data import BadRow, Prompt, encode_prompt
from trainer.regression import Suites, read_suites
from trainer.stages.material import Material
from trainer.world import Words, words

log = structlog.get_logger()

LeftOut = dict[str, int]  # why -> how many
Stored = tuple[list[Case], LeftOut]
STORED: Words[Stored] = words(Stored)
UNFIT, UNREADABLE = "unfit", "unreadable"


class _LeftOut(Exception):
    """Why this case can't be asked; no fault of a candidate's."""


def all_suites(material: Material) -> tuple[Suites, LeftOut]:
    """Stored cases after those of the regression file; of those that can't be asked any more, how many and why.

    Raises SettingsError as `read_suites` does. Of several processes all ask what the first one has found.
    """
    suites = read_suites(material.settings)
    known, left_out = material.world.led(lambda: _stored(material), STORED)
    fitting = [case for case in known if _fits(material, case)]
    if unfit := len(known) - len(fitting):
        left_out = {**left_out, UNFIT: unfit}
    if left_out:
        log.warning("cases_left_out", **left_out)
    return replace(suites, regression=[*suites.regression, *fitting]), left_out


def _stored(material: Material) -> Stored:
    """Of this tenant's alias."""
    with material.ports.database.reading() as session:
        rows = cases.list_cases(session, material.row.tenant, alias=material.row.alias)
    known, left_out = list[Case](), Counter[str]()
    for row in reversed(rows):
        try:
            known.append(_opened(material, row))
        except _LeftOut as reason:
            left_out[str(reason)] += 1
    return known, dict(sorted(left_out.items()))


def _opened(material: Material, row: CaseRow) -> Case:
    """Raises _LeftOut, or KeyringAway."""
    if row.state != CaseState.LIVE:
        raise _LeftOut(row.state)
    if row.retain_until is not None and row.retain_until <= now():
        raise _LeftOut(CaseState.EXPIRED)
    try:
        return open_case(material.ports.sealer, row)
    except KeyDestroyed:
        raise _LeftOut(CaseState.ERASED) from None
    except (KeyUnknown, SealBroken):
        raise _LeftOut(UNREADABLE) from None


def _fits(material: Material, case: Case) -> bool:
    """A live conversation may leave no room for an answer here, or not be one that this base's template can write."""
    try:
        return len(encode_prompt(material.base.tokenizer, Prompt(case.messages, case.tools or None))) <= material.room
    except BadRow:
        return False
