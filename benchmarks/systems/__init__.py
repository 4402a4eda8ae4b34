"""The systems that are timed, a file each."""
