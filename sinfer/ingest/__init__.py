"""Ingest: reading JetStream exactly, and storing what was read."""
