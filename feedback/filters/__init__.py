"""Why one judgement is left out of datasets, one file each. `chain.py` has their order and counts what they drop."""
