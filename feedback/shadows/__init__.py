"""Mirrored answers that nobody was shown, put before a judge beside those that were: what it prefers, answer by answer.

The judge is a reward model that learnt from other raters than both versions, and the trainer's `score` task asks it.
`judge.py` is the whole of it: `waiting.py` finds what is to be judged, `comparison.py` says what may be compared and
what scores mean, `scoring.py` sends the task and waits, `verdicts.py` keeps what it said. `feedback.tallying` counts.
"""
