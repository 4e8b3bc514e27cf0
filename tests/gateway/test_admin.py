import json
from pathlib import Path
from typing import Any

import pytest

from infra.clock import now
from infra.contracts.manifests import GateReport, Verdict
from infra.registry import adapters, fleet, leases, rollouts
from infra.registry.adapters import AdapterState
from infra.registry.keys import Scope
from infra.registry.rollouts import RolloutState
from tests.support.manifests import make_adapter_manifest, make_dataset_manifest
from tests.support.scene import Scene, open_scene

REASON = {"reason": "because"}


def publish_adapter(scene: Scene, version: str, state: AdapterState, *, tenant: str = "default") -> None:
    manifest = make_adapter_manifest(version=version, alias="assistant", tenant=tenant)
    with scene.stack.ports.database.transaction() as session:
        adapters.register(session, manifest, f"adapters/{version}")
        if state is not AdapterState.PUBLISHED:
            adapters.move(session, version, state)


async def test_a_cycle_is_triggered_seen_and_cancelled_and_the_audit_says_by_whom(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        made = await scene.admin("POST", "/cycles:trigger", {"reason": "new votes", "settings": {"policy_steps": 3}})
        assert made.status_code == 201
        cycle = made.json()
        assert (cycle["state"], cycle["alias"], cycle["settings"]) == ("queued", "assistant", {"policy_steps": 3})
        assert (await scene.admin("GET", f"/cycles/{cycle['cycle_id']}")).json() == cycle
        assert [row["cycle_id"] for row in (await scene.admin("GET", "/cycles")).json()["data"]] == [cycle["cycle_id"]]
        again = await scene.admin("POST", "/cycles:trigger", {})
        assert (again.status_code, again.json()["error"]["type"]) == (409, "conflict_error")
        cancelled = await scene.admin("POST", f"/cycles/{cycle['cycle_id']}:cancel", REASON)
        assert cancelled.json()["state"] == "cancelled"
        assert (await scene.admin("POST", f"/cycles/{cycle['cycle_id']}:cancel", REASON)).status_code == 409
        audit = (await scene.admin("GET", f"/audit?subject={cycle['cycle_id']}")).json()["data"]
        assert [(row["action"], row["actor"]) for row in audit] == [
            ("cycle.cancel", "admin"),
            ("cycle.trigger", "admin"),
        ]
        assert (audit[0]["before"]["state"], audit[0]["after"]["state"]) == ("queued", "cancelled")


@pytest.mark.parametrize(
    "settings",
    [{"no_such": 1}, {"policy_steps": 0}, {"policy_steps": "3"}, {"lora_target_modules": "all"}, {"port": 1}],
)
async def test_a_cycle_with_a_bad_override_is_refused_by_its_name(tmp_path: Path, settings: dict[str, Any]) -> None:
    async with open_scene(tmp_path) as scene:
        refused = await scene.admin("POST", "/cycles:trigger", {"settings": settings})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, f"settings.{next(iter(settings))}")


