"""One task in one process, without Celery and Redis: for `sinfer run` and `sinfer.testing`."""
