"""A trace as a person reads it: a tree, the question at its root."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from infra.console import Branch
from infra.contracts.traces import (
    EventTrace,
    ResponseTrace,
    TracedChoice,
    TracedDataset,
    TracedErasure,
    TracedEvent,
    TracedRollout,
    TracedSnapshot,
    TracedSources,
    TracedVersion,
)

ROWS_SHOWN = 5  # of one dataset; --json has more


def tree_of(trace: ResponseTrace | EventTrace) -> Branch:
    return _response(trace) if isinstance(trace, ResponseTrace) else _event(trace)


def _response(trace: ResponseTrace) -> Branch:
    revision = "" if trace.routing_revision is None else f", routing revision {trace.routing_revision}"
    facts = [
        Branch(f"{trace.status} {_when(trace.event.occurred_at)}, event {trace.event.event_id}, {trace.event.state}"),
        Branch(f"{trace.alias} on base {trace.base_revision}{revision}"),
    ]
    if trace.shadow_of:
        facts.append(Branch(f"nobody saw it: {trace.shadow_of} was shown"))
    if trace.rollout:
        facts.append(Branch(_rollout(trace.rollout)))
    facts += [Branch(_choice(choice)) for choice in trace.choices]
    votes = Branch(f"{_some(trace.votes_total, 'vote')}", [Branch(_line(vote)) for vote in trace.votes])
    return Branch(f"answer {trace.response_id}", [*facts, *(_version(one) for one in trace.versions), votes])


def _rollout(rollout: TracedRollout) -> str:
    at = "" if rollout.step is None else f" at step {rollout.step} ({rollout.title})"
    return (
        f"{rollout.kind} {rollout.rollout_id} of {rollout.version} against {rollout.from_version}{at}, {rollout.state}"
    )


def _choice(choice: TracedChoice) -> str:
    said = f"choice {choice.index} by {choice.version}: {choice.arm}, propensity {choice.arm_propensity:.6g}"
    return f"{said}, {choice.finish_reason or 'unfinished'}"


def _version(made: TracedVersion) -> Branch:
    head = f"version {made.version}: {made.state}, {made.method} from its {made.init}, {_when(made.created_at)}"
    parts = [Branch(f"gates: {made.verdict or 'not run'}", [Branch(f"{g.name}: {g.verdict}") for g in made.gates])]
    if made.cycle:
        parts.append(Branch(f"cycle {made.cycle.cycle_id}: {made.cycle.state}, started by {made.cycle.trigger}"))
    parts += [Branch(f"goes back to {one.version}: {one.state or 'not known here'}") for one in made.parents]
    if made.reward_model:
        parts.append(Branch(f"reward model {made.reward_model.name} of cycle {made.reward_model.cycle_id}"))
    parts += [Branch(_dataset(one)) for one in made.datasets]
    parts += [Branch(f"erasure {one} touched its datasets") for one in made.erasures]
    return Branch(head, [*parts, _sources(made.events)])


def _dataset(dataset: TracedDataset) -> str:
    rows = sum(count for splits in dataset.rows.values() for count in splits.values())
    erased = f", erased in part {_when(dataset.erased_at)}" if dataset.erased_at else ""
    return f"dataset {dataset.dataset_id or 'not known here'}: {rows} rows, sha256 {dataset.sha256[:12]}{erased}"


def _sources(sources: TracedSources) -> Branch:
    left = "" if sources.complete else " that are left: some had been erased when they were counted"
    return Branch(f"made of {_some(sources.count, 'event')}{left}", [Branch(_line(one)) for one in sources.page])


def _event(trace: EventTrace) -> Branch:
    consent = "consents to training" if trace.consent_train else "no consent to training"
    facts = [Branch(f"{consent}, stored {_when(trace.received_at)}")] if trace.received_at else []
    facts += [Branch(f"about {one}") for one in trace.response_ids]
    facts += [_snapshot(one) for one in trace.datasets]
    facts += [Branch(f"cycle {one.cycle_id}: {one.state}, took {one.dataset_id}") for one in trace.cycles]
    facts += [Branch(f"reward model {name}") for name in trace.reward_models]
    facts += [Branch(f"version {one.version}: {one.state}, of cycle {one.cycle_id}") for one in trace.versions]
    if trace.erasure:
        facts.append(_erasure(trace.erasure))
    elif not trace.datasets:
        facts.append(Branch("no dataset has rows of it"))
    return Branch(f"event {_line(trace.event)}", facts)


def _snapshot(found: TracedSnapshot) -> Branch:
    erased = ", erased in part" if found.erased_at else ""
    rows = [Branch(f"{row.table}/{row.split} {row.row_id}") for row in found.rows[:ROWS_SHOWN]]
    more = found.rows_total - len(rows)
    return Branch(f"dataset {found.dataset_id}: {_some(found.rows_total, 'row')}{erased}", [*rows, *_more(more)])


def _more(count: int) -> Iterator[Branch]:
    if count:
        yield Branch(f"and {count} more")


def _erasure(erasure: TracedErasure) -> Branch:
    """Of the whole person."""
    named: Sequence[tuple[str, list[str]]] = (
        ("dataset", erasure.datasets), ("reward model", erasure.reward_models), ("version", erasure.versions),
    )  # fmt: skip
    parts = [Branch(f"{what} {name}") for what, names in named for name in names]
    return Branch(f"erasure {erasure.erasure_id}: {erasure.state}; this person's events had reached", parts)


def _line(event: TracedEvent) -> str:
    retracted = ", retracted" if event.retracted else ""
    source = f" by {event.source}" if event.source else ""
    return f"{event.event_id} {event.kind or 'of a kind not known'}{source}: {event.state}{retracted}{_at(event)}"


def _at(event: TracedEvent) -> str:
    return f", {_when(event.occurred_at)}" if event.occurred_at else ""


def _when(moment: datetime | None) -> str:
    return moment.isoformat(sep=" ", timespec="seconds") if moment else "at a time not known"


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
