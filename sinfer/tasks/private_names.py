"""Every name of Celery and its libraries that sinfer uses though they do not promise to keep it.

They are used in the module that is named with each group. A test compares each with the version
that it was seen in, and fails when it changes; others show the faults that are put right, and fail
when they are mended.
"""

from __future__ import annotations

from sinfer.types.private_name import PrivateName

_RESULTS = "celery.concurrency.asynpool.ResultHandler"
_POOL = "celery.concurrency.asynpool.AsynPool"
_CONSUMER = "celery.worker.consumer.consumer.Consumer"
_CHANNEL = "kombu.transport.redis.Channel"

_DEAD_CHILD = "a worker outlives a child that died while the broker was unavailable"
_LATE_RESULT = "a worker that ends reads what its children say until they have ended"
_FAIR = "messages go to the child with the least work by choice of the pool's user"
_LOST_REDIS = "a worker outlives its broker with messages in hand"
_STRANGER = "a worker outlives whatever somebody writes into its queues"
_REFUSED = "a worker that its broker refuses does not try again hundreds of times a second"
_CHOICE = "it is documented how an application brings transports of its own"

PRIVATE_NAMES = [
    # prefork
    PrivateName(f"{_POOL}._track_child_process", "is not asked of a dead child", _DEAD_CHILD),
    PrivateName(
        "celery.concurrency.asynpool.AsynPool._track_child_process:_sentinel_poll",
        "is None for a dead child",
        _DEAD_CHILD,
    ),
    PrivateName(f"{_POOL}.did_start_ok", "forgives a child that died at once", _DEAD_CHILD),
    PrivateName(f"{_RESULTS}.on_stop_not_started", "reads for longer", _LATE_RESULT),
    PrivateName(f"{_RESULTS}._flush_outqueue", "reads one child's result", _LATE_RESULT),
    PrivateName(f"{_RESULTS}._state", "tells when reading is over", _LATE_RESULT),
    PrivateName(f"{_RESULTS}.fileno_to_outq", "knows the children", _LATE_RESULT),
    PrivateName(f"{_RESULTS}.on_state_change", "is told what children say", _LATE_RESULT),
    PrivateName(f"{_RESULTS}.check_timeouts", "is called while waiting", _LATE_RESULT),
    PrivateName(f"{_RESULTS}.join_exited_workers", "takes leave of children", _LATE_RESULT),
    PrivateName("billiard.pool.WorkersJoined", "says that no child is left", _LATE_RESULT),
    PrivateName("billiard.pool.TERMINATE", "says that nobody waits any more", _LATE_RESULT),
    PrivateName(f"{_POOL}._create_write_handlers", "gives its order to the hub", _FAIR),
    PrivateName(
        "celery.concurrency.asynpool.AsynPool._create_write_handlers:consolidate_callback",
        "gets the children that are ready",
        _FAIR,
    ),
    PrivateName(f"{_POOL}._fileno_to_inq", "knows which child reads where", _FAIR),
    # worker_memory and runtime
    PrivateName(
        "billiard.pool.Pool._create_worker_process:index",
        "tells the processes of a worker apart",
        "celery tells a process its place in the pool",
    ),
    PrivateName(
        "billiard.pool.EX_RECYCLE",
        "tells that a process is replaced",
        "worker_process_shutdown says why a process ends",
    ),
    # redis_broker
    PrivateName("kombu.transport.redis.QoS.ack", "is left out over a closed channel", _LOST_REDIS),
    PrivateName(
        "kombu.transport.redis.QoS.restore_unacked", "may fail while Redis is gone", _LOST_REDIS
    ),
    PrivateName("kombu.transport.virtual.base.QoS._delivered", "is let go of", _LOST_REDIS),
    PrivateName(f"{_CHANNEL}._brpop_read", "lets go of what is no JSON", _STRANGER),
    PrivateName(
        "kombu.transport.virtual.base.Transport._deliver", "is given what is ours", _STRANGER
    ),
    # amqp_broker
    PrivateName(
        "kombu.transport.pyamqp.Channel.message_to_python", "is given what is ours", _STRANGER
    ),
    # connection, publishing and beat
    PrivateName("celery.app.amqp.AMQP.BrokerConnection", "is a connection that does", _CHOICE),
    PrivateName(
        "celery.beat.Scheduler.apply_entry",
        "lets a message go that cannot be sent",
        "an outage of the broker costs beat a line in its log, and no wait",
    ),
    PrivateName(
        "kombu.connection.Connection.collect",
        "ends a connection without a word to the broker",
        "whoever publishes connects again by itself, without a wait",
    ),
    # consumer
    PrivateName(f"{_CONSUMER}.on_connection_error_before_connected", "waits", _REFUSED),
    PrivateName(f"{_CONSUMER}.on_connection_error_after_connected", "waits", _REFUSED),
    PrivateName(
        f"{_CONSUMER}.register_with_event_loop",
        "tells that a worker listens",
        "celery has a signal for a connection that has begun",
    ),
    # flower
    PrivateName(
        "flower.command.options",
        "says which port is taken",
        "Flower answers a taken port with a line instead of a traceback",
    ),
]
