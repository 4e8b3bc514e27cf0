"""The stages of a cycle, one file each: it fills a directory and returns what later ones need. Start at `table.py`."""
