"""What a reward model is made of beside its network: rankings in, style held apart, several members, calibrated scores.

Start at `rankings.py` (rows as what one step sees), then `ensemble.py` (several models that answer as one).
"""
