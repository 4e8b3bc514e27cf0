"""`thumbwheel adapter|rollout|gate ...`, `promote` and `rollback` as a person types them."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from infra.contracts.manifests import GateReport
from infra.contracts.routing import ReplicaState
from infra.database.schema import SchemaMismatch
from infra.ports import Ports
from infra.registry import adapters, audit, leases, rollouts
from infra.registry.adapters import AdapterState
from infra.registry.errors import Conflict, IllegalTransition, NotFound
from infra.registry.fleet import publish_routing, routing_revision
from infra.registry.rollouts import RolloutState
from serving.commands import register
from tests.support.adapters import make_adapter, make_bad_adapter, publish
from tests.support.controllers import accept, adapter_state, make_evidence
from tests.support.home import make_ports
from tests.support.manifests import make_adapter_manifest
from tests.support.routing import make_replica, make_table
from tests.support.tiny_model import make_tiny_model

R = RolloutState


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def ports(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ports]:
    made = make_ports(tmp_path / "home", THUMBWHEEL_SERVING__MODEL=str(model))
    monkeypatch.setenv("THUMBWHEEL_HOME", str(made.home))
    monkeypatch.setenv("THUMBWHEEL_SERVING__MODEL", str(model))
    yield made
    made.close()


@pytest.fixture
def version(ports: Ports, tmp_path: Path, model: Path) -> str:
    """Accepted, waiting for its promotion."""
    return accept(ports, make_adapter(tmp_path / "made", model))


def run(*words: str) -> Result:
    """Errors that the root command turns into one line are raised here."""
    root = typer.Typer()
    register(root)
    return CliRunner().invoke(root, list(words), catch_exceptions=False)


def run_json(*words: str) -> Any:
    return json.loads(run(*words, "--json").stdout)


def advance(ports: Ports, rollout_id: str, *targets: RolloutState, error: str | None = None) -> None:
    """What the controller would do."""
    with ports.database.transaction() as session:
        lease = leases.acquire(session, "controller", "test", 10)
        assert lease is not None
        for target in targets:
            row = rollouts.advance(session, lease, rollout_id, target, error=error)
            if target is R.DRAINING:
                rollouts.champion_states(session, row)


def route(ports: Ports, champion: str) -> None:
    with ports.database.transaction() as session:
        lease = leases.acquire(session, "controller", "test", 10)
        assert lease is not None
        publish_routing(session, lease, make_table(routing_revision(session) + 1, champion=champion))


def serve(ports: Ports, version: str) -> None:
    """It answers everybody already."""
    with ports.database.transaction() as session:
        adapters.register(session, make_adapter_manifest(version=version), f"adapters/{version}")
        for state in (AdapterState.ACCEPTED, AdapterState.CHAMPION):
            adapters.move(session, version, state)
    route(ports, version)


def roll_out(ports: Ports, version: str) -> None:
    """From the wish to the end, as if a controller ran."""
    found = run_json("promote", version, "--reason", "good")
    advance(ports, found["rollout_id"], R.LOADING, R.DRAINING, R.DONE)
    route(ports, version)


def test_promote_asks_for_the_version_and_says_so(ports: Ports, version: str) -> None:
    result = run("promote", version, "--reason", "good")
    assert (result.exit_code, result.stdout) == (0, f"promote of {version} is requested\n")


def test_promote_is_audited_with_who_why_and_what_changes(ports: Ports, version: str) -> None:
    found = run_json("promote", version, "--reason", "the raters like it")
    with ports.database.reading() as session:
        [entry] = audit.list_entries(session, "default", subject=version)
    assert (entry.actor, entry.action, entry.reason) == ("cli", "rollout.promote", "the raters like it")
    assert (entry.before["champion"], entry.after["champion"]) == ("base", version)
    assert entry.after["rollout_id"] == found["rollout_id"]


@pytest.mark.parametrize("words", [("promote", "v1"), ("rollback",), ("rollout", "abort", "r1")])
def test_every_action_needs_a_reason(ports: Ports, words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert "--reason" in result.stderr


def test_promote_overrules_gates_in_the_persons_name(ports: Ports, tmp_path: Path, model: Path) -> None:
    blocked = publish(ports, make_adapter(tmp_path / "made", model))
    with ports.database.transaction() as session:
        adapters.move(session, blocked, AdapterState.BLOCKED, reason="kl_anchor fail")
    run("promote", blocked, "--reason", "I have read the answers")
    with ports.database.reading() as session:
        row = adapters.get(session, blocked)
    assert (row.state, row.reason) == ("accepted", "cli: I have read the answers")


def test_what_was_refused_or_not_judged_yet_can_not_be_promoted(ports: Ports, tmp_path: Path, model: Path) -> None:
    published = publish(ports, make_adapter(tmp_path / "made", model))
    with pytest.raises(IllegalTransition, match="is published and cannot be promoted"):
        run("promote", published, "--reason", "good")
    with ports.database.transaction() as session:
        adapters.move(session, published, AdapterState.REFUSED, reason="not finite")
    with pytest.raises(IllegalTransition, match="is refused and cannot be promoted"):
        run("promote", published, "--reason", "good")


def test_an_unknown_or_foreign_version_is_not_there(ports: Ports, version: str) -> None:
    with pytest.raises(NotFound, match="no version v9"):
        run("promote", "v9", "--reason", "good")
    with pytest.raises(NotFound):
        run("promote", version, "--reason", "good", "--tenant", "somebody")


def test_a_second_promotion_waits_for_the_first(ports: Ports, version: str, tmp_path: Path, model: Path) -> None:
    other = accept(ports, make_adapter(tmp_path / "other", model, seed=1))
    run("promote", version, "--reason", "good")
    with pytest.raises(Conflict, match="is requested: wait for it or abort it"):
        run("promote", other, "--reason", "better")


def test_rollback_goes_to_what_the_last_rollout_replaced(ports: Ports, version: str) -> None:
    roll_out(ports, version)
    found = run_json("rollback", "--reason", "complaints")
    assert (found["kind"], found["version"], found["from_version"]) == ("rollback", "base", version)


def test_rollback_goes_to_any_version_that_has_served(ports: Ports, version: str, tmp_path: Path, model: Path) -> None:
    second, third = (accept(ports, make_adapter(tmp_path / f"v{n}", model, seed=n)) for n in (1, 2))
    roll_out(ports, version)
    roll_out(ports, second)
    with pytest.raises(IllegalTransition, match="only what has served can be rolled back to"):
        run("rollback", "--to", third, "--reason", "complaints")
    assert run_json("rollback", "--to", version, "--reason", "complaints")["version"] == version
    assert adapter_state(ports, version) == "retired", "until the controller has flipped the table"


def test_rollback_supersedes_a_promotion_that_is_still_loading(ports: Ports, version: str) -> None:
    loading = run_json("promote", version, "--reason", "good")["rollout_id"]
    serve(ports, "v0")
    assert run_json("rollback", "--to", "base", "--reason", "complaints")["state"] == "draining"
    with ports.database.reading() as session:
        row = rollouts.get(session, loading)
    assert (row.state, row.error) == ("aborted", "superseded by a rollback to base")


def test_rollback_of_what_was_never_rolled_out_has_nowhere_to_go(ports: Ports) -> None:
    with pytest.raises(NotFound, match="there is nothing to go back to"):
        run("rollback", "--reason", "complaints")


@pytest.mark.parametrize(
    ("targets", "code"), [((R.LOADING, R.DRAINING, R.DONE), 0), ((R.FAILED,), 1)], ids=["done", "failed"]
)
def test_wait_ends_with_how_the_rollout_ended(
    ports: Ports, version: str, targets: tuple[RolloutState, ...], code: int
) -> None:
    def work() -> None:
        advance(ports, first_rollout(ports), *targets, error="holds NaN" if R.FAILED in targets else None)

    controller = threading.Thread(target=work)
    controller.start()
    result = run("promote", version, "--reason", "good", "--wait")
    controller.join()
    assert result.exit_code == code
    assert result.stdout == f"promote of {version} is " + ("done\n" if code == 0 else "failed: holds NaN\n")


def test_wait_for_a_controller_that_does_not_run_ends_undecided(
    ports: Ports, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUMBWHEEL_SERVING__DRAIN_TIMEOUT_S", "0.2")
    assert run("promote", version, "--reason", "good", "--wait").exit_code == 2


def first_rollout(ports: Ports) -> str:
    while True:
        with ports.database.reading() as session:
            if rows := rollouts.list_rollouts(session, "default"):
                return rows[0].rollout_id
        time.sleep(0.02)


def test_abort_ends_a_rollout_before_its_flip_only(ports: Ports, version: str) -> None:
    found = run_json("promote", version, "--reason", "good")
    assert run_json("rollout", "abort", found["rollout_id"], "--reason", "wrong one")["state"] == "aborted"
    again = run_json("promote", version, "--reason", "good")
    advance(ports, again["rollout_id"], R.LOADING, R.DRAINING)
    with pytest.raises(IllegalTransition):
        run("rollout", "abort", again["rollout_id"], "--reason", "too late")


def test_rollouts_are_listed_newest_first_with_why_they_failed(ports: Ports, version: str) -> None:
    first = run_json("promote", version, "--reason", "good")["rollout_id"]
    advance(ports, first, R.FAILED, error="holds NaN")
    second = run_json("promote", version, "--reason", "again")["rollout_id"]
    assert [row["rollout_id"] for row in run_json("rollout", "list")] == [second, first]
    assert "holds NaN" in run("rollout", "list").stdout
    assert run_json("rollout", "list", "--tenant", "somebody") == []


def test_status_tells_who_answers_and_where_it_is_verified(ports: Ports) -> None:
    route(ports, "v1")
    result = run("rollout", "status")
    assert result.exit_code == 0
    assert "v1" in result.stdout
    assert run_json("rollout", "status")["aliases"]["assistant"]["versions"][0]["version"] == "v1"


@pytest.mark.parametrize("table", [None, make_table(replicas=[make_replica(state=ReplicaState.DOWN, versions=[])])])
def test_status_is_undecided_while_nobody_can_answer(ports: Ports, table: Any) -> None:
    if table is not None:
        with ports.database.transaction() as session:
            lease = leases.acquire(session, "controller", "test", 10)
            assert lease is not None
            publish_routing(session, lease, table)
    result = run("rollout", "status")
    assert result.exit_code == 2
    assert "no replica may answer users yet" in result.stderr


def test_adapters_are_listed_and_shown_with_their_state_and_why(ports: Ports, version: str) -> None:
    with ports.database.transaction() as session:
        adapters.move(session, version, AdapterState.REFUSED, reason="tensor x holds values that are not finite")
    assert [(row["version"], row["state"]) for row in run_json("adapter", "list")] == [(version, "refused")]
    shown = run_json("adapter", "show", version)
    assert (shown["state"], shown["reason"]) == ("refused", "tensor x holds values that are not finite")
    assert "not finite" in run("adapter", "show", version).stdout


def test_check_reads_a_versions_files_as_before_a_load(ports: Ports, version: str, tmp_path: Path, model: Path) -> None:
    bad = publish(ports, make_bad_adapter("truncated", tmp_path / "bad", model))
    assert run("adapter", "check", version).stdout == f"{version} is valid\n"
    result = run("adapter", "check", bad)
    assert result.exit_code == 1
    assert "is refused: adapter_model.safetensors is truncated" in result.stdout
    assert run_json("adapter", "check", bad)["valid"] is False


def test_check_changes_nothing(ports: Ports, tmp_path: Path, model: Path) -> None:
    bad = publish(ports, make_bad_adapter("NaN", tmp_path / "bad", model))
    run("adapter", "check", bad)
    assert adapter_state(ports, bad) == "published"
    assert not (ports.home / "serving").exists()


def test_gates_of_a_version_without_a_report_are_computed_from_its_evidence(ports: Ports, version: str) -> None:
    found = run_json("gate", "check", version)
    verdicts = {gate["name"]: gate["verdict"] for gate in found["gates"]}
    assert verdicts.pop("validity") == "inconclusive", "no engine was asked"
    unset = {"regression", "canary", "safety", "perplexity", "judge_segments", "reward_segments"}
    assert {verdicts.pop(name) for name in unset} == {"inconclusive"}, "the cycle had no files, its votes no segments"
    assert set(verdicts.values()) == {"pass"}
    assert run("gate", "check", version).exit_code == 2


def test_gates_exit_with_the_stored_verdict(ports: Ports, version: str) -> None:
    stored = {"version": version, "champion": "base", "gates": [], "decided_at": "2026-11-01T00:00:00Z"}
    for verdict, code in (("pass", 0), ("fail", 1), ("inconclusive", 2)):
        with ports.database.transaction() as session:
            adapters.store_gates(session, GateReport.model_validate({**stored, "verdict": verdict}))
        result = run("gate", "check", version)
        assert result.exit_code == code
        assert f"against base: {verdict}" in result.stdout


def test_gates_of_a_bad_version_fail_without_an_engine(ports: Ports, tmp_path: Path, model: Path) -> None:
    made = make_bad_adapter("wrong-shaped", tmp_path / "bad", model)
    bad = publish(ports, made, make_evidence(made.version))
    assert run("gate", "check", bad).exit_code == 1
    assert "has shape" in run_json("gate", "check", bad)["gates"][0]["reason"]


def test_commands_need_a_product_that_was_started_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path))
    with pytest.raises(SchemaMismatch):
        run("adapter", "list")
