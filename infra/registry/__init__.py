"""The registry is the truth about datasets, cycles, adapters, rollouts and routing; brokers only carry wake-ups.

Functions take a session (one transaction of the caller's) and return rows. Whoever works on something passes its
lease, which is checked in the same transaction: see `leases`.
"""
