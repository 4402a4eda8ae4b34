"""Windows: what they are, and what a batch changes in them. Pure: no I/O, no clock."""
