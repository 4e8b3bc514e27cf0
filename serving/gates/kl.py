"""How far it has moved, in nats per answer: from the anchor in all, and from the champion in this one step."""

from infra.contracts.manifests import GateResult
from serving.gates.subject import Subject, against_champion, below, tell


def check_anchor(subject: Subject) -> GateResult:
    interval, budget = subject.evidence.kl_anchor, subject.settings.kl_anchor_budget
    return GateResult(
        name="kl_anchor",
        blocking=True,
        verdict=below(interval, budget),
        threshold=budget,
        interval=interval,
        reason=tell(interval, f"the budget is {budget:g} nats"),
    )


def check_champion(subject: Subject) -> GateResult:
    interval = against_champion(subject, subject.evidence.kl_champion)
    budget = subject.settings.kl_champion_budget
    return GateResult(
        name="kl_champion",
        blocking=True,
        verdict=below(interval, budget),
        threshold=budget,
        interval=interval,
        reason=tell(interval, f"the budget is {budget:g} nats", subject),
    )
