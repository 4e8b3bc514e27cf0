"""How much each judgement counts: opinions come in, factors by rater, prompt and segment go out.

`weights.py` puts them together; the others are the parts, each a function of arrays.
"""
