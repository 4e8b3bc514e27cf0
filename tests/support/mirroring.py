"""Answers that were shown, their mirrored ones, and judges that read both."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from feedback.shadows.judge import ShadowJudge
from feedback.shadows.waiting import Waiting
from feedback.tables import ShadowVerdictRow
from infra.artifacts import ArtifactStore
from infra.contracts.manifests import RewardManifest
from infra.database.engine import Database
from infra.registry import adapters
from tests.support.events import TENANT, moment
from tests.support.feedback import ALIAS, Event, Room
from tests.support.manifests import make_adapter_manifest
from tests.support.trials import SHADOW, VERSIONS, answered, arm_choice, happen

JUDGE = f"{ALIAS}-2-judge-cccccccc"
BEFORE = moment(-3600)  # the rollout


def shown(name: str, *texts: str, body: dict[str, Any] | None = None, **header: Any) -> Event:
    choices = [arm_choice("champion", text, index=index) for index, text in enumerate(texts or ("Short.",))]
    return answered(name, step=SHADOW, body={"choices": choices, **(body or {})}, **header)


def mirrored(name: str, *texts: str, body: dict[str, Any] | None = None, **header: Any) -> Event:
    """What the version on trial would have said in the place of `name`."""
    choices = [arm_choice("shadow", text, index=index) for index, text in enumerate(texts or ("Rather longer.",))]
    fields = {"shadow_of": name, "rateable": False, "choices": choices, **(body or {})}
    return answered(f"{name}-shadow", step=SHADOW, body=fields, **header)


def both(name: str, theirs: str = "Short.", ours: str = "Rather longer.", **header: Any) -> list[Event]:
    return [shown(name, theirs, **header), mirrored(name, ours, **header)]


def put_judge(database: Database, name: str = JUDGE, *, share: float = 0.3, at: datetime = BEFORE, **more: Any) -> None:
    """A reward model as the trainer registers it; the cycle is in its name."""
    manifest = RewardManifest(
        name=name, base_revision=more.get("base_revision", "0123456789ab"), dataset_sha256=["1" * 64], sha256="2" * 64,
        features=False, seed=0, settings={"judge_share": share}, created_at=at,
    )  # fmt: skip
    with database.transaction() as session:
        cycle_id = more.get("cycle_id", name.split("-")[1])
        row = adapters.register_reward_model(session, TENANT, manifest, f"rewards/{name}", cycle_id)
        row.created_at = at


def put_versions(database: Database, **shares: float) -> None:
    """Both arms' adapters, each of a cycle that kept this share of raters for its judge."""
    with database.transaction() as session:
        for arm, version in VERSIONS.items():
            manifest = make_adapter_manifest(version=version, settings={"judge_share": shares.get(arm, 0.3)})
            adapters.register(session, manifest, f"adapters/{version}")


@dataclass
class LongerIsBetter:
    """A judge that likes words. `before` happens while it reads; `asked` are the texts of each batch."""

    artifacts: ArtifactStore
    before: Callable[[], None] = lambda: None
    asked: list[Sequence[str]] = field(default_factory=list)

    def __call__(self, judge: str, path: str, size: int) -> list[float]:
        conversations = json.loads(self.artifacts.read(path))
        assert len(conversations) == size
        self.asked.append([one["completion"] for one in conversations])
        self.before()
        return [float(len(one["completion"])) for one in conversations]


def make_shadow_judge(room: Room, score: Callable[[str, str, int], list[float]] | None = None) -> ShadowJudge:
    waiting = Waiting(room.database, room.sealer)
    return ShadowJudge(
        room.database, room.artifacts, waiting, score or LongerIsBetter(room.artifacts), room.metrics, lease_ttl_s=5.0
    )


def judged(room: Room, *events: Event) -> int:
    happen(room, *events)
    return make_shadow_judge(room).turn()


def verdicts(room: Room) -> dict[str, float | None]:
    """By the shown answer's name."""
    with room.database.reading() as session:
        rows = session.query(ShadowVerdictRow).all()
    return {row.response_id.removesuffix("-shadow"): row.win for row in rows}


def outcomes(room: Room) -> dict[str, float]:
    """Of batches, as Prometheus is told."""
    samples = [sample for metric in room.metrics.shadow_batches.collect() for sample in metric.samples]
    return {one.labels["outcome"]: one.value for one in samples if one.name.endswith("_total")}
