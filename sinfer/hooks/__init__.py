"""Calling other people's code: hooks, task managers, clients and sinks of a product."""
