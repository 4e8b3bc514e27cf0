"""Runs the gates for cycles that wait for them, and moves the adapter and its cycle on."""

import structlog
from sqlalchemy.orm import Session

from infra.artifacts import ArtifactStore, dump_json
from infra.clock import now
from infra.contracts.manifests import GateReport, Verdict
from infra.contracts.routing import BASE_VERSION
from infra.database.engine import Database
from infra.database.tables import AdapterRow, CycleRow
from infra.registry import adapters, audit, cycles, fleet, leases, rollouts, wishes
from infra.registry.adapters import AdapterState
from infra.registry.cycles import CycleState
from infra.registry.leases import Lease
from infra.registry.wishes import Wish
from infra.settings import ServingSettings
from serving.evidence import Shelf
from serving.gates.subject import Subject, files_named
from serving.metrics import Metrics
from serving.reconcile import verified_everywhere
from serving.report import OUTCOMES, make_report, summary
from serving.troubles import Trouble

ACTOR = "controller"

log = structlog.get_logger()


class Gating:
    """`differences`: version -> the smoke's, in nats."""

    def __init__(
        self,
        database: Database,
        artifacts: ArtifactStore,
        shelf: Shelf,
        settings: ServingSettings,
        differences: dict[str, float],
        metrics: Metrics,
    ) -> None:
        self._database, self._artifacts, self._shelf = database, artifacts, shelf
        self._settings, self._differences, self._metrics = settings, differences, metrics

    def decide_ready(self, lease: Lease, troubles: dict[str, Trouble]) -> int:
        """How many cycles were decided. One is ready once its version is verified on every engine, or was refused."""
        with self._database.reading() as session:
            ready = [row.cycle_id for row in _waiting(session) if _is_ready(session, row, troubles)]
        for cycle_id in ready:
            self._decide(lease, cycle_id, troubles)
        return len(ready)

    def report(self, session: Session, adapter: AdapterRow, trouble: Trouble | None) -> GateReport:
        """As of now; stores nothing."""
        table = fleet.routing_table(session)
        route = table.aliases.get(adapter.alias) if table else None
        subject = Subject(
            evidence=self._shelf.evidence(adapter.version),
            champion=route.champion if route else BASE_VERSION,
            settings=self._settings,
            refusal=trouble.reason if trouble else None,
            difference=self._differences.get(adapter.version),
            wanted=files_named(adapter.manifest.get("settings", {})),
        )
        return make_report(adapter.version, subject, now())

    def _decide(self, lease: Lease, cycle_id: str, troubles: dict[str, Trouble]) -> None:
        with self._database.transaction() as session:
            leases.fence(session, lease)
            cycle = cycles.get(session, cycle_id)
            if cycle.cancel_requested or cycle.version is None:
                reason = "cancelled" if cycle.version else "it came to its gates without a version"
                target = CycleState.CANCELLED if cycle.version else CycleState.FAILED
                cycles.advance(session, lease, cycle_id, target, reason=reason)
                return
            adapter = adapters.get(session, cycle.version)
            trouble = troubles.get(adapter.version)
            report = self.report(session, adapter, trouble)
            self._settle(session, lease, cycle, adapter, report, is_refused=bool(trouble and not trouble.loads))
        self._keep(cycle_id, report)

    def _settle(
        self,
        session: Session,
        lease: Lease,
        cycle: CycleRow,
        adapter: AdapterRow,
        report: GateReport,
        *,
        is_refused: bool,
    ) -> None:
        reason = summary(report)
        adapter_state, cycle_state = OUTCOMES[report.verdict]
        adapters.store_gates(session, report)
        adapters.move(session, adapter.version, AdapterState.REFUSED if is_refused else adapter_state, reason=reason)
        cycles.advance(session, lease, cycle.cycle_id, cycle_state, reason=reason)
        audit.record(
            session, tenant=adapter.tenant, actor=ACTOR, action=f"gates.{report.verdict}", subject=adapter.version,
            reason=reason, before={"champion": report.champion}, after={"adapter": adapter.state, "cycle": cycle.state},
        )  # fmt: skip
        if report.verdict is Verdict.PASS and self._settings.auto_promote:
            wishes.start(session, Wish(adapter.version, report.champion, ACTOR, reason), self._settings.rollout_steps)
        log.info("gates_decided", cycle=cycle.cycle_id, version=adapter.version, verdict=report.verdict, reason=reason)

    def _keep(self, cycle_id: str, report: GateReport) -> None:
        for result in report.gates:
            self._metrics.gates.labels(result.name, result.verdict).inc()
        path = f"reports/{cycle_id}/gates-{report.version}.json"
        self._artifacts.write(path, dump_json(report.model_dump(mode="json")))


def _waiting(session: Session) -> list[CycleRow]:
    return list(cycles.in_states(session, cycles.SERVING_STATES))


def _is_ready(session: Session, cycle: CycleRow, troubles: dict[str, Trouble]) -> bool:
    """Not while the champion it would be compared with is being replaced; behind one at its steps it queues."""
    if cycle.cancel_requested or cycle.version is None:
        return True
    running = rollouts.active(session, cycle.alias)
    if running is not None and running.state not in rollouts.ON_TRAFFIC:
        return False
    base_revision = adapters.manifest_of(adapters.get(session, cycle.version)).base_revision
    return cycle.version in troubles or verified_everywhere(cycle.version, fleet.replicas(session), base_revision)
