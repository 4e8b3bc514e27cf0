"""Which reward model may say whose answers are better: one that learnt from raters whom neither version learnt from."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from infra.contracts.manifests import AdapterManifest, RewardManifest
from infra.contracts.routing import is_base
from infra.database.tables import RewardModelRow, RolloutRow
from infra.registry import adapters


def judge_of(session: Session, rollout: RolloutRow) -> str | None:
    """The newest from before the rollout was asked for, so that it is the same for as long as the rollout lasts.

    None where no judge is independent of both versions.
    """
    trained = [version for version in (rollout.version, rollout.from_version) if not is_base(version)]
    compared = [adapters.manifest_of(adapters.get(session, version)) for version in trained]
    mine = (RewardModelRow.tenant == rollout.tenant, RewardModelRow.created_at <= rollout.requested_at)
    query = select(RewardModelRow).where(*mine).order_by(RewardModelRow.created_at.desc(), RewardModelRow.name)
    for row in session.scalars(query):
        if _is_judge(row, rollout.alias) and is_independent(RewardManifest.model_validate(row.manifest), compared):
            return row.name
    return None


def is_independent(judge: RewardManifest, compared: Sequence[AdapterManifest]) -> bool:
    """Raters are kept for judges by a hash below `judge_share`, the same in every cycle: none of a judge's taught a
    version that kept as large a share, or a larger one.
    """
    share = judge.settings.get("judge_share")
    return share is not None and all(
        one.base_revision == judge.base_revision and one.settings.get("judge_share", 0.0) >= share for one in compared
    )


def _is_judge(row: RewardModelRow, alias: str) -> bool:
    """By the name that the trainer gives: `<alias>-<cycle>-judge-<hash>`."""
    return row.name.startswith(f"{alias}-{row.cycle_id}-judge-")
