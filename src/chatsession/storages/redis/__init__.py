"""Sessions in Redis or Valkey, shared by all processes and machines that reach it."""

try:
    from chatsession.storages.redis._storage import RedisStorage, from_url
except ImportError as error:
    if (error.name or "").partition(".")[0] not in ("redis", "hiredis"):
        raise
    raise ImportError("sessions in Redis need redis-py and hiredis: pip install 'chatsession[redis]'") from error

__all__ = ["RedisStorage", "from_url"]
