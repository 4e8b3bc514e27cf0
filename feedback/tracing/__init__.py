"""A response id or an event id comes in; where the answer came from, or how far the event went, goes out.

Start at `tracing.py`. `lineage.py` goes from a version back to its datasets and `sources.py` on to their events;
`places.py` says which few shards may hold rows of one event, and `reach.py` reads those and goes on to the versions.
"""
