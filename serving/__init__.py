"""Serving: an adapter manifest comes in; a version that is gated, loaded on every replica and routed goes out.

Start reading at `reconcile.py` (what should happen next, as a pure function), then `controller.py` (which does it),
`adapters.py` (what is refused before any load) and `gates/` (what is refused before any user). `replica.py` becomes
one engine process: vLLM.
"""
