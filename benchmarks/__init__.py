"""How fast sinfer is here, beside other ways to do the same: ``python -m benchmarks``.

``systems/`` are compared, ``scenarios/`` say at what, and ``harness/`` drives and measures.
"""
