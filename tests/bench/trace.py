"""How long a trace takes on a large store, both ways: as the command in a fresh process, and over HTTP.

`python -m tests.bench.trace [--events 1000000] [--asks 50] [--json]`. SQLite, a directory of artifacts, three datasets
that share most of their files, three versions. Over HTTP gateway and feedback process are processes of their own.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from sqlalchemy import func, select

from feedback.tables import ChoiceRow, InferenceRow, VoteEventRow
from feedback.tracing.tracing import Tracing
from infra.console import err, print_json, print_table
from infra.contracts.manifests import DatasetManifest
from infra.contracts.traces import Question
from infra.ports import Ports
from tests.bench.trace_store import fill, freeze, teach
from tests.support.events import TENANT
from tests.support.stack import Stack, make_stack

RESULT = Path(".thumbwheel/bench/trace.json")
EVENTS = 20_000  # where nothing else is said: a minute
WAYS = ("in_process", "command", "api")
LOOK_S = 0.01
PATIENCE_S = 120
Asked = dict[str, str]  # response_id or event_id
Ask = Callable[[Asked], Any]


def measure(home: Path, events: int, asks: int, ways: Sequence[str] = WAYS) -> dict[str, Any]:
    stack = make_stack(home)
    ports = stack.ports
    began = time.monotonic()
    pairs = fill(ports, events)
    filled = time.monotonic() - began
    told(f"{events} events in {filled:.0f} s")
    made = freeze(ports, pairs, told)
    versions = teach(ports, [manifest for manifest, _ in made], pairs)
    found: dict[str, Any] = {
        "events": count(ports), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1),
        "fill_s": round(filled, 1),
        "database_mib": round((home / "state.db").stat().st_size / 2**20),
        "datasets": [described(manifest, seconds) for manifest, seconds in made],
    }  # fmt: skip
    here = Tracing(ports.database, ports.sealer, ports.artifacts)
    found["first_s"] = {version: first(ports, here, version) for version in versions}
    questions = draw(ports, versions, asks)
    with over_http(stack) if "api" in ways else nullcontext(here.answer) as ask_http:
        known: dict[str, Ask] = {
            "in_process": lambda asked: here.answer(TENANT, Question.model_validate(asked)),
            "command": lambda asked: run(home, asked),
            "api": ask_http,
        }
        for kind, some in questions.items():
            found[kind] = {way: timed(known[way], some) for way in ways}
            told(f"{kind}: {found[kind]}")
    ports.close()
    return found


def described(manifest: DatasetManifest, seconds: float) -> dict[str, Any]:
    rows = sum(file.rows or 0 for file in manifest.files)
    return {"dataset_id": manifest.dataset_id, "seconds": seconds, "files": len(manifest.files), "rows": rows}


def count(ports: Ports) -> int:
    with ports.database.reading() as session:
        return sum(session.scalar(select(func.count()).select_from(t)) or 0 for t in (InferenceRow, VoteEventRow))


def first(ports: Ports, tracing: Tracing, version: str) -> float:
    """Seconds of the first trace of a version, which counts the events behind it."""
    with ports.database.reading() as session:
        response_id = session.scalar(select(ChoiceRow.response_id).where(ChoiceRow.version == version).limit(1))
    began = time.monotonic()
    tracing.answer(TENANT, Question(response_id=response_id))
    return round(time.monotonic() - began, 2)


def draw(ports: Ports, versions: Sequence[str], asks: int) -> dict[str, list[Asked]]:
    """Answers that a trained version gave, votes, and answers as events: any, by chance."""
    rng = random.Random(1)
    with ports.database.reading() as session:
        answered = session.scalars(select(ChoiceRow.response_id).where(ChoiceRow.version.in_(versions))).all()
        votes = session.scalars(select(VoteEventRow.event_id)).all()
        answers = session.scalars(select(InferenceRow.event_id)).all()

    def some(name: str, ids: Sequence[str]) -> list[Asked]:
        return [{name: one} for one in rng.choices(ids, k=asks)]

    return {
        "response": some("response_id", answered), "vote": some("event_id", votes),
        "answer_event": some("event_id", answers),
    }  # fmt: skip


def timed(ask: Ask, questions: Sequence[Asked]) -> dict[str, float]:
    """Milliseconds on the clock; `cpu_ms` is the mean of this process and the commands that it ran."""
    spent, cpu = [], cpu_s()
    for question in questions:
        began = time.monotonic()
        ask(question)
        spent.append(1000 * (time.monotonic() - began))
    cuts = statistics.quantiles(spent, n=20, method="inclusive")
    cpu_ms = 1000 * (cpu_s() - cpu) / len(spent)
    return {"p50_ms": round(cuts[9], 1), "p95_ms": round(cuts[18], 1), "cpu_ms": round(cpu_ms, 1), "asks": len(spent)}


def cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def run(home: Path, asked: Asked) -> dict[str, Any]:
    """The command as a person types it."""
    words = [asked["response_id"]] if "response_id" in asked else ["--event", asked["event_id"]]
    argv = [sys.executable, "-m", "infra.cli", "--home", str(home), "trace", *words, "--json"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


@contextmanager
def over_http(stack: Stack) -> Iterator[Ask]:
    """With a gateway and a feedback process on the store; a client that looks for its answer again and again."""
    environ = {**os.environ, "THUMBWHEEL_HOME": str(stack.home)}
    with (
        subprocess.Popen([sys.executable, "-m", "feedback.main"], env=environ) as feedback,
        stack.gateway_process() as gateway,
    ):
        gateway.wait_until_ready(path="/healthz")
        headers = {"Authorization": f"Bearer {stack.admin_key}"}
        with httpx.Client(base_url=f"{gateway.url}/admin/v1", headers=headers, timeout=30, verify=False) as client:

            def ask(asked: Asked) -> Any:
                trace = client.post("/traces", json=asked).raise_for_status().json()
                deadline = time.monotonic() + PATIENCE_S
                while trace["state"] == "requested":
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{asked} was not answered")
                    time.sleep(LOOK_S)
                    trace = client.get(f"/traces/{trace['trace_id']}").raise_for_status().json()
                return trace["answer"]

            ask({"response_id": "nothing"})  # both processes have started when it is answered
            try:
                yield ask
            finally:
                feedback.terminate()


def told(line: str) -> None:
    err().print(line, markup=False)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--asks", type=int, default=50, help="of each kind and each way")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="thumbwheel-bench-") as directory:
        found = measure(Path(directory), options.events, options.asks, options.ways)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    if options.json:
        print_json(found)
        return
    kinds = ("response", "vote", "answer_event")
    rows = [(kind, way, *found[kind][way].values()) for kind in kinds for way in found[kind]]
    print_table(("trace of", "way", "p50 ms", "p95 ms", "CPU ms", "asks"), rows)


if __name__ == "__main__":
    main()
