"""The stages of a cycle, one file each: each fills a directory and returns what the later ones need. `table.py` joins them."""
