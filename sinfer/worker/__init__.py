"""Closed windows to sinks, without Celery."""