async def test_a_cycles_settings_may_be_anything_that_json_calls_their_type(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        settings = {"lora_target_modules": ["o_proj", "down_proj"], "policy_steps": 20.0}
        made = await scene.admin("POST", "/cycles:trigger", {"settings": settings})
        assert (made.status_code, made.json()["settings"]) == (201, settings)


async def test_a_version_that_passed_its_gates_is_rolled_out_and_the_wish_recorded(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        publish_adapter(scene, "assistant-1-aaaaaaaa", AdapterState.ACCEPTED)
        started = await scene.admin("POST", "/rollouts:start", {"version": "assistant-1-aaaaaaaa", **REASON})
        assert (started.status_code, started.json()["state"], started.json()["from_version"]) == (
            201,
            "requested",
            "base",
        )
        rollout = started.json()["rollout_id"]
        assert (await scene.admin("GET", f"/rollouts/{rollout}")).json()["actor"] == "admin"
        second = await scene.admin("POST", "/rollouts:start", {"version": "assistant-1-aaaaaaaa", **REASON})
        assert second.status_code == 409
        aborted = await scene.admin("POST", f"/rollouts/{rollout}:abort", REASON)
        assert (aborted.json()["state"], aborted.json()["error"]) == ("aborted", "admin: because")
        assert (await scene.admin("POST", f"/rollouts/{rollout}:abort", REASON)).status_code == 409
        actions = [row["action"] for row in (await scene.admin("GET", "/audit")).json()["data"]]
        assert actions[:2] == ["rollout.abort", "rollout.promote"]


async def test_what_its_gates_blocked_starts_by_force_alone(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        publish_adapter(scene, "assistant-1-aaaaaaaa", AdapterState.BLOCKED)
        wish = {"version": "assistant-1-aaaaaaaa", **REASON}
        refused = await scene.admin("POST", "/rollouts:start", wish)
        assert refused.status_code == 409
        assert "with force" in refused.json()["error"]["message"]
        assert (await scene.admin("POST", "/rollouts:start", {**wish, "force": True})).status_code == 201


async def test_a_person_promotes_what_its_gates_blocked(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        publish_adapter(scene, "assistant-1-aaaaaaaa", AdapterState.BLOCKED)
        wish = {"version": "assistant-1-aaaaaaaa", **REASON}
        assert (await scene.admin("POST", "/rollouts:promote", {"version": "assistant-1-aaaaaaaa"})).status_code == 400
        assert (await scene.admin("POST", "/rollouts:promote", wish)).status_code == 201
        row = (await scene.admin("GET", "/adapters/assistant-1-aaaaaaaa")).json()
        assert (row["state"], row["reason"]) == ("accepted", "admin: because")


async def test_a_rollback_goes_to_what_was_replaced_or_to_what_is_named(tmp_path: Path) -> None:
    async with open_scene(tmp_path, table={"versions": {"assistant-2-bbbbbbbb": 1.0}}) as scene:
        publish_adapter(scene, "assistant-2-bbbbbbbb", AdapterState.ACCEPTED)
        with scene.stack.ports.database.transaction() as session:
            adapters.move(session, "assistant-2-bbbbbbbb", AdapterState.CHAMPION)
        nothing = await scene.admin("POST", "/rollouts:rollback", REASON)
        assert nothing.status_code == 404
        named = await scene.admin("POST", "/rollouts:rollback", {"version": "base", **REASON})
        assert (named.status_code, named.json()["kind"], named.json()["version"]) == (201, "rollback", "base")
        with scene.stack.ports.database.reading() as session:
            row = rollouts.get(session, named.json()["rollout_id"])
            assert (row.from_version, row.actor) == ("assistant-2-bbbbbbbb", "admin")


async def test_datasets_adapters_and_gate_reports_are_shown(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        publish_adapter(scene, "assistant-1-aaaaaaaa", AdapterState.PUBLISHED)
        assert (await scene.admin("GET", "/gates/assistant-1-aaaaaaaa")).status_code == 404
        report = GateReport(
            version="assistant-1-aaaaaaaa", champion="base", verdict=Verdict.INCONCLUSIVE, gates=[], decided_at=now()
        )
        with scene.stack.ports.database.transaction() as session:
            adapters.store_gates(session, report)
            adapters.register_dataset(session, make_dataset_manifest(dataset_id="d1", tenant="default"), "datasets/d1")
        assert (await scene.admin("GET", "/gates/assistant-1-aaaaaaaa")).json()["verdict"] == "inconclusive"
        assert len((await scene.admin("GET", "/gates")).json()["data"]) == 1
        assert (await scene.admin("GET", "/adapters?alias=other")).json()["data"] == []
        assert (await scene.admin("GET", "/datasets/d1")).json()["path"] == "datasets/d1"
        assert len((await scene.admin("GET", "/datasets?limit=1")).json()["data"]) == 1


async def test_a_tenant_sees_only_its_own(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        publish_adapter(scene, "assistant-1-aaaaaaaa", AdapterState.ACCEPTED, tenant="another")
        assert (await scene.admin("GET", "/adapters")).json()["data"] == []
        assert (await scene.admin("GET", "/adapters/assistant-1-aaaaaaaa")).status_code == 404
        wish = {"version": "assistant-1-aaaaaaaa", **REASON}
        assert (await scene.admin("POST", "/rollouts:promote", wish)).status_code == 404


async def test_keys_are_made_shown_once_and_revoked(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        made = await scene.admin("POST", "/keys", {"name": "app", "scopes": ["chat", "feedback"]})
        assert made.status_code == 201
        assert made.json()["key"].startswith("tw-")
        assert (await scene.admin("POST", "/keys", {"name": "app", "scopes": ["chat"]})).status_code == 409
        listed = await scene.admin("GET", "/keys")
        assert made.json()["key"] not in listed.text
        assert {row["name"] for row in listed.json()["data"]} == {"client", "admin", "app"}
        assert (await scene.admin("POST", "/keys/app:revoke")).status_code == 204
        assert (await scene.admin("POST", "/keys/app:revoke")).status_code == 404
        assert (await scene.admin("POST", "/keys", {"name": "app", "scopes": ["root"]})).status_code == 400


async def test_without_the_admin_scope_nothing_is_shown(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        nouns = ("cycles", "datasets", "adapters", "rollouts", "gates", "checks", "audit", "keys")
        scope = {"Authorization": f"Bearer {scene.stack.add_key(Scope.CHAT, Scope.FEEDBACK, Scope.RATERS)}"}
        for noun in nouns:
            assert (await scene.http.get(f"/admin/v1/{noun}", headers=scope)).status_code == 403
            assert (
                await scene.http.get(f"/admin/v1/{noun}", headers={"Authorization": "Bearer no"})
            ).status_code == 401
            assert (await scene.admin("GET", f"/{noun}")).status_code == 200


async def test_a_registry_that_cannot_be_read_is_503(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        with scene.stack.ports.database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE cycles RENAME TO lost")
        answer = await scene.admin("GET", "/cycles")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "registry_unavailable")


async def test_a_rollout_is_held_and_let_go_on_with_its_steps_in_sight(tmp_path: Path) -> None:
    steps = [{"share": 0.1}, {"share": 0.5}]
    async with open_scene(tmp_path, serving={"rollout_steps": json.dumps(steps)}) as scene:
        publish_adapter(scene, "assistant-1-aaaaaaaa", AdapterState.ACCEPTED)
        wish = {"version": "assistant-1-aaaaaaaa", **REASON}
        started = (await scene.admin("POST", "/rollouts:start", wish)).json()
        assert [step["share"] for step in started["steps"]] == [0.1, 0.5]
        path = f"/rollouts/{started['rollout_id']}"
        assert (await scene.admin("POST", f"{path}:pause", REASON)).status_code == 409, "it has no traffic yet"
        with scene.stack.ports.database.transaction() as session:
            lease = leases.acquire(session, "controller", "test", 60)
            assert lease
            rollouts.advance(session, lease, started["rollout_id"], RolloutState.LOADING)
            rollouts.advance(session, lease, started["rollout_id"], RolloutState.RUNNING, step=1)
        paused = await scene.admin("POST", f"{path}:pause", REASON)
        assert (paused.json()["state"], paused.json()["step"]) == ("paused", 1)
        assert (await scene.admin("POST", f"{path}:resume", REASON)).json()["state"] == "running"


async def test_what_was_rolled_back_is_taken_again_only_by_force(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        publish_adapter(scene, "assistant-1-aaaaaaaa", AdapterState.ACCEPTED)
        with scene.stack.ports.database.transaction() as session:
            adapters.move(session, "assistant-1-aaaaaaaa", AdapterState.ROLLED_BACK)
        wish = {"version": "assistant-1-aaaaaaaa", **REASON}
        refused = await scene.admin("POST", "/rollouts:start", wish)
        assert (refused.status_code, "force" in refused.json()["error"]["message"]) == (409, True)
        assert (await scene.admin("POST", "/rollouts:start", {**wish, "force": True})).status_code == 201


async def test_another_base_is_rolled_out_by_its_name_and_refused_where_no_replica_has_it(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        wish = {"version": "base-fedcba987654", **REASON}
        assert (await scene.admin("POST", "/rollouts:start", wish)).status_code == 404
        with scene.stack.ports.database.transaction() as session:
            lease = leases.acquire(session, "controller", "test", 60)
            assert lease
            table = fleet.routing_table(session)
            assert table
            fields = {"name": "n", "base_revision": "fedcba987654", "versions": ["base-fedcba987654"]}
            replicas = [*table.replicas, table.replicas[0].model_copy(update=fields)]
            moved = table.model_copy(update={"revision": table.revision + 1, "replicas": replicas})
            fleet.publish_routing(session, lease, moved)
        started = await scene.admin("POST", "/rollouts:start", wish)
        assert (started.status_code, started.json()["alias"]) == (201, "assistant")
        other = await scene.admin("POST", "/rollouts:start", {**wish, "alias": "helper"})
        assert (other.status_code, "helper is not served" in other.json()["error"]["message"]) == (409, True)
