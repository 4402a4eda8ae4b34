"""How fast sinfer is here, beside other ways to do the same: ``python -m benchmarks``."""
