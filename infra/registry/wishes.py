"""What people, and the gates, ask of rollouts. What can be done without a load is done at once: the routing table moves
in the same transaction, so that going back waits for no controller."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session
from uuid6 import uuid7

from infra.clock import now
from infra.contracts.rollouts import Step
from infra.contracts.routing import BASE_VERSION, ReplicaState, base_version, is_base
from infra.database.tables import RolloutRow
from infra.registry import adapters, audit, cycles, fleet, news, rollouts
from infra.registry.adapters import AdapterState
from infra.registry.cycles import CycleState
from infra.registry.errors import Conflict, IllegalTransition, NotFound
from infra.registry.rollouts import ON_TRAFFIC, RolloutState

R = RolloutState
DEFAULT_TENANT = "default"
OFFERED = frozenset({AdapterState.ACCEPTED, AdapterState.RETIRED})
OVERRULED = frozenset({AdapterState.BLOCKED, AdapterState.AWAITING_PERSON})  # what a person's yes accepts


@dataclass(frozen=True, slots=True)
class Wish:
    """A version for an alias, in place of `champion`: who asks, and why.

    `force` takes one that was rolled back, and one that its gates blocked into a rollout in steps. An adapter knows its
    tenant and its alias; a base is told both.
    """

    version: str
    champion: str
    actor: str
    reason: str
    tenant: str | None = None
    force: bool = False
    alias: str = ""


def alias_of(session: Session, version: str, tenant: str | None, default: str) -> str:
    """An adapter's own; a base is for any, so the `default`. Raises NotFound."""
    return default if is_base(version) else adapters.get(session, version, tenant).alias


def start(session: Session, wish: Wish, steps: Sequence[Step]) -> RolloutRow:
    """Asks for a version to earn its traffic step by step; it queues behind a rollout of the alias that is under way.

    What its gates left undecided is accepted by this. Raises NotFound, Conflict (it is the champion, or in a rollout
    already) or IllegalTransition (its gates, or users, have said no, and nobody forces it).
    """
    undecided = OVERRULED if wish.force else OVERRULED - {AdapterState.BLOCKED}
    tenant, alias = _accept(session, wish, undecided)
    state = R.QUEUED if rollouts.active(session, alias) else R.REQUESTED
    return _request(session, _row("promote", tenant, alias, wish, state, steps))


def promote(session: Session, wish: Wish) -> RolloutRow:
    """Asks for a version as champion, past all steps; a person's yes also accepts what was blocked or waited.

    Raises NotFound, Conflict (another rollout of the alias is under way) or IllegalTransition.
    """
    tenant, alias = _accept(session, wish, OVERRULED)
    running = rollouts.active(session, alias)
    if running and running.version == wish.version and running.state in ON_TRAFFIC:
        return _finish(session, running, wish)
    if running:
        raise Conflict(f"rollout {running.rollout_id} of {alias} is {running.state}: wait for it or abort it")
    return _request(session, _row("promote", tenant, alias, wish))


def rollback(session: Session, wish: Wish, *, tenant: str, alias: str) -> RolloutRow:
    """Asks for an earlier version, or `base`; what is under way gives way to it.

    Where every replica has it, the table has moved when this returns. Raises NotFound, Conflict or IllegalTransition.
    """
    _check_served(session, wish.version)
    if not is_base(wish.version):
        state = AdapterState(adapters.get(session, wish.version, tenant).state)
        if state not in (AdapterState.RETIRED, AdapterState.ROLLED_BACK):
            raise IllegalTransition(f"version {wish.version} is {state}: only what has served can be rolled back to")
        _check_offered(wish, state, frozenset({AdapterState.RETIRED}))
    if running := rollouts.active(session, alias):
        _give_way(session, running, wish)
    row = _request(session, _row("rollback", tenant, alias, wish))
    if _is_everywhere(session, wish.version):
        _flip_now(session, row)
    return row


def abort(session: Session, rollout_id: str, *, tenant: str, actor: str, reason: str) -> RolloutRow:
    """Ends a rollout that has not flipped yet, and takes its traffic away at once; raises NotFound, or
    IllegalTransition once it has flipped."""
    row = rollouts.get(session, rollout_id, tenant)
    _withdraw(session, row, actor, f"{actor}: {reason}")
    return row


def pause(session: Session, rollout_id: str, *, tenant: str, actor: str, reason: str) -> RolloutRow:
    """It keeps its traffic and goes no further by itself; raises NotFound or IllegalTransition."""
    return _steer(session, rollout_id, R.PAUSED, tenant=tenant, actor=actor, reason=reason)


def resume(session: Session, rollout_id: str, *, tenant: str, actor: str, reason: str) -> RolloutRow:
    """The step begins anew, with what was seen in it; raises NotFound or IllegalTransition."""
    row = _steer(session, rollout_id, R.RUNNING, tenant=tenant, actor=actor, reason=reason)
    row.step_began_at = now()
    return row


def _accept(session: Session, wish: Wish, overruled: Set[AdapterState]) -> tuple[str, str]:
    """The tenant and the alias of what may be rolled out. A person's yes accepts it, and decides the cycle that waited
    for one."""
    _check_served(session, wish.version)
    if is_base(wish.version):
        return _accept_base(session, wish)
    adapter = adapters.get(session, wish.version, wish.tenant)
    state, reason = AdapterState(adapter.state), f"{wish.actor}: {wish.reason}"
    _check_offered(wish, state, OFFERED | overruled)
    if state in overruled:
        adapters.move(session, wish.version, AdapterState.ACCEPTED, reason=reason)
    if state is AdapterState.AWAITING_PERSON and adapter.cycle_id:
        cycles.decide(session, adapter.cycle_id, CycleState.ACCEPTED, reason=reason)
    return adapter.tenant, adapter.alias


