"""Products: what one is, where its tasks come from, how it is found, and those that ship."""
