"""Advice: a policy that continues general text worse has forgotten something, though perhaps nothing that users ask."""

from infra.contracts.manifests import GateResult
from serving.gates.subject import Subject, against_champion, tell, within


def check(subject: Subject) -> GateResult:
    """Two-sided: a text that suddenly becomes much likelier was learnt by heart."""
    known, budget = subject.evidence.general_text, subject.settings.perplexity_budget
    interval = against_champion(subject, known.rise if known else None)
    wish = f"nats per token of the general text may move by {budget:g}"
    wanted = "general_text_file" in subject.wanted
    return GateResult(
        name="perplexity",
        blocking=False,
        verdict=within(interval, -budget, budget),
        threshold=budget,
        interval=interval,
        reason=tell(interval, wish, subject) if wanted else "no text is set (trainer.general_text_file)",
        evidence={"candidate": known.candidate, "champion": known.champion} if known else {},
    )
