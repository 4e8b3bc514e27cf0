"""Where the data keys lie: a file of the state directory for one host, a PostgreSQL database of its own for many.

Start at `base` for the Protocol. `infra/sealing.py` is the keyring that caches in front of either.
"""
