"""Advice: by votes on logged answers, weighed by how likely the candidate was to say the same, it pleases as often.

Of answers of 15 tokens a policy that changed keeps a small part of the votes' worth, and nothing is decided then.
"""

from infra.contracts.manifests import GateResult, Interval, OffPolicy
from serving.gates.subject import Subject, above, against_champion, tell


def check(subject: Subject) -> GateResult:
    """The difference to the champion's logged rate must lie above a margin below nought."""
    margin, found = subject.settings.off_policy_margin, subject.evidence.off_policy
    wanting = _wanting(subject, found)
    interval = None if wanting else _difference(subject, found)
    wish = f"candidate's minus champion's estimated vote rate, allowed is {-margin:g}"
    return GateResult(
        name="off_policy",
        blocking=False,
        verdict=above(interval, -margin),
        threshold=-margin,
        interval=interval,
        reason=wanting or tell(interval, wish, subject),
        evidence=found.model_dump(mode="json") if found else {},
    )


def _wanting(subject: Subject, found: OffPolicy | None) -> str | None:
    """Why nothing can be said, if so."""
    least = subject.settings.off_policy_ess_min
    if found is None:
        return None
    if not found.votes:
        return f"no vote of a held-out rater is on an answer whose tokens are known: {_told(found.left_out)}"
    if found.effective_size < least:
        return (
            f"{found.votes} votes on logged answers are worth {found.effective_size:.3g} on the candidate's own, "
            f"at least {least:g} are needed: it says other things than what was voted on"
        )
    if found.champion is None and subject.evidence.champion == subject.champion:
        return f"too few of {found.votes} votes are on answers of {subject.champion}: there is no rate to compare with"
    return None


def _difference(subject: Subject, found: OffPolicy | None) -> Interval | None:
    return against_champion(subject, found.difference) if found else None


def _told(left_out: dict[str, int]) -> str:
    counts = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    return f"left out were {counts}" if counts else "there are no votes of theirs at all"
