"""Programs that make targets run, and what the documentation is made with."""
