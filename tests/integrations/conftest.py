import pytest
from aiogram import Dispatcher
from aiogram_aids import CountingStorage, Pizza

from chatsession import SessionManager
from chatsession.integrations.aiogram import setup_sessions


@pytest.fixture
def storage() -> CountingStorage:
    return CountingStorage()


@pytest.fixture
def sessions(storage: CountingStorage) -> SessionManager[Pizza]:
    return SessionManager(Pizza, storage=storage)


@pytest.fixture
def dp(sessions: SessionManager[Pizza]) -> Dispatcher:
    """A dispatcher with sessions."""
    dispatcher = Dispatcher()
    setup_sessions(dispatcher, sessions)
    return dispatcher