def _accept_base(session: Session, wish: Wish) -> tuple[str, str]:
    table = fleet.routing_table(session)
    if table is None or wish.alias not in table.aliases:
        raise NotFound(f"{wish.alias} is not served")
    _check_not_taken_back(session, wish)
    return wish.tenant or DEFAULT_TENANT, wish.alias


def _check_served(session: Session, version: str) -> None:
    """A base that is named must be some replica's."""
    table = fleet.routing_table(session)
    known = sorted({replica.base_revision for replica in table.replicas if replica.base_revision}) if table else []
    if is_base(version) and version not in (BASE_VERSION, *map(base_version, known)):
        raise NotFound(f"no replica has {version}; there are {', '.join(map(base_version, known)) or 'none'}")


def _check_not_taken_back(session: Session, wish: Wish) -> None:
    """A base has no row that could be marked: its rollouts say how it went."""
    if wish.force or (last := rollouts.taken_back(session, wish.alias, wish.version)) is None:
        return
    raise IllegalTransition(
        f"{wish.version} was taken back ({last.error or last.reason}): it is offered again only with force"
    )


def _check_offered(wish: Wish, state: AdapterState, offered: frozenset[AdapterState]) -> None:
    if state is AdapterState.ROLLED_BACK and not wish.force:
        raise IllegalTransition(f"version {wish.version} was rolled back: it is offered again only with force")
    if state not in offered | {AdapterState.ROLLED_BACK}:
        hint = ": with force it may earn its traffic all the same" if state is AdapterState.BLOCKED else ""
        raise IllegalTransition(f"version {wish.version} is {state} and cannot be promoted{hint}")


def _row(
    kind: str, tenant: str, alias: str, wish: Wish, state: RolloutState = R.REQUESTED, steps: Sequence[Step] = ()
) -> RolloutRow:
    row = RolloutRow(rollout_id=uuid7().hex, tenant=tenant, alias=alias, kind=kind, version=wish.version, step=0)
    row.from_version, row.actor, row.reason, row.state = wish.champion, wish.actor, wish.reason, state
    row.requested_at, row.steps = now(), [step.model_dump(mode="json") for step in steps]
    return row


def _request(session: Session, row: RolloutRow) -> RolloutRow:
    if row.version == row.from_version:
        raise Conflict(f"{row.version} is the champion of {row.alias} already")
    if any(other.alias == row.alias and other.version == row.version for other in rollouts.unfinished(session)):
        raise Conflict(f"{row.version} is being rolled out already")
    session.add(row)
    news.add(session, row)
    audit.record(
        session, tenant=row.tenant, actor=row.actor, action=f"rollout.{row.kind}", subject=row.version,
        reason=row.reason, before={"champion": row.from_version},
        after={"champion": row.version, "rollout_id": row.rollout_id},
    )  # fmt: skip
    session.flush()
    return row


def _finish(session: Session, row: RolloutRow, wish: Wish) -> RolloutRow:
    """The rest of its steps is left out: the controller flips it once every replica has it."""
    before = rollouts.standing(row)
    row.step = len(row.steps)
    rollouts.move(session, row, R.LOADING)
    _note(session, row, "rollout.promote", wish.actor, wish.reason, before)
    return row


def _steer(
    session: Session, rollout_id: str, target: RolloutState, *, tenant: str, actor: str, reason: str
) -> RolloutRow:
    row = rollouts.get(session, rollout_id, tenant)
    before = rollouts.standing(row)
    if row.state == target:
        raise IllegalTransition(f"rollout {rollout_id} is {target} already")
    rollouts.move(session, row, target)
    _note(session, row, "rollout.pause" if target is R.PAUSED else "rollout.resume", actor, reason, before)
    return row


def _note(session: Session, row: RolloutRow, action: str, actor: str, reason: str, before: dict[str, Any]) -> None:
    after = {"state": row.state, "step": row.step, "rollout_id": row.rollout_id}
    audit.record(
        session, tenant=row.tenant, actor=actor, action=action, subject=row.version, reason=reason,
        before=before, after=after,
    )  # fmt: skip


def _give_way(session: Session, row: RolloutRow, wish: Wish) -> None:
    if row.state == R.DRAINING:
        rollouts.move(session, row, R.DONE)
    else:
        _withdraw(session, row, wish.actor, f"superseded by a rollback to {wish.version}")


def _withdraw(session: Session, row: RolloutRow, actor: str, why: str) -> None:
    before = rollouts.standing(row)
    rollouts.move(session, row, R.ABORTED, why)
    fleet.reroute(session, row.alias, lambda route: route.without(row.rollout_id))
    rollouts.take_back(session, row, actor=actor, reason=why, before=before)


def _is_everywhere(session: Session, version: str) -> bool:
    """Verified on each replica of its base that may answer now, and there is one."""
    table = fleet.routing_table(session)
    ready = [replica for replica in table.replicas if replica.state is ReplicaState.READY] if table else []
    on = next((replica.base_revision for replica in ready if replica.has(version)), None)
    return on is not None and all(replica.has(version) for replica in ready if replica.base_revision == on)


def _flip_now(session: Session, row: RolloutRow) -> None:
    before = fleet.routing_table(session)
    assert before is not None, "a version that is everywhere is in a table"
    route, on = before.aliases[row.alias], before.base_of(row.version)
    row.from_version = route.seen_from(row.from_version, on or route.base_revision)
    for state in (R.LOADING, R.DRAINING):
        rollouts.move(session, row, state)
    table = fleet.reroute(session, row.alias, lambda route: route.flipped(row.version, row.rollout_id, on))
    assert table is not None, "another champion is another table"
    rollouts.flip(session, row, revision=table.revision, actor=row.actor)
