"""A test bed whose true reward is known: what a method learns, and when it starts to fool its reward model.

World and truth: `world.py`, `gold.py`. What every run starts from: `bed.py`. The two programs: `learning.py`,
`overoptimise.py`.
"""
