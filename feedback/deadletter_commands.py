"""`thumbwheel deadletters ...`: what could not be read, why, and what to do about it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from getpass import getuser
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from feedback.command_line import Json, fail, opened
from infra.console import print_json, print_table

if TYPE_CHECKING:  # heavy imports wait until a command is called
    from feedback.intake.deadletters import Office
    from feedback.tables import DeadLetterRow

Places = Annotated[
    list[str] | None, typer.Argument(help="As `deadletters list` shows them, like TOPIC:PARTITION:OFFSET.")
]
All = Annotated[bool, typer.Option("--all", help="Every open letter.")]
MOST = 1000  # letters in one go

deadletters = typer.Typer(help="Payloads on the log that could not be read.", no_args_is_help=True)


@deadletters.command(name="list")
def list_(
    state: Annotated[Literal["open", "replayed", "discarded", "any"], typer.Option(help="Which ones.")] = "open",
    limit: Annotated[int, typer.Option(min=1, help="Most to show.")] = 50,
    json: Json = False,
) -> None:
    """Newest first, with the reason of each."""
    from feedback.intake.deadletters import LetterState

    with office() as desk:
        rows = [_summary(row) for row in desk.list(None if state == "any" else LetterState(state), limit)]
    if json:
        print_json(rows)
    else:
        names = ("position", "state", "seen_at", "tenant", "reason")
        print_table(names, [[row[name] for name in names] for row in rows])


@deadletters.command()
def show(place: Annotated[str, typer.Argument(help="Its position.")], json: Json = False) -> None:
    """One letter with its payload, which may hold what a person wrote."""
    from base64 import b64encode

    from feedback.intake.deadletters import parse

    with office() as desk:
        row = desk.get(parse(place))
        payload = desk.payload(row)
    if json:
        print_json({**_summary(row), "key": row.key, "bytes": len(payload), "payload": b64encode(payload).decode()})
        return
    print_table(("what", "value"), [*_summary(row).items(), ("key", row.key), ("bytes", len(payload))])
    typer.echo(payload.decode(errors="backslashreplace"))


@deadletters.command()
def replay(places: Places = None, every: All = False, json: Json = False) -> None:
    """Sends them to their topics again, byte for byte; what can be read now is stored once."""
    with office() as desk, closing(desk.eventlog.producer()) as producer:
        rows = _chosen(desk, places, every)
        for row in rows:
            desk.replay(row, producer, getuser())
    _told("sent again", rows, json=json)


@deadletters.command()
def discard(
    reason: Annotated[str, typer.Option(help="Why; it is kept in the audit.")],
    places: Places = None,
    every: All = False,
    json: Json = False,
) -> None:
    """Gives them up: they are no longer listed as open."""
    with office() as desk:
        rows = _chosen(desk, places, every)
        for row in rows:
            desk.discard(row, getuser(), reason)
    _told("discarded", rows, json=json)


@contextmanager
def office() -> "Iterator[Office]":
    """What stands in the way is said in one line."""
    from feedback.errors import FeedbackError
    from feedback.intake.deadletters import Office
    from infra.eventlog.base import LogUnavailable

    with opened() as ports:
        try:
            yield Office(ports.database, ports.eventlog, ports.artifacts)
        except (FeedbackError, LogUnavailable) as error:
            fail(str(error))


def _chosen(desk: "Office", places: list[str] | None, every: bool) -> "list[DeadLetterRow]":
    from feedback.intake.deadletters import LetterState, parse

    if bool(places) is every:
        fail("name letters, or say --all", code=2)
    return list(desk.list(LetterState.OPEN, MOST)) if every else [desk.get(parse(place)) for place in places or []]


def _summary(row: "DeadLetterRow") -> dict[str, object]:
    from feedback.intake.deadletters import name, position

    return {
        "position": name(position(row)), "state": row.state, "seen_at": row.seen_at, "tenant": row.tenant,
        "reason": row.reason,
    }  # fmt: skip


def _told(what: str, rows: "list[DeadLetterRow]", *, json: bool) -> None:
    if json:
        print_json([_summary(row)["position"] for row in rows])
    else:
        typer.echo(f"{len(rows)} {what}")
