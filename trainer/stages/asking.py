"""Questions for raters: where an ensemble of reward models disputes which of two versions answers better."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from infra.artifacts import dump_json
from infra.clock import now
from infra.contracts.queries import Queries
from infra.registry.cycles import CycleState
from trainer.data import Prompt, read_table
from trainer.queries import Occasion, make_queries, owners, publish
from trainer.query_pool import Pool, pool
from trainer.rewarding import Reward
from trainer.rewards.ensemble import Ensemble, load_reward
from trainer.stages.contest import Side, ask
from trainer.stages.material import Material

log = structlog.get_logger()

QUERIES = "queries.json"
PROMPTS_PER_QUERY = 4  # so many are answered to find one that is disputed


def write_queries(material: Material, part: Path, sides: Sequence[Side], prompts: Sequence[Prompt]) -> int:
    """How many questions were found; none without an ensemble, since a single model disputes nothing."""
    wanted, directory = material.settings.query_pairs, material.holding.work.at(CycleState.REWARD) / "reward"
    if not wanted or not prompts or not directory.is_dir():
        return 0
    reward = load_reward(material.base, directory, "asking")
    try:
        found = _disputed(material, reward, sides, prompts) if isinstance(reward, Ensemble) else None
    finally:
        reward.close()
    if found is None or not found.queries:
        return 0
    (part / QUERIES).write_bytes(dump_json(found.model_dump(mode="json")))
    log.info("queries_written", queries=len(found.queries), candidates=found.candidates)
    return len(found.queries)


def publish_queries(material: Material) -> None:
    """What the evaluation wrote, if anything."""
    file = material.holding.work.at(CycleState.EVALUATING) / QUERIES
    if file.is_file():
        publish(material.ports.artifacts, Queries.model_validate_json(file.read_text()))


def _disputed(material: Material, reward: Reward, sides: Sequence[Side], prompts: Sequence[Prompt]) -> Queries | None:
    asked = prompts[: material.settings.query_pairs * PROMPTS_PER_QUERY]
    named = [replace(side, role=f"{side.role}_asking") for side in sides]  # an engine knows each name once
    found: Pool = pool(asked, {side.version: ask(material, side, asked, []).gate for side in named})
    if not found.candidates:
        return None
    margins_QM = found.margins(reward.member_scores(found.rows).numpy())
    row = material.row
    occasion = Occasion(sides[0].version, row.alias, row.tenant, now())
    known = owners(read_table(material.dataset, "prompts", "train"))
    return make_queries(found.candidates, margins_QM, known, occasion, most=material.settings.query_pairs)
