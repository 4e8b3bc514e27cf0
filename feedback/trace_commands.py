"""`thumbwheel trace`: where an answer came from, and how far an event went."""

from typing import Annotated

import typer

from feedback.command_line import TENANT, Json, Tenant, fail, opened
from infra.console import print_json, print_tree

RESPONSE_ID = "An answer's response id."


def trace(
    response_id: Annotated[str | None, typer.Argument(metavar="RESPONSE_ID", help=RESPONSE_ID)] = None,
    event: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Instead: how far this event went; also by an answer's response id."),
    ] = None,
    events: Annotated[bool, typer.Option("--events", help="Also name the events that made the version.")] = False,
    offset: Annotated[int, typer.Option(min=0, help="With --events: how many to pass over.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="With --events: most to name.")] = 100,
    tenant: Tenant = TENANT,
    json: Json = False,
) -> None:
    """Where an answer came from: version, rollout, gates, datasets. Exit 1 where it is not known."""
    from feedback.tracing.tracing import Tracing
    from feedback.tracing.view import tree_of
    from infra.contracts.traces import Question

    if (response_id is None) is (event is None):
        fail("name a RESPONSE_ID, or an event with --event ID", code=2)
    question = Question(response_id=response_id, event_id=event, events=events, offset=offset, limit=limit)
    with opened() as ports:
        found = Tracing(ports.database, ports.sealer, ports.artifacts).answer(tenant, question)
    if json:
        print_json(found.model_dump(mode="json"))
    else:
        print_tree(tree_of(found))
