"""`thumbwheel checks`: questions with a known answer, by which it is told how far a rater can be trusted."""

import getpass
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.settings import load_settings

if TYPE_CHECKING:  # heavy imports wait until a command is called
    from infra.checks import Planting, Question
    from infra.ports import Ports

ACK_TIMEOUT_S = 30
COLUMNS = ("check_id", "alias", "segment", "asks", "planted_at", "retired_at")

app = typer.Typer(help="Check questions for raters: plant, list, retire.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Tenant = Annotated[str, typer.Option(help="Whose raters are asked.")]


@app.command()
def plant(
    file: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="JSON lines: messages, better, worse, model, segment.")
    ],
    tenant: Tenant = "default",
    as_json: Json = False,
) -> None:
    """Plant one question for each line: all of them, or none where a line is wrong."""
    from infra.console import print_json, print_table

    questions = _read(file)
    with _opened() as ports:
        plantings = _made(ports, tenant, questions)
        _append(ports, plantings)
        planted = _kept(ports, plantings)
    if as_json:
        return print_json([{"check_id": check_id, "answers": answers} for check_id, *answers in planted])
    return print_table(("check_id", "answer", "answer"), planted)


@app.command(name="list")
def list_checks(tenant: Tenant = "default", as_json: Json = False) -> None:
    """Those that are planted, newest first, and those that are retired."""
    from infra.console import print_json, print_table
    from infra.registry import checks

    with _opened() as ports, ports.database.reading() as session:
        rows = [
            (r.check_id, r.alias, r.segment, r.question["messages"][-1]["content"], r.planted_at, r.retired_at)
            for r in checks.list_checks(session, tenant)
        ]
    if as_json:
        return print_json([dict(zip(COLUMNS, row, strict=True)) for row in rows])
    return print_table(COLUMNS, rows)


@app.command()
def retire(
    check_id: Annotated[str, typer.Argument(help="As `checks list` shows it.")],
    tenant: Tenant = "default",
    as_json: Json = False,
) -> None:
    """Hand a question out no more. Votes on it go on counting."""
    from infra.console import out, print_json
    from infra.registry import checks

    with _opened() as ports, ports.database.transaction() as session:
        checks.retire(session, tenant=tenant, check_id=check_id, actor=_actor())
    return print_json({"retired": check_id}) if as_json else out().print(f"retired {check_id}", markup=False)


def _read(file: Path) -> "list[Question]":
    """Refuses the first line that is wrong, without repeating what it says."""
    from pydantic import ValidationError

    from infra.checks import Question

    questions = []
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            questions += [Question.model_validate_json(line)] if line.strip() else []
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            said = f"{where}: {first['msg']}" if where else first["msg"]
            raise typer.BadParameter(f"line {number}: {said}", param_hint="--file") from None
    if not questions:
        raise typer.BadParameter("there is no question in it", param_hint="--file")
    return questions


def _made(ports: "Ports", tenant: str, questions: "Sequence[Question]") -> "list[Planting]":
    """Raises NotFound for an alias that is not served."""
    from infra.checks import make_planting
    from infra.registry import checks

    with ports.database.reading() as session:
        own = ports.settings.gateway.alias
        aliases = [checks.served_alias(session, question.model, own) for question in questions]
    return [
        make_planting(ports.identity, tenant, alias, question, _actor())
        for alias, question in zip(aliases, questions, strict=True)
    ]


def _append(ports: "Ports", plantings: "Sequence[Planting]") -> None:
    """Returns once all are on the log; raises LogUnavailable where it takes nothing."""
    from infra.contracts.events import INFERENCE_TOPIC
    from infra.eventlog.base import LogUnavailable

    with closing(ports.eventlog.producer()) as producer:
        waiting = []
        for event, header in (one for planting in plantings for one in planting.events):
            envelope = ports.sealer.wrap(event, header)
            waiting.append(producer.append(INFERENCE_TOPIC, event.response_id, envelope.model_dump_json().encode()))
        try:
            for done in waiting:
                done.result(timeout=ACK_TIMEOUT_S)
        except TimeoutError:
            raise LogUnavailable("nothing was planted: the log did not answer") from None


def _kept(ports: "Ports", plantings: "Sequence[Planting]") -> list[tuple[str, str, str]]:
    """The id of each check and of its two answers, in an order that says nothing."""
    from infra.registry import checks

    with ports.database.transaction() as session:
        rows = [checks.add(session, planting.row) for planting in plantings]
        return [(row.check_id, row.response_a, row.response_b) for row in rows]


@contextmanager
def _opened() -> "Iterator[Ports]":
    from infra.database.schema import check_schema
    from infra.ports import Ports

    ports = Ports(load_settings())
    try:
        check_schema(ports.database)
        yield ports
    finally:
        ports.close()


def _actor() -> str:
    """Who ran the command, for the audit."""
    return f"cli:{getpass.getuser()}"
