"""All that is Celery: its application (``celery.py``), tasks, brokers, beat and hints."""
