"""Starts the processes of one stack, restarts what dies, and stops all of them in order."""

from infra.processes import announce

__all__ = ["announce"]
