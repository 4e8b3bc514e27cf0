"""What can go wrong in feedback."""


class FeedbackError(RuntimeError):
    """Root of the room's errors."""


class Undecodable(FeedbackError):
    """The payload cannot be read, now or ever: it goes to the dead letters. `tenant` is empty where it is unknown."""

    def __init__(self, reason: str, tenant: str = "") -> None:
        super().__init__(reason)
        self.tenant = tenant


class CutNotReached(FeedbackError):
    """The consumer has not stored everything that was acknowledged before the snapshot."""


class NoRows(FeedbackError):
    """The window holds nothing to train on. The message says why, with the counts by reason and what to set."""


class NoCase(FeedbackError):
    """No regression case can be made of this answer. The message says why, and what to do."""


class Stopping(FeedbackError):
    """The process is asked to end; what was under way is taken up again by the next one."""


class ErasedMeanwhile(FeedbackError):
    """What was being made may hold what a person wrote who has been erased since it was begun."""


class NotScored(FeedbackError):
    """The judge was not reached or said nothing that counts. `kind` is what is counted: no text of anybody is in it."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class HelperLost(FeedbackError):
    """A process that did part of the work was killed, or could not go on."""
