"""What runs now: the routing table, the replicas it names, and the gateways that apply it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from infra.clock import now
from infra.contracts.routing import AliasRoute, Replica, RoutingTable
from infra.database.tables import GatewayRow, PairCountRow, ReplicaRow, RoutingRow
from infra.registry import audit, leases
from infra.registry.errors import Conflict, NotFound
from infra.registry.leases import Lease

SLOT = 1


def routing_revision(session: Session) -> int:
    """0 before the first table: one cheap read, for pollers."""
    return session.scalar(select(RoutingRow.revision).where(RoutingRow.slot == SLOT)) or 0


def routing_table(session: Session) -> RoutingTable | None:
    row = session.get(RoutingRow, SLOT)
    return RoutingTable.model_validate(row.table) if row else None


def publish_routing(session: Session, lease: Lease, table: RoutingTable) -> None:
    """Compare-and-set: the table's revision must be the stored one plus one; raises LeaseLost or Conflict."""
    leases.fence(session, lease)
    row = session.get(RoutingRow, SLOT, with_for_update=True)
    if table.revision != (row.revision if row else 0) + 1:
        raise Conflict(f"routing revision {table.revision} does not follow {row.revision if row else 0}")
    if row is None:
        row = RoutingRow(slot=SLOT)
        session.add(row)
    row.revision, row.table, row.issued_at = table.revision, table.model_dump(mode="json"), table.issued_at


def reroute(session: Session, alias: str, change: Callable[[AliasRoute], AliasRoute]) -> RoutingTable | None:
    """Publishes a route as `change` makes it, without the controller: for what must happen at once and needs no load.

    None where there is nothing to change. A controller that planned from the table before meets a Conflict.
    """
    row = session.get(RoutingRow, SLOT, with_for_update=True)
    table = RoutingTable.model_validate(row.table) if row else None
    if row is None or table is None or alias not in table.aliases:
        return None
    route = table.aliases[alias]
    if (changed := change(route)) == route:
        return None
    fields = {"revision": table.revision + 1, "issued_at": now(), "aliases": {**table.aliases, alias: changed}}
    table = table.model_copy(update=fields)
    row.revision, row.table, row.issued_at = table.revision, table.model_dump(mode="json"), table.issued_at
    return table


def report_gateway(session: Session, gateway_id: str, address: str, revision: int, in_flight: dict[str, int]) -> None:
    row = session.get(GatewayRow, gateway_id)
    if row is None:
        row = GatewayRow(gateway_id=gateway_id)
        session.add(row)
    row.address, row.applied_revision, row.in_flight, row.heartbeat_at = address, revision, dict(in_flight), now()


def forget_gateway(session: Session, gateway_id: str) -> None:
    session.execute(delete(GatewayRow).where(GatewayRow.gateway_id == gateway_id))


def live_gateways(session: Session, ttl_s: float) -> Sequence[GatewayRow]:
    return session.scalars(select(GatewayRow).where(GatewayRow.heartbeat_at > now() - timedelta(seconds=ttl_s))).all()


def report_replica(session: Session, replica: Replica) -> None:
    row = session.get(ReplicaRow, replica.name)
    if row is None:
        row = ReplicaRow(name=replica.name)
        session.add(row)
    for name, value in replica.model_dump(mode="json").items():
        setattr(row, name, value)
    row.updated_at = now()


def register_replica(session: Session, replica: Replica) -> None:
    """One that starts. An operator's wish to drain it outlives its process."""
    row = session.get(ReplicaRow, replica.name)
    report_replica(session, replica.model_copy(update={"drain": row is not None and row.drain}))


def enrol_replicas(session: Session, lease: Lease, found: Iterable[Replica]) -> None:
    """Makes the discovered ones exactly these: new rows for new addresses, none for those that are gone.

    Answers under way on one that is gone go on: only the next table names it no more. Raises LeaseLost.
    """
    leases.fence(session, lease)
    wanted = {replica.name: replica for replica in found}
    known = {replica.name for replica in replicas(session) if replica.discovered}
    for name in wanted.keys() - known:
        report_replica(session, wanted[name])
    session.execute(delete(ReplicaRow).where(ReplicaRow.name.in_(known - wanted.keys())))


def set_drain(session: Session, name: str, *, drain: bool, actor: str, reason: str, tenant: str) -> ReplicaRow:
    """An operator's wish; the controller meets it with the next table. Raises NotFound."""
    row = session.get(ReplicaRow, name)
    if row is None:
        raise NotFound(f"there is no replica {name}")
    before, row.drain = {"drain": row.drain}, drain
    action = "replica.drain" if drain else "replica.undrain"
    audit.record(
        session, tenant=tenant, actor=actor, action=action, subject=name, reason=reason,
        before=before, after={"drain": drain},
    )  # fmt: skip
    return row


def replicas(session: Session) -> list[Replica]:
    rows = session.scalars(select(ReplicaRow).order_by(ReplicaRow.name)).all()
    return [Replica.model_validate(row, from_attributes=True) for row in rows]


@dataclass(frozen=True, slots=True)
class Counts:
    """What feedback has joined of one alias: preference pairs, and thumbs on one answer or one conversation."""

    pairs: int = 0
    thumbs: int = 0


def counts(session: Session, tenant: str, alias: str) -> Counts:
    row = session.get(PairCountRow, (tenant, alias))
    return Counts(row.pairs, row.thumbs) if row else Counts()


def all_counts(session: Session) -> list[tuple[str, str, Counts]]:
    """(tenant, alias, counts) of every alias that has any."""
    rows = session.scalars(select(PairCountRow).order_by(PairCountRow.tenant, PairCountRow.alias)).all()
    return [(row.tenant, row.alias, Counts(row.pairs, row.thumbs)) for row in rows]


def set_counts(session: Session, tenant: str, alias: str, *, pairs: int = 0, thumbs: int = 0) -> None:
    row = session.get(PairCountRow, (tenant, alias))
    if row is None:
        row = PairCountRow(tenant=tenant, alias=alias)
        session.add(row)
    row.pairs, row.thumbs, row.updated_at = pairs, thumbs, now()


def add_counts(session: Session, tenant: str, alias: str, *, pairs: int = 0, thumbs: int = 0) -> None:
    """What a batch of events did to the counts, added in the database so that no other batch's is lost."""
    row = PairCountRow
    if session.get(row, (tenant, alias)) is None:
        set_counts(session, tenant, alias)
        session.flush()
    session.execute(
        update(row)
        .where(row.tenant == tenant, row.alias == alias)
        .values(pairs=row.pairs + pairs, thumbs=row.thumbs + thumbs, updated_at=now()),
        execution_options={"synchronize_session": "fetch"},
    )
