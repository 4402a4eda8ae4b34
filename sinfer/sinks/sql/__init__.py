"""The sql sink."""
