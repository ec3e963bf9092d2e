"""`application.user_data` and `chat_data`, as the running update has them loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from chatsession.errors import SessionError
from chatsession.integrations.telegram_ext._shared_scope import shared_scope

if TYPE_CHECKING:
    from chatsession.integrations.telegram_ext._loaded import LoadedData
    from chatsession.integrations.telegram_ext._persistence import SessionPersistence
    from chatsession.integrations.telegram_ext._records import DataName


class DataOfUpdate(Mapping[int, Any]):
    """Stands in the place where python-telegram-bot has the data of all users, or of all chats.

    Args:
        persistence: of the application.
        name: what it is.
    """

    def __init__(self, persistence: SessionPersistence, name: DataName) -> None:
        self._persistence = persistence
        self._name: DataName = name

    def __getitem__(self, id_: int) -> Any:
        return loaded_data(self._persistence, f"{self._name}[{id_}]").value(self._name, id_)

    def __iter__(self) -> Iterator[int]:
        data = loaded_data(self._persistence, self._name)
        return iter([id_ for id_ in data.ids if isinstance(id_, int)])

    def __len__(self) -> int:
        return len(list(iter(self)))


def loaded_data(persistence: SessionPersistence, what: str) -> LoadedData:
    """The data that the running update has loaded.

    Raises:
        SessionError: there is no such update.
    """
    shared = shared_scope.get()
    data = None if shared is None else shared.data
    if data is None or data.persistence is not persistence:
        raise SessionError(
            f"{what} is not loaded: it is loaded with each update, and this is outside of any; "
            "use `async with open_persistence(application, …)`"
        )
    return data
