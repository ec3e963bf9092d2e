"""Sessions in PostgreSQL (12 or newer): `jsonb` that people can query, shared by any number of processes.

Needs `pip install 'chatsession[postgres]'` (asyncpg).
"""

from chatsession.storages.postgres._grammy import grammy_schema_sql
from chatsession.storages.postgres._schema import schema_sql
from chatsession.storages.postgres._storage import PostgresStorage
from chatsession.storages.postgres._url import from_url

__all__ = ["PostgresStorage", "from_url", "grammy_schema_sql", "schema_sql"]
