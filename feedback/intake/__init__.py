"""Events from the log into the database: stored once, joined, blanked when they must go. Start at `consumer.py`."""
