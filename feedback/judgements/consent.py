"""Whether one person's words and another's judgement of them may be trained on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Said:
    """What one event says about consent, and who said it. `explicit` is the person's own word, not the default."""

    rater: str | None
    train: bool
    explicit: bool


def covers(owner: Said, judge: Said) -> bool:
    """The prompt's owner and the rater must both allow it; the same person's yes covers both.

    An explicit no is never overruled, not even by the same person's yes on the other event. Of two events that name
    nobody it is not known whether they are one person's, so both must say yes.
    """
    said = (owner, judge)
    if any(one.explicit and not one.train for one in said):
        return False
    same = owner.rater is not None and owner.rater == judge.rater
    return any(one.train for one in said) if same else all(one.train for one in said)
