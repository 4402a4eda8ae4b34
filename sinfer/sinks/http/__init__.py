"""The http sink."""
