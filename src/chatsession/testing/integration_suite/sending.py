"""Actions that handlers pass to `after_commit`."""

from __future__ import annotations

import pytest

from chatsession.manager import SessionManager
from chatsession.testing.integration_suite.driver import FrameworkDriver, NeutralContext
from chatsession.testing.integration_suite.incoming import Incoming
from chatsession.testing.integration_suite.suite import (
    BurntError,
    IntegrationSuite,
    Pizza,
    Where,
    feed,
    running,
    take_error,
)


class SendingTests(IntegrationSuite):
    """They are sent after the commit, in order, and not at all if there is no commit."""

    sent: list[tuple[str, int]]
    """What was sent, with the count that was stored then."""

    @pytest.fixture(autouse=True)
    def nothing_sent(self) -> None:
        self.sent = []

    @pytest.fixture(params=[0, 100], ids=["forgetting", "remembering"])
    def sending(self, request: pytest.FixtureRequest, storage: Where) -> SessionManager[Pizza]:
        sessions = SessionManager(Pizza, storage=storage, deduplicate=request.param)

        @sessions.action
        async def send(text: str) -> None:
            self.sent.append((text, (await sessions.get(7) or Pizza()).count))

        return sessions

    async def answer(self, chat: NeutralContext, sessions: SessionManager[Pizza]) -> None:
        """Count up, and send the text twice. The text `burn` makes it fail, and `save` makes it save."""
        session = chat.of(sessions)
        (await session.get()).count += 1
        session.after_commit("send", chat.text)
        if chat.text == "save":
            await session.save()
            (await session.get()).count += 1
        session.after_commit("send", text=f"{chat.text}!")
        if chat.text == "burn":
            raise BurntError

    @pytest.mark.parametrize("lazy", [False, True])
    async def test_it_is_sent_after_the_commit_in_order(
        self, driver: FrameworkDriver, sending: SessionManager[Pizza], lazy: bool
    ) -> None:
        async with running(driver, lambda chat: self.answer(chat, sending), sending, lazy=lazy):
            await feed(driver, Incoming("a"), Incoming("b"))
        assert self.sent == [("a", 1), ("a!", 1), ("b", 2), ("b!", 2)]

    async def test_nothing_is_sent_for_a_handler_that_fails(
        self, driver: FrameworkDriver, sending: SessionManager[Pizza]
    ) -> None:
        async with running(driver, lambda chat: self.answer(chat, sending), sending):
            await feed(driver, Incoming("burn"))
            take_error(driver, BurntError)
            assert self.sent == []
            await feed(driver, Incoming("a"))
        assert self.sent == [("a", 1), ("a!", 1)]

    async def test_a_commit_in_the_middle_sends_what_came_before(
        self, driver: FrameworkDriver, sending: SessionManager[Pizza]
    ) -> None:
        async with running(driver, lambda chat: self.answer(chat, sending), sending):
            await feed(driver, Incoming("save"))
        assert self.sent == [("save", 1), ("save!", 2)]

    async def test_an_update_that_comes_again_sends_nothing_again(
        self, driver: FrameworkDriver, sending: SessionManager[Pizza]
    ) -> None:
        if not driver.update_ids or not sending.options.deduplicate:
            pytest.skip("updates of this framework have no ids, or are not remembered")
        update = Incoming("a")
        async with running(driver, lambda chat: self.answer(chat, sending), sending):
            await feed(driver, update, update)
        assert self.sent == [("a", 1), ("a!", 1)]
