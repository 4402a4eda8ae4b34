"""sinfer as others install it: built, put into clean environments, and run from there."""
