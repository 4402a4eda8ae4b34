"""The beat entries and the app they belong to."""
