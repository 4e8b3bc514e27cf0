"""The method of this cycle's policy: the one that is set, or for `auto` the one that its data speaks for."""

import structlog

from infra.contracts.manifests import Interval
from infra.registry.cycles import CycleState
from trainer.choice import Holdings, Proposal, freshness, propose
from trainer.data import read_table
from trainer.stages.material import Material
from trainer.stages.start import Start, unseen_rows

log = structlog.get_logger()


def chosen_method(material: Material, start: Start) -> Proposal:
    """Once the reward stage is done its model's accuracy counts; before, there is none to lean on."""
    method = material.settings.method
    if method != "auto":
        return Proposal(method, "set by name")
    proposal = propose(holdings(material, start))
    log.info("method_chosen", method=proposal.method, reason=proposal.reason)
    return proposal


def holdings(material: Material, start: Start) -> Holdings:
    pairs, thumbs = (unseen_rows(material, start, table) for table in ("preference", "unpaired"))
    up = sum(row["label"] is True for row in thumbs)
    return Holdings(
        pairs=len(pairs),
        up=up,
        down=len(thumbs) - up,
        prompts=len(read_table(material.dataset, "prompts", "train")),
        fresh=freshness(pairs, material.champion()),
        accuracy=reward_accuracy(material),
    )


def reward_accuracy(material: Material) -> Interval | None:
    """Of this cycle's reward model on held-out raters."""
    found = (material.holding.work.result(CycleState.REWARD) or {}).get("accuracy")
    return None if found is None else Interval.model_validate(found)
