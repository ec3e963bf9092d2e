"""Sessions in a NATS JetStream key-value bucket, for bots whose machines run NATS already.

Needs `pip install 'chatsession[nats]'` (nats-py).
"""

try:
    from chatsession.storages.nats._storage import NatsStorage
    from chatsession.storages.nats._url import from_url
except ImportError as error:
    if (error.name or "").partition(".")[0] != "nats":
        raise
    raise ImportError("sessions in NATS need a driver: pip install 'chatsession[nats]'") from error

__all__ = ["NatsStorage", "from_url"]
