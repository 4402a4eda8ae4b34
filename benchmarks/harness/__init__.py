"""What drives a run and measures it."""
