"""One objective per file. Policy methods share one interface, `train(context) -> result`; see `policy.py`."""
