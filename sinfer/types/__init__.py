"""The words that all of sinfer shares: messages, results, and what a check found."""
