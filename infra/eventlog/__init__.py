"""The event log: records in, acknowledged only when durable; records out, from a committed offset per group.

Start at `base` for the Protocols; `sqlite` is the embedded log.
"""
