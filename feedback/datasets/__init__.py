"""The database into frozen datasets, of which the next costs what is new. Start at `snapshot.py`."""
