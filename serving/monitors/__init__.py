"""Monitors: pure functions from tallies to findings. One file each; `look.py` asks them all and says what follows.

Their error rates hold however often somebody looks: see docs/rollout-evidence.md. Start with look.py, then scores.py.
"""
