"""What can go wrong in the registry."""


class RegistryError(RuntimeError):
    """Root of the registry's errors."""


class NotFound(RegistryError):
    """No such row for this tenant."""


class IllegalTransition(RegistryError):
    """The state does not allow that move."""


class LeaseLost(RegistryError):
    """Somebody else has taken over: this process must stop and change nothing."""


class Conflict(RegistryError):
    """Another one is under way, or the row has moved on since it was read."""
