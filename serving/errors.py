"""What can go wrong in this room."""


class ServingError(RuntimeError):
    """Root of this room's errors."""


class Refused(ServingError):
    """This adapter must never be loaded. The message is the one reason that was found first."""


class EngineUnreachable(ServingError):
    """The engine does not answer: it starts, has died, or hangs. Trying again later may help."""


class EngineSilent(EngineUnreachable):
    """It took the question and did not answer in time: it hangs, or is merely busy."""


class EngineRefused(ServingError):
    """The engine answered with an error."""


class CannotStart(ServingError):
    """A replica can't start here. The message says what to change."""


class SmokeFailed(Refused):
    """Its files are valid, but the engine does not compute with it what the trainer did."""
