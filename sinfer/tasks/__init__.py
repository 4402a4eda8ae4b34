"""All that is Celery: its application (``celery.py``), tasks, brokers, beat and hints.

From a closed window to its processing:

1. ``hints.py``: whoever closes windows of a partition, an ingestor or a tick, hands a hint to a
   ``HintSender``, whose thread publishes it to the product's queue.
2. ``connection.py`` picks the transport: ``redis_broker.py`` or ``amqp_broker.py``. What comes in
   goes through ``broker_messages.py``, as anyone may have put it there.
3. ``consumer.py`` and ``prefork.py`` are the worker around it: it takes a hint and gives it to the
   least busy of its processes (``worker_memory.py`` is what these tell each other).
4. ``celery.py``: the task ``process`` reads the hint (``hint_message.py``) and has the runtime of
   its process (``runtime.py``) look at the partition. What then happens to windows is in
   ``sinfer.worker``, which knows no Celery; ``window_events.py`` shows it to Flower.
5. ``beat.py`` sends a tick at intervals. It closes what is due by time, and finds again what a lost
   hint left behind.

``application.py`` makes applications, and ``celery.py`` the one of workers, beat and Flower. It
alone of this folder does anything when it is imported.
"""
