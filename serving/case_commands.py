"""`thumbwheel gate add-case|cases|remove-case`: what was asked in a live answer is asked again of each candidate."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.console import err, print_json, print_table
from serving.command_line import ACTOR, Alias, Json, Limit, Reason, Tenant, opened

if TYPE_CHECKING:  # heavy imports wait until a command is called
    from infra.cases import Wanted
    from infra.database.engine import Database
    from infra.database.tables import CaseRow

LOOK_S = 0.05
SHOWN = (
    "name", "state", "alias", "response_id", "checks", "refusal", "actor", "reason", "requested_at", "decided_at",
)  # fmt: skip

ResponseId = Annotated[str, typer.Argument(metavar="RESPONSE_ID", help="The answer whose prompt is asked again.")]
CaseName = Annotated[str, typer.Argument(metavar="NAME", help="As `gate cases` shows it.")]
AllOf = Annotated[list[str] | None, typer.Option(metavar="TEXT", help="Must be in the answer; may be given again.")]
OneOf = Annotated[list[str] | None, typer.Option(metavar="TEXT", help="One of these must be; may be given again.")]
NoneOf = Annotated[list[str] | None, typer.Option(metavar="TEXT", help="May not be in it; may be given again.")]
Refuses = Annotated[bool | None, typer.Option("--refuses/--no-refuses", help="It must be a refusal, or must be none.")]
Name = Annotated[str, typer.Option(help="What reports call it: no words of anybody's; default: one is made up.")]
Timeout = Annotated[float, typer.Option(min=0, help="Seconds to wait for the feedback process to look it up.")]


def add_case(
    response_id: ResponseId,
    reason: Reason,
    contains_all: AllOf = None,
    contains_any: OneOf = None,
    contains_none: NoneOf = None,
    refuses: Refuses = None,
    name: Name = "",
    timeout: Timeout = 10,
    tenant: Tenant = "default",
    as_json: Json = False,
) -> None:
    """Ask every candidate what this answer was asked, and check what it says. Exit 1 refused, 2 not decided yet."""
    from infra.cases import make_row
    from infra.registry import cases
    from infra.registry.cases import CaseState
    from serving.exit_codes import CASES

    wanted = _wanted(
        contains_all=contains_all or [], contains_any=contains_any or [], contains_none=contains_none or [],
        refuses=refuses, name=name,
    )  # fmt: skip
    with opened() as ports:
        row = make_row(ports.sealer, tenant, response_id, wanted, name=name or None)
        with ports.database.transaction() as session:
            cases.request(session, row, actor=ACTOR, reason=reason)
        row = _followed(ports.database, row, timeout)
    if as_json:
        print_json(_as_dict(row))
    else:
        _tell(row)
    raise typer.Exit(CASES[CaseState(row.state)])


def list_cases(alias: Alias = "", tenant: Tenant = "default", limit: Limit = 20, as_json: Json = False) -> None:
    """Regression cases from live answers, newest first; also those that may not be read any more."""
    from infra.registry import cases

    with opened() as ports, ports.database.reading() as session:
        rows = [_as_dict(row) for row in cases.list_cases(session, tenant, alias=alias or None, limit=limit)]
    if as_json:
        return print_json(rows)
    columns = ("name", "state", "alias", "answer", "checks", "added", "actor", "why")
    cells = [
        (r["name"], r["state"], r["alias"], r["response_id"], _counted(r["checks"]), r["requested_at"], r["actor"],
         r["refusal"] or r["reason"])
        for r in rows
    ]  # fmt: skip
    return print_table(columns, cells)


def remove_case(name: CaseName, reason: Reason, tenant: Tenant = "default", as_json: Json = False) -> None:
    """Ask it of no candidate any more; its words are gone."""
    from infra.registry import cases

    with opened() as ports, ports.database.transaction() as session:
        cases.remove(session, tenant=tenant, name=name, actor=ACTOR, reason=reason)
    return print_json({"removed": name}) if as_json else typer.echo(f"removed {name}")


def _wanted(*, name: str, **checks: Any) -> "Wanted":
    """What is wrong is said without repeating it."""
    import re

    from pydantic import ValidationError

    from infra.cases import NAME, Wanted

    try:
        if name and not re.fullmatch(NAME, name):
            raise typer.BadParameter("letters, digits, dots, dashes and underscores, at most 100", param_hint="--name")
        return Wanted.model_validate(checks)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = f"--{first['loc'][0]}: ".replace("_", "-") if first["loc"] else ""
        raise typer.BadParameter(where + first["msg"].removeprefix("Value error, ")) from None


def _followed(database: "Database", row: "CaseRow", timeout_s: float) -> "CaseRow":
    """Once it is decided, or as it stands after that time."""
    from infra.registry import cases
    from infra.registry.cases import CaseState

    deadline = time.monotonic() + timeout_s
    while True:
        with database.reading() as session:
            row = cases.get(session, row.tenant, row.name)
        if row.state != CaseState.REQUESTED or time.monotonic() > deadline:
            return row
        time.sleep(LOOK_S)


def _tell(row: "CaseRow") -> None:
    from infra.registry.cases import CaseState

    if row.state == CaseState.REFUSED:
        err().print(f"no case can be made of {row.response_id}: {row.refusal}", markup=False)
    elif row.state == CaseState.REQUESTED:
        err().print(f"{row.name} is not decided yet: the feedback process has not looked it up", markup=False)
    else:
        typer.echo(f"{row.name} is {row.state}: {_counted(row.checks)}, asked of each candidate of {row.alias}")


def _counted(checks: dict[str, Any]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in checks.items())


def _as_dict(row: "CaseRow") -> dict[str, Any]:
    return {name: getattr(row, name) for name in SHOWN}
