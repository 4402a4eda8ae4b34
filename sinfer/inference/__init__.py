"""Inference clients, one file a protocol."""
