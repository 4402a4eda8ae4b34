"""The window store: the only room that speaks Redis."""
