"""What can go wrong in the trainer room."""


class TrainerError(RuntimeError):
    """Root of the room's errors."""


class StageFailed(TrainerError):
    """The cycle can't go on. The message is what an operator reads."""


class CancelRequested(TrainerError):
    """Somebody asked for the cycle's end."""


class TryAgain(TrainerError):
    """Something outside is away for now: the stage starts again later."""


class PeerGone(TryAgain):
    """Another process of the same training has ended. Unless it was killed it has said why, and was the first to."""
