"""The trainer: a dataset manifest comes in; a reward model, a policy adapter and the evidence about it go out.

Start at `cycle.py` (the stages of one cycle), then `methods/` (one objective per file), `rewarding.py` (the reward
model) and `sampling.py` (who writes the training samples). torch lives in the child process only (`run.py`).
"""
