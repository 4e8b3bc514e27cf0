"""Feedback: inference and feedback events come in; joined votes in the database and frozen datasets go out.

Start at `consumer.py` (events into the database), then `snapshot.py` (the database into a dataset), which puts
together `join.py` → `filters/` → `pairs.py` → `split.py` → `shards.py`: pure functions over frozen dataclasses.
"""
