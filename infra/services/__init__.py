"""The servers of the full profile on one machine: Kafka, PostgreSQL and Redis on loopback ports, without containers.

Start at `base` for what a service is; `local` puts the three together.
"""
