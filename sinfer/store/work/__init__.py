"""The working side of a partition's windows: what workers claim, and what is in it."""
