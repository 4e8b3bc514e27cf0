"""`thumbwheel rater ...`: a person's rights from the command line, as `/v1/raters` gives them to clients."""

import sys
import time
from collections import Counter
from contextlib import AbstractContextManager, closing, nullcontext
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from feedback.command_line import TENANT, Json, Tenant, fail, opened
from infra.console import err, print_json, print_table

if TYPE_CHECKING:  # heavy imports wait until a command is called
    from infra.database.tables import ErasureRow
    from infra.erasure import Wish
    from infra.ports import Ports

RaterId = Annotated[str, typer.Argument(metavar="ID", help="The end user, as `user` and `rater` name them.")]
LOOK_S = 0.2
ACK_TIMEOUT_S = 30

rater = typer.Typer(help="A person's rights: erase and export.", no_args_is_help=True)


@rater.command()
def erase(
    user: RaterId,
    tenant: Tenant = TENANT,
    detach: Annotated[bool, typer.Option(help="Return once it is durable, without waiting for the files.")] = False,
    json: Json = False,
) -> None:
    """Everything of this person up to now: the data key at once, then rows and files. Exit 1 where it failed."""
    from infra.erasure import make_wish
    from infra.eventlog.base import LogUnavailable
    from infra.keystore.base import KeyringAway

    with opened() as ports:
        wish = make_wish(ports.identity, tenant, user, f"cli:{getuser()}")
        try:
            _send(ports, wish)
        except (LogUnavailable, KeyringAway, TimeoutError) as error:
            fail(f"nothing was erased: {error or 'the log did not answer'}")
        _destroy_key(ports, wish)
        row = None if detach else _followed(ports, wish)
    _tell(wish, row, json=json)
    if row is not None and row.state == "failed":
        raise typer.Exit(1)


@rater.command()
def export(
    user: RaterId,
    file: Annotated[Path | None, typer.Argument(help="Where to; default: standard output.")] = None,
    tenant: Tenant = TENANT,
    json: Json = False,
) -> None:
    """Every event and derived row of this person, one JSON object a line; --json tells how many of each kind."""
    from feedback.rights.exporter import encode
    from feedback.rights.portrait import Portrait

    if file is not None and file.exists():
        fail(f"{file} exists already", code=2)
    kinds: Counter[str] = Counter()
    with opened() as ports:
        person = Portrait(ports.database, ports.sealer, ports.artifacts, tenant, ports.identity.rater(tenant, user))
        with _sink(file) as out:
            for line in person.lines():
                out.write(encode(line))
                kinds[line["kind"]] += 1
    if file is not None and json:
        print_json({"file": str(file), "lines": dict(kinds)})
    elif file is not None:
        print_table(("kind", "lines"), sorted(kinds.items()))


def _sink(file: Path | None) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdout.buffer) if file is None else file.open("wb")


def _send(ports: "Ports", wish: "Wish") -> None:
    """The event first: without its tombstone a replay would bring back what no key is needed for."""
    from infra.contracts.events import ERASURE_TOPIC

    envelope = ports.sealer.wrap(wish.body, wish.header)
    with closing(ports.eventlog.producer()) as producer:
        done = producer.append(ERASURE_TOPIC, wish.body.rater, envelope.model_dump_json().encode())
        done.result(timeout=ACK_TIMEOUT_S)


def _destroy_key(ports: "Ports", wish: "Wish") -> None:
    from infra.keystore.base import KeyringAway

    try:
        ports.sealer.forget(wish.header.tenant, wish.body.rater, wish.body.up_to)
    except KeyringAway as error:
        fail(f"the erasure is on the log, and the feedback process destroys the key as soon as it can: {error}")


def _followed(ports: "Ports", wish: "Wish") -> "ErasureRow":
    """Until it has ended; what it does meanwhile is said on standard error."""
    from infra.registry import erasures
    from infra.registry.erasures import OPEN_STATES

    with err().status("waiting for the feedback process") as status:
        while True:
            with ports.database.reading() as session:
                row = erasures.find(session, wish.header.tenant, wish.body.erasure_id)
            if row is not None and row.state not in OPEN_STATES:
                return row
            if row is not None:
                waits = f", waits for {row.report['waits_for']}" if "waits_for" in row.report else ""
                status.update(f"{row.state}: {len(row.report.get('datasets', ()))} datasets so far{waits}")
            time.sleep(LOOK_S)


def _tell(wish: "Wish", row: "ErasureRow | None", *, json: bool) -> None:
    state, report = (row.state, row.report) if row else ("accepted", {})
    if json:
        print_json({"erasure_id": wish.handle, "state": str(state), "report": report})
        return
    facts: list[tuple[str, Any]] = [("erasure", wish.handle), ("state", state)]
    print_table(("what", "value"), [*facts, *((name, _flat(value)) for name, value in report.items())])


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
