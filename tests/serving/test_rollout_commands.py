"""`thumbwheel rollout ...` as a person types it: started, watched, steered through its steps."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from infra.clock import now
from infra.contracts.manifests import Interval, Verdict
from infra.contracts.rollouts import Finding, Look, Step, StepKind
from infra.ports import Ports
from infra.registry import adapters, fleet, leases, rollouts
from infra.registry.adapters import AdapterState
from infra.registry.errors import IllegalTransition, NotFound
from infra.registry.rollouts import RolloutState
from serving.commands import register
from tests.support.home import make_ports
from tests.support.manifests import make_adapter_manifest
from tests.support.routing import make_replica, make_route, make_table

R = RolloutState
V1, V2 = "assistant-1-aaaaaaaa", "assistant-2-bbbbbbbb"
STEPS = (Step(kind=StepKind.SHADOW, share=0.1), Step(share=0.25, min_votes=100))
WHY = ("--reason", "because")


@pytest.fixture
def ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ports]:
    """V1 answers everybody, V2 passed its gates."""
    steps = json.dumps([step.model_dump(mode="json") for step in STEPS])
    made = make_ports(tmp_path / "home", THUMBWHEEL_SERVING__ROLLOUT_STEPS=steps)
    monkeypatch.setenv("THUMBWHEEL_HOME", str(made.home))
    monkeypatch.setenv("THUMBWHEEL_SERVING__ROLLOUT_STEPS", steps)
    with made.database.transaction() as session:
        for version in (V1, V2):
            adapters.register(session, make_adapter_manifest(version=version, cycle_id=None), f"adapters/{version}")
            adapters.move(session, version, AdapterState.ACCEPTED)
        adapters.move(session, V1, AdapterState.CHAMPION)
    publish(made, 1)
    yield made
    made.close()


def publish(ports: Ports, revision: int, rollout_id: str = "", step: int = 0) -> None:
    route = make_route(V1).stepped(V2, rollout_id, step, STEPS[step]) if rollout_id else make_route(V1)
    with ports.database.transaction() as session:
        lease = leases.acquire(session, "controller", "test", 10)
        assert lease
        replicas = [make_replica(versions=["base", V1, V2])]
        fleet.publish_routing(session, lease, make_table(revision, aliases={"assistant": route}, replicas=replicas))


def begin(ports: Ports, step: int = 1) -> str:
    """What the controller would do of a wish: V2 is at a step, and was looked at."""
    rollout_id: str = run_json("rollout", "start", V2, *WHY)["rollout_id"]
    with ports.database.transaction() as session:
        lease = leases.acquire(session, "controller", "test", 10)
        assert lease
        rollouts.advance(session, lease, rollout_id, R.LOADING)
        rollouts.advance(session, lease, rollout_id, R.RUNNING, step=step)
        rollouts.store_look(session, lease, rollout_id, make_look(step))
    publish(ports, 2, rollout_id, step)
    return rollout_id


def make_look(step: int) -> Look:
    interval = Interval(value=0.02, lo=-0.04, hi=0.08, n=300)
    found = Finding(name="vote_rate", verdict=Verdict.INCONCLUSIVE, interval=interval, threshold=-0.05, reason="wide")
    return Look(at=now(), step=step, votes=41, answers=73, findings=[found], reason="vote_rate: wide")


def run(*words: str) -> Result:
    """Errors that the root command turns into one line are raised here."""
    root = typer.Typer()
    register(root)
    return CliRunner().invoke(root, list(words), catch_exceptions=False)


def run_json(*words: str) -> Any:
    return json.loads(run(*words, "--json").stdout)


def challenger(ports: Ports) -> str | None:
    with ports.database.reading() as session:
        table = fleet.routing_table(session)
    assert table
    return table.aliases["assistant"].challenger


def test_start_asks_for_the_steps_of_the_settings(ports: Ports) -> None:
    started = run_json("rollout", "start", V2, *WHY)
    assert (started["state"], started["version"], started["from_version"]) == ("requested", V2, V1)
    assert [Step.model_validate(step) for step in started["steps"]] == list(STEPS)


def test_start_refuses_what_its_gates_have_not_passed(ports: Ports) -> None:
    with ports.database.transaction() as session:
        adapters.register(session, make_adapter_manifest(version="assistant-3-cccccccc"), "adapters/3")
    with pytest.raises(IllegalTransition, match="published"):
        run("rollout", "start", "assistant-3-cccccccc", *WHY)


def test_status_shows_the_step_its_traffic_and_what_each_monitor_has_seen(ports: Ports) -> None:
    begin(ports)
    shown = run("rollout", "status").stdout
    for words in ("challenger", "0.25", "step 2/2 canary 25%", "41 votes on 73 answers", "0.02 [-0.04, 0.08]", "-0.05"):
        assert words in shown, words


def test_status_shows_whom_a_shadow_is_mirrored_to(ports: Ports) -> None:
    begin(ports, step=0)
    shown = run("rollout", "status").stdout
    assert "shadow" in shown
    assert "step 1/2 shadow 10%" in shown


def test_status_as_json_has_the_table_and_the_rollouts(ports: Ports) -> None:
    rollout_id = begin(ports)
    told = run_json("rollout", "status")
    assert [entry["weight"] for entry in told["aliases"]["assistant"]["versions"]] == [0.75, 0.25]
    [row] = told["rollouts"]
    assert (row["rollout_id"], row["state"], row["step"], row["look"]["votes"]) == (rollout_id, "running", 1, 41)


def test_following_ends_with_the_last_rollout(ports: Ports) -> None:
    assert run("rollout", "status", "--follow").exit_code == 0


def test_the_one_under_way_is_steered_without_its_name(ports: Ports) -> None:
    rollout_id = begin(ports)
    assert run("rollout", "pause", *WHY).stdout == f"promote of {V2} is paused\n"
    assert run("rollout", "resume", *WHY).stdout == f"promote of {V2} is running\n"
    skipped = run_json("rollout", "promote", *WHY)
    assert (skipped["rollout_id"], skipped["state"], skipped["step"]) == (rollout_id, "loading", len(STEPS))


def test_an_abort_is_in_the_table_when_the_command_returns(ports: Ports) -> None:
    begin(ports)
    assert challenger(ports) == V2
    told = run("rollout", "abort", *WHY)
    assert (told.exit_code, told.stdout) == (0, f"promote of {V2} is aborted: cli: because\n")
    assert challenger(ports) is None


def test_what_was_taken_back_starts_again_only_by_force(ports: Ports) -> None:
    begin(ports)
    run("rollout", "abort", *WHY)
    with pytest.raises(IllegalTransition, match="force"):
        run("rollout", "start", V2, *WHY)
    assert run_json("rollout", "start", V2, "--force", *WHY)["state"] == "requested"


@pytest.mark.parametrize("word", ["pause", "resume", "abort", "promote"])
def test_with_nothing_under_way_there_is_nothing_to_steer(ports: Ports, word: str) -> None:
    with pytest.raises(NotFound, match="no rollout of assistant is under way"):
        run("rollout", word, *WHY)


def test_the_list_says_at_which_step_each_is(ports: Ports) -> None:
    begin(ports)
    assert "2/2 canary 25%" in run("rollout", "list").stdout


def test_the_next_base_is_started_by_its_name_for_the_gateways_alias_or_another(ports: Ports) -> None:
    with ports.database.transaction() as session:
        lease = leases.acquire(session, "controller", "test", 10)
        assert lease
        following = make_replica(name="n", base_revision="fedcba987654", versions=["base-fedcba987654"])
        aliases = {alias: make_route(V1, alias=alias) for alias in ("assistant", "helper")}
        replicas = [make_replica(versions=["base", V1]), following]
        fleet.publish_routing(session, lease, make_table(2, aliases=aliases, replicas=replicas))
    for alias, words in (("assistant", ()), ("helper", ("--alias", "helper"))):
        started = run_json("rollout", "start", "base-fedcba987654", *words, *WHY)
        assert (started["alias"], started["from_version"]) == (alias, V1)
    [first, _] = run_json("rollout", "status")["rollouts"]
    assert first["warning"] is None, "half of the replicas bear a tenth of the traffic"
