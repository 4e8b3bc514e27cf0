"""`thumbwheel gate add-case`, `cases` and `remove-case` as a person types them, beside a feedback process."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from infra.contracts.events import Consent
from infra.ports import Ports
from infra.registry import audit, cases
from infra.registry.errors import Conflict, NotFound
from serving.commands import register
from tests.support.cases import make_case_maker, stored
from tests.support.events import make_inference
from tests.support.feedback import Event, Room
from tests.support.home import make_ports

ADD = ("gate", "add-case", "r1", "--reason", "it was wrong")
CHECK = ("--contains-all", "cosine")


@pytest.fixture
def ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ports]:
    made = make_ports(tmp_path)
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path))
    yield made
    made.close()


def answer(ports: Ports, *, consent: bool = True) -> None:
    room = Room(ports.home, ports.database, ports.sealer, ports.eventlog)
    room.append([Event(make_inference("r1"), "chat", {"rater": "mia", "consent": Consent(train=consent)})])
    room.consume()


def run(*words: str) -> Result:
    """Errors that the root command turns into one line are raised here."""
    root = typer.Typer()
    register(root)
    return CliRunner().invoke(root, list(words), catch_exceptions=False)


@contextmanager
def feedback(ports: Ports) -> Iterator[None]:
    """Looks for wishes until the block ends."""
    stop, maker = threading.Event(), make_case_maker(ports)

    def look() -> None:
        while not stop.wait(0.02):
            maker.turn()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def added(*more: str) -> dict[str, Any]:
    result = run(*ADD, *CHECK, *more, "--json")
    return {"exit_code": result.exit_code, **json.loads(result.stdout)}


def test_a_case_is_added_once_the_answer_was_found(ports: Ports) -> None:
    answer(ports)
    with feedback(ports):
        result = run(*ADD, *CHECK, "--contains-none", "sine of", "--no-refuses", "--name", "cos")
    assert result.exit_code == 0, result.stderr
    said = "cos is live: contains_all 1, contains_none 1, refuses False, asked of each candidate of assistant\n"
    assert result.stdout == said
    assert stored(ports.database).state == "live"
    with ports.database.reading() as session:
        assert audit.list_entries(session, "default", subject="cos")[-1].actor == "cli"


def test_without_consent_it_exits_1_and_says_what_to_do(ports: Ports) -> None:
    answer(ports, consent=False)
    with feedback(ports):
        result = run(*ADD, *CHECK)
        told = added()
    assert (result.exit_code, result.stdout) == (1, "")
    assert "has not allowed training" in result.stderr and "trainer.regression_file" in result.stderr
    assert (told["exit_code"], told["state"]) == (1, "refused")


def test_without_a_feedback_process_it_exits_2_and_the_wish_waits(ports: Ports) -> None:
    answer(ports)
    result = run(*ADD, *CHECK, "--name", "cos", "--timeout", "0")
    assert result.exit_code == 2
    assert "cos is not decided yet" in result.stderr
    make_case_maker(ports).turn()
    (listed,) = json.loads(run("gate", "cases", "--json").stdout)
    assert (listed["name"], listed["state"], listed["checks"]) == ("cos", "live", {"contains_all": 1})
    assert "cos" in run("gate", "cases").stdout
    assert json.loads(run("gate", "cases", "--alias", "another", "--json").stdout) == []


@pytest.mark.parametrize(("words", "said"), [
    ((), "a case needs a check"),
    (("--contains-all", ""), "--contains-all"),
    ((*CHECK, "--name", "two words"), "--name"),
])  # fmt: skip
def test_what_is_no_case_exits_2_and_asks_for_nothing(ports: Ports, words: tuple[str, ...], said: str) -> None:
    result = run(*ADD, *words)
    assert result.exit_code == 2
    assert said in result.stderr
    with ports.database.reading() as session:
        assert cases.list_cases(session, "default") == []


def test_a_name_that_is_taken_is_refused(ports: Ports) -> None:
    run(*ADD, *CHECK, "--name", "cos", "--timeout", "0")
    with pytest.raises(Conflict, match="named cos already"):
        run(*ADD, *CHECK, "--name", "cos", "--timeout", "0")


def test_a_removed_case_is_gone_and_the_audit_says_why(ports: Ports) -> None:
    run(*ADD, *CHECK, "--name", "cos", "--timeout", "0")
    assert run("gate", "remove-case", "cos", "--reason", "settled").stdout == "removed cos\n"
    with ports.database.reading() as session:
        entry = audit.list_entries(session, "default", subject="cos")[0]
    assert (entry.action, entry.actor, entry.reason) == ("case.remove", "cli", "settled")
    with pytest.raises(NotFound, match="there is no case cos"):
        run("gate", "remove-case", "cos", "--reason", "settled")
