"""The redis_stream sink."""
