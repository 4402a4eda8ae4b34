"""What the systems are compared at, and what else is measured, a file each."""
