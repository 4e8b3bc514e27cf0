"""`thumbwheel cycle ...` as a person types it."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import typer
from click.testing import Result
from typer.testing import CliRunner

from infra.ports import Ports
from infra.registry import audit, cycles, leases
from infra.registry.cycles import CycleState
from infra.registry.errors import Conflict, IllegalTransition, NotFound
from infra.settings import SettingsError
from tests.support.cycles import cycle_row, hold, make_cycle
from tests.support.home import make_ports
from tests.support.manifests import make_adapter_manifest
from tests.support.reports import make_evidence, make_findings
from trainer.commands import opened, register
from trainer.report import write_report

ENDINGS = [
    (CycleState.ACCEPTED, 0),
    (CycleState.BLOCKED, 1),
    (CycleState.AWAITING_PERSON, 2),
]


@pytest.fixture
def ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ports]:
    made = make_ports(tmp_path / "home")
    monkeypatch.setenv("THUMBWHEEL_HOME", str(made.home))
    yield made
    made.close()


def run(*words: str) -> Result:
    """Errors that the root command turns into one line are raised here."""
    root = typer.Typer()
    register(root)
    return CliRunner().invoke(root, list(words), catch_exceptions=False)


def run_json(*words: str) -> Any:
    return json.loads(run(*words, "--json").stdout)


def advance(ports: Ports, cycle_id: str, *targets: CycleState, reason: str | None = None) -> None:
    lease = hold(ports, cycle_id, "somebody")
    with ports.database.transaction() as session:
        for target in targets:
            cycles.advance(session, lease, cycle_id, target, reason=reason)
        leases.release(session, lease)


def test_trigger_queues_a_cycle_of_the_gateways_alias(ports: Ports) -> None:
    found = run_json("cycle", "trigger", "--reason", "monday")
    assert (found["cycle_id"], found["alias"], found["state"]) == ("1", "assistant", "queued")
    with ports.database.reading() as session:
        [entry] = audit.list_entries(session, "default", subject="1")
    assert (entry.actor, entry.action, entry.reason) == ("cli", "cycle.trigger", "monday")


def test_settings_of_one_cycle_are_checked_and_kept(ports: Ports) -> None:
    run("cycle", "trigger", "--set", "policy_steps=3", "--set", "init=champion")
    assert cycle_row(ports, "1").settings == {"policy_steps": 3, "init": "champion"}


def test_a_wrong_setting_queues_nothing(ports: Ports) -> None:
    with pytest.raises(SettingsError, match="policy_stepz"):
        run("cycle", "trigger", "--set", "policy_stepz=3")
    assert run_json("cycle", "list") == []


def test_a_second_cycle_of_the_alias_is_refused(ports: Ports) -> None:
    run("cycle", "trigger")
    with pytest.raises(Conflict, match="cycle 1 of assistant is queued"):
        run("cycle", "trigger")


def test_list_shows_the_newest_first_and_how_far_it_is(ports: Ports) -> None:
    first, second = make_cycle(ports), make_cycle(ports, alias="other")
    assert [row["cycle_id"] for row in run_json("cycle", "list")] == [second, first]
    assert [row["cycle_id"] for row in run_json("cycle", "list", "--alias", "assistant")] == [first]
    assert "assistant" in run("cycle", "list").stdout


def test_show_tells_everything_about_a_cycle(ports: Ports) -> None:
    cycle_id = make_cycle(ports, policy_steps=7)
    assert run_json("cycle", "show", cycle_id)["settings"] == {"policy_steps": 7}
    assert "policy_steps" in run("cycle", "show", cycle_id).stdout


def test_a_cycle_of_another_tenant_is_not_there(ports: Ports) -> None:
    cycle_id = make_cycle(ports)
    with pytest.raises(NotFound):
        run("cycle", "show", cycle_id, "--tenant", "somebody")


def test_cancel_ends_a_queued_cycle_at_once(ports: Ports) -> None:
    run("cycle", "trigger")
    assert run_json("cycle", "cancel", "1", "--reason", "no need")["state"] == "cancelled"
    with pytest.raises(IllegalTransition, match="already ended"):
        run("cycle", "cancel", "1")


def test_cancel_asks_whoever_works_on_it(ports: Ports) -> None:
    cycle_id = make_cycle(ports)
    assert "is to be cancelled" in run("cycle", "cancel", cycle_id).stdout
    assert cycle_row(ports, cycle_id).cancel_requested


@pytest.mark.parametrize(("ending", "code"), ENDINGS)
def test_watch_exits_with_how_the_cycle_ended(ports: Ports, ending: CycleState, code: int) -> None:
    cycle_id = make_cycle(ports, state=CycleState.PUBLISHING)
    advance(ports, cycle_id, CycleState.GATING, ending, reason="because")
    result = run("cycle", "watch", cycle_id)
    assert result.exit_code == code
    assert "because" in result.stderr


def test_trigger_wait_shows_each_stage_until_the_end(ports: Ports) -> None:
    def work() -> None:
        while not cycles_of(ports):
            time.sleep(0.05)
        advance(ports, "1", CycleState.SNAPSHOTTING, CycleState.SFT)
        lease = hold(ports, "1", "trainer")
        with ports.database.transaction() as session:
            cycles.report_progress(
                session, lease, "1", {"stage": "sft", "step": 1, "total": 4, "eta_s": 9.0, "metrics": {}}
            )
            leases.release(session, lease)
        time.sleep(0.8)
        advance(ports, "1", CycleState.FAILED, reason="only 3 pairs")

    worker = threading.Thread(target=work)
    worker.start()
    result = run("cycle", "trigger", "--wait", "--json")
    worker.join()
    assert result.exit_code == 1
    assert json.loads(result.stdout)["reason"] == "only 3 pairs"
    assert "cycle 1: failed (only 3 pairs)" in result.stderr


def cycles_of(ports: Ports) -> list[str]:
    with ports.database.reading() as session:
        return [row.cycle_id for row in cycles.list_cycles(session, "default")]


def test_with_json_the_standard_output_of_the_command_itself_holds_json_alone(ports: Ports) -> None:
    """In a process of its own: nothing that a library or a log line prints may come between."""
    command = [sys.executable, "-m", "infra.cli", "cycle", "trigger", "--json"]
    found = subprocess.run(
        command, capture_output=True, check=True, env={**os.environ, "THUMBWHEEL_HOME": str(ports.home)}
    )
    assert json.loads(found.stdout)["state"] == "queued"


def test_a_log_line_goes_to_standard_error(ports: Ports, capfd: pytest.CaptureFixture[str]) -> None:
    with opened():
        structlog.get_logger().warning("judge_skipped")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "judge_skipped" in captured.err


def reported(ports: Ports) -> str:
    """A cycle whose report and evidence are published; one of its samples is left after erasures."""
    cycle_id = make_cycle(ports)
    manifest = make_adapter_manifest(cycle_id=cycle_id)
    sample = {"prompt_id": "p1", "prompt": [], "candidate": "A friend.", "champion": "Nobody."}
    evidence = make_evidence(samples=[sample])
    write_report(ports.artifacts, make_findings(manifest=manifest, evidence=evidence))
    ports.artifacts.write(f"adapters/{manifest.version}/evidence.json", evidence.model_dump_json().encode())
    return cycle_id


def test_a_cycle_s_report_is_written_as_a_page_with_answers(ports: Ports, tmp_path: Path) -> None:
    cycle_id = reported(ports)
    result = run("cycle", "report", cycle_id, "--out", str(tmp_path / "page.html"))
    assert result.stdout == f"wrote {tmp_path / 'page.html'}\n"
    assert "A friend." in (tmp_path / "page.html").read_text()


def test_a_cycle_s_report_can_be_read_by_programs(ports: Ports) -> None:
    found = run_json("cycle", "report", reported(ports))
    assert [sample["candidate"] for sample in found["samples"]] == ["A friend."]
    assert found["cost"]["fixed_share"] > 0


def test_a_cycle_that_published_nothing_says_that_it_has_no_report(ports: Ports) -> None:
    cycle_id = make_cycle(ports)
    with pytest.raises(SettingsError, match=f"cycle {cycle_id} has no report"):
        run("cycle", "report", cycle_id)


def test_nobody_reads_the_report_of_another_tenant(ports: Ports) -> None:
    with pytest.raises(NotFound):
        run("cycle", "report", reported(ports), "--tenant", "other")
