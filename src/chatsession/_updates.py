"""Which update a context is about, to know one that is delivered again (rule 19)."""

from __future__ import annotations

from typing import Any

from chatsession.errors import SessionError


def update_id_of(ctx: object) -> int | str | None:
    """The id of a context's update, with that of its bot where that is known; `None`: it has none.

    Raises:
        SessionError: the context says nothing about it.
    """
    holder: Any = ctx
    if not hasattr(holder, "update_id"):
        holder = getattr(ctx, "update", None)
        if not hasattr(holder, "update_id"):
            raise SessionError(
                f"deduplicate needs to know updates by their id, but the context {type(ctx).__name__} has neither "
                "update_id nor update.update_id; give it one of them (None: this update cannot come twice)"
            )
    update_id: int | None = holder.update_id
    bot_id: int | None = getattr(ctx, "bot_id", None)
    return update_id if update_id is None or bot_id is None else f"{bot_id}:{update_id}"
