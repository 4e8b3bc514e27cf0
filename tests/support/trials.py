"""Rollouts on traffic, answers under their arms, and what feedback counts of them."""

import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from feedback.tallying.reading import Reader
from feedback.tallying.tallier import Tallier
from infra.contracts.events import Choice
from infra.contracts.rollouts import Step, StepKind
from infra.database.tables import RolloutRow
from infra.registry import tallies
from infra.registry.tallies import Tally
from tests.support.events import TENANT, make_choice, make_feedback, make_inference, moment
from tests.support.feedback import ALIAS, Event, Room

ROLLOUT = "rollout-1"
SHADOW, CANARY, HALF = 0, 1, 2  # its steps
SHARE = 0.1
STEPS = (
    Step(kind=StepKind.SHADOW, share=0.2),
    Step(share=SHARE, pairs=0.5),
    Step(share=0.5, pairs=0.5),
)
VERSIONS = {"champion": "assistant-1-aaaaaaaa", "challenger": "assistant-2-bbbbbbbb"}
Key = tuple[str, int, str]  # unit, step, arm


def put_rollout(room: Room, **overrides: Any) -> None:
    fields: dict[str, Any] = {
        "rollout_id": ROLLOUT, "tenant": TENANT, "alias": ALIAS, "kind": "promote", "version": VERSIONS["challenger"],
        "from_version": VERSIONS["champion"], "state": "running", "actor": "test", "reason": "a test",
        "requested_at": moment(-60), "steps": [step.model_dump(mode="json") for step in STEPS],
    }  # fmt: skip
    with room.database.transaction() as session:
        session.merge(RolloutRow(**{**fields, **overrides}))


def end_rollout(room: Room, at: datetime) -> None:
    with room.database.transaction() as session:
        row = session.get_one(RolloutRow, ROLLOUT)
        row.state, row.finished_at = "done", at


def arm_choice(arm: str, text: str = "Return the cosine of x.", **overrides: Any) -> Choice:
    propensity = SHARE if arm == "challenger" else 1 - SHARE
    version = VERSIONS["champion" if arm == "champion" else "challenger"]
    return make_choice(text, **{"arm": arm, "arm_propensity": propensity, "version": version, **overrides})


def answered(
    response_id: str, arms: str | Sequence[str] = "champion", *, step: int | None = CANARY, at: float = 0,
    body: dict[str, Any] | None = None, **header: Any,
) -> Event:  # fmt: skip
    """An answer of the rollout: under one arm, or with a choice of each of several."""
    named = [arms] if isinstance(arms, str) else arms
    fields: dict[str, Any] = {
        "rollout_id": ROLLOUT, "rollout_step": step,
        "choices": [arm_choice(arm, index=index) for index, arm in enumerate(named)], **(body or {}),
    }  # fmt: skip
    chat = make_inference(response_id, **fields)
    return Event(chat, f"answer {response_id}", {"occurred_at": moment(at), **header})


def thumb(response_id: str, up: bool | None = True, *, at: float = 10, name: str = "", **header: Any) -> Event:
    """By rater-1, unless told otherwise; None takes it back."""
    body = make_feedback(response_id, value=up)
    return Event(body, name or f"thumb {response_id} {at} {header}", {"occurred_at": moment(at), **header})


def make_tallier(room: Room, **overrides: Any) -> Tallier:
    fields: dict[str, Any] = {
        "database": room.database, "reader": Reader(room.database, room.sealer), "artifacts": room.artifacts,
        "lease_ttl_s": 10.0, "stop": threading.Event(),
    }  # fmt: skip
    return Tallier(**{**fields, **overrides})


def happen(room: Room, *events: Event) -> None:
    room.append(events)
    room.consume()


def counted(room: Room) -> dict[Key, Tally]:
    """What the registry has now."""
    with room.database.reading() as session:
        found = tallies.of_rollout(session, TENANT, ROLLOUT)
    return {(tally.unit, tally.step, tally.arm.value): tally for tally in found}


def told(room: Room, *events: Event) -> dict[Key, Tally]:
    """What a process that has just started makes of everything, these events included."""
    happen(room, *events)
    make_tallier(room, holder="one", lease_ttl_s=0.001).turn()
    return counted(room)
