"""The objectives as pure functions over tensors, no model in sight: `tokens`, `preference`, `policy`, `advantages`.

Axes: B answers, T tokens, P prompts, G samples of one, N positions of a whole batch, V vocabulary. Log-probabilities
are in nats. Sums are taken in float32 where the input is shorter; two correct float32 sums of 512 log-probabilities
differ by up to 5e-4.
"""
