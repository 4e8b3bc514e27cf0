"""Counts what raters do in a rollout on traffic: events in the database → one tally for each rater, step and arm.

Serving judges by these counts; nothing here decides anything. Whoever has anything new is counted afresh, with all
their answers in the rollout and the votes on them, so that neither order nor repetition matters. What a judge says of
mirrored answers (`feedback.shadows`) is counted in columns of its own: it is nobody's vote. Begin with `tallier.py`;
`counting.py` says what counts.
"""
