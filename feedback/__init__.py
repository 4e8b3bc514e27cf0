"""Feedback: inference and feedback events come in; joined votes in the database and frozen datasets go out.

Start at `intake/consumer.py` (events into the database), then `datasets/snapshot.py` (the database into a dataset),
which puts together `judgements/join.py` → `filters/` → `datasets/{selection,pairs,shards}.py` and `weighing/`: pure
functions over frozen dataclasses. `rights/` exports and erases one person.
"""
