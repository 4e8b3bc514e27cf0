"""`thumbwheel judge ...`: a model votes on pairs of answers by a written constitution."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feedback.command_line import TENANT, Json, Tenant, fail, opened
from infra.console import err, print_json, print_table

if TYPE_CHECKING:  # heavy imports wait until a command is called
    from feedback.judging.candidates import Candidates, Pair
    from feedback.judging.constitution import Constitution
    from feedback.judging.endpoint import Usage
    from feedback.judging.running import Tally
    from infra.ports import Ports
    from infra.settings import FeedbackSettings

Alias = Annotated[str, typer.Option(help="Which assistant; default: the gateway's.")]

judge = typer.Typer(help="A model that votes by a written constitution, beside people.", no_args_is_help=True)


@dataclass(frozen=True)
class Bench:
    """What both commands need: whose pairs, and who judges them."""

    candidates: "Candidates"
    settings: "FeedbackSettings"
    constitution: "Constitution"
    name: str

    @property
    def unit(self) -> str:
        from feedback.votes import AI

        return f"{AI}{self.candidates.rater}"


@judge.command()
def run(
    alias: Alias = "",
    tenant: Tenant = TENANT,
    limit: Annotated[int, typer.Option(min=1, help="Most pairs to ask about, two requests each.")] = 1000,
    shared: Annotated[
        int, typer.Option(min=0, help="Most of them that people compared: by these it is told what its votes weigh.")
    ] = 200,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many pairs there are to ask about.")] = False,
    json: Json = False,
) -> None:
    """Asks about what it has not judged yet, and votes. Exit 1 where it was stopped or said nothing clear."""
    from feedback.datasets.influence import calibrations

    with opened() as ports, _bench(ports, tenant, alias) as bench:
        judged = bench.candidates.judged()
        pairs = bench.candidates.pairs(judged, shared=shared, most=limit)
        told: dict[str, Any] = {"judge": bench.name, "constitution": bench.constitution.digest, "pairs": len(pairs)}
        if dry_run:
            _print(told, json=json)
            return
        tally, usage = asyncio.run(_asked(ports, bench, pairs))
        figures = calibrations([*judged.facts, *tally.facts], bench.settings).get(bench.unit, {})
    votes = {choice: tally.votes[choice] for choice in ("a", "b", "tie")}
    told |= {"votes": votes, "flipped": tally.flipped, "unclear": tally.unclear, "left_out": tally.left_out}
    _print({**told, **asdict(usage), "against_people": figures, "stopped": tally.stopped}, json=json)
    if tally.stopped:
        fail(f"stopped: {tally.stopped}; {tally.votes.total()} votes are on the log: run it again to go on")
    if tally.unclear and not tally.votes:
        fail("the judge gave no answer that can be read: see feedback.judge_format")


@judge.command()
def show(alias: Alias = "", tenant: Tenant = TENANT, json: Json = False) -> None:
    """The judge, its principles, and how far every model that voted agrees with people."""
    from feedback.datasets.influence import calibrations

    with opened() as ports, _bench(ports, tenant, alias) as bench:
        models = calibrations(bench.candidates.judged().facts, bench.settings)
    told = {"judge": bench.name, "unit": bench.unit, "constitution": bench.constitution.digest}
    _print({**told, "principles": list(bench.constitution.principles), "models": models}, json=json)


@contextmanager
def _bench(ports: "Ports", tenant: str, alias: str) -> "Iterator[Bench]":
    """Everything acknowledged so far is looked at; what stands in the way is said in one line."""
    from feedback.datasets.ordering import order_now
    from feedback.errors import FeedbackError
    from feedback.judging.asking import judge_name
    from feedback.judging.bench import make_candidates
    from feedback.judging.constitution import read_constitution
    from feedback.main import make_cutter

    settings = ports.settings.feedback
    if not (settings.judge_url and settings.judge_model):
        fail("there is no judge: set feedback.judge_url and feedback.judge_model", code=2)
    try:
        constitution = read_constitution(settings.judge_constitution)
        name = judge_name(settings.judge_model, constitution, settings.judge_format)
        cutter = make_cutter(ports, threading.Event())
        order = order_now(ports.database, cutter, tenant, alias or ports.settings.gateway.alias)
        yield Bench(make_candidates(ports, order, ports.identity.rater(tenant, name)), settings, constitution, name)
    except FeedbackError as error:
        fail(str(error))


async def _asked(ports: "Ports", bench: Bench, pairs: "list[Pair]") -> "tuple[Tally, Usage]":
    from feedback.judging.asking import Judge
    from feedback.judging.casting import Caster
    from feedback.judging.endpoint import open_endpoint
    from feedback.judging.running import Run
    from feedback.meter import Meter
    from infra.settings import secret_named

    variable, candidates = bench.settings.judge_key_variable, bench.candidates
    key = secret_named(variable) if variable else None
    with closing(ports.eventlog.producer()) as producer, Meter(err()) as meter:
        caster = Caster(producer, ports.sealer, candidates.archive.tenant, candidates.rater)
        async with open_endpoint(bench.settings, key) as endpoint:
            tally = await Run(Judge(endpoint, bench.constitution), candidates, caster, meter).over(pairs)
            return tally, endpoint.usage


def _print(told: Mapping[str, Any], *, json: bool) -> None:
    if json:
        print_json(told)
    else:
        print_table(("what", "value"), _flat(told))


def _flat(told: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for name, value in told.items():
        if isinstance(value, dict):
            yield from ((f"{name} {part}", one) for part, one in _flat(value))
        else:
            yield name, "\n".join(value) if isinstance(value, list) else value
