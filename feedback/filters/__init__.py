"""What is left out of datasets, one file each, and why. `chain.py` has their order and counts what each one drops."""
