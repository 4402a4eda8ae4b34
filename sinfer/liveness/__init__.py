"""Which processes of a product are there, who is missing, and what to type."""
