"""A model judges pairs of answers by a written constitution; its votes go onto the log, labelled as a model's.

`running.py` is the whole of it: `candidates.py` finds the pairs, `asking.py` puts each to the model in both orders
over `endpoint.py`, `casting.py` makes events of what it says. What its votes weigh is told by
`feedback.weighing.calibration`.
(Constitutions: Bai et al. 2022, arXiv 2212.08073; AI feedback instead of people's: Lee et al. 2023, arXiv 2309.00267.)
"""
