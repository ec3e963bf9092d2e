"""Which updates are under way, and from which one Telegram is asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatsession.integrations.polling.window import RawUpdate, Window


def updates(*ids: int) -> list[RawUpdate]:
    return [{"update_id": update_id} for update_id in ids]


def test_the_offset_is_the_lowest_update_that_is_not_done() -> None:
    window = Window(100)
    assert window.offset == 0
    assert window.take(updates(10, 11, 12)) == updates(10, 11, 12)
    assert window.offset == 10
    window.done(11)
    window.done(12)
    assert window.offset == 10
    window.done(10)
    assert window.offset == 13


def test_what_is_under_way_or_done_is_not_new() -> None:
    window = Window(100)
    window.take(updates(10, 11))
    window.done(11)
    assert window.take(updates(10, 11, 12)) == updates(12)


def test_what_is_done_fills_the_window_until_it_is_confirmed() -> None:
    window = Window(3)
    window.take(updates(10, 11, 12))
    window.done(12)
    assert window.free == 0
    window.done(10)
    assert window.free == 1
    window.confirmed(window.offset)
    assert window.take(updates(11, 12, 13)) == updates(13)


def test_a_confirmed_update_that_comes_again_is_new() -> None:
    window = Window(3)
    window.take(updates(10))
    window.done(10)
    window.confirmed(window.offset)
    assert window.take(updates(10)) == updates(10)


def test_ids_may_begin_afresh_lower_down() -> None:
    """As Telegram does after a week without updates."""
    window = Window(3)
    window.take(updates(900))
    window.done(900)
    window.take(updates(7))
    assert window.offset == 7
    window.done(7)
    assert window.offset == 8


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 10))
def test_whatever_ends_first_each_is_handled_once_and_none_is_lost(order: list[int], size: int) -> None:
    """Against a server that delivers the oldest unconfirmed updates again with each request."""
    window, waiting, handled, running = Window(size), list(range(1, 41)), list[int](), list[int]()
    choices = iter(order)
    while waiting:
        offset = window.offset
        waiting = [each for each in waiting if each >= offset]
        batch = waiting[:size]
        window.confirmed(offset)
        new = [update["update_id"] for update in window.take(updates(*batch))]
        running += new
        handled += new
        assert len(running) <= size
        if running:
            finished = running.pop(next(choices, 0) % len(running))
            window.done(finished)
            assert offset <= window.offset
            assert all(each >= window.offset for each in running)
    assert handled == list(range(1, 41))
