"""Sessions as handler parameters, for frameworks without parameter injection of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from chatsession.integrations.signatures import (
    first_parameters,
    mentioned_by,
    parameters_behind,
    parameters_of,
    takes_keywords,
)
from chatsession.integrations.update_scope import UpdateScope

R = TypeVar("R")


def named_sessions(function: Callable[..., object], given: int, names: Collection[str]) -> frozenset[str]:
    """The sessions that a handler names as parameters.

    Args:
        function: the handler.
        given: how many of its first parameters the framework fills.
        names: the names of all sessions and their contexts.
    """
    parameters = parameters_of(function)
    own = {each.name for each in parameters} - first_parameters(function, given)
    if takes_keywords(parameters):
        own |= parameters_behind(function, given) | mentioned_by(function)
    return frozenset(own.intersection(names))


async def keywords_of(scope: UpdateScope, names: Collection[str]) -> dict[str, object] | None:
    """Load the named sessions. Returns them as keyword arguments, or `None` if all of them have seen the update."""
    keywords = await scope.load(names)
    scope.handled = True
    if scope.redelivered:
        return None
    for name, context in scope.contexts.items():
        if name in names:
            keywords[name] = context
    return keywords


async def run_handler(
    scope: UpdateScope,
    names: Collection[str],
    call: Callable[..., Awaitable[R]],
    control_flow: tuple[type[BaseException], ...],
) -> R | None:
    """Run one handler as one unit of work.

    Args:
        scope: the sessions of the update.
        names: the names of the sessions that the handler takes.
        call: runs the handler with these sessions as keyword arguments.
        control_flow: exceptions that are not failures: the sessions are committed.
    """

    async def with_sessions() -> R | None:
        keywords = await keywords_of(scope, names)
        return None if keywords is None else await call(**keywords)

    return await run_as_unit(scope, with_sessions, control_flow)


async def run_as_unit(
    scope: UpdateScope, call: Callable[[], Awaitable[R]], control_flow: tuple[type[BaseException], ...]
) -> R:
    """Await a call, then commit the sessions of its scope, or abort them if it fails.

    Args:
        scope: of the call.
        call: of handlers.
        control_flow: exceptions that are not failures: they commit.
    """
    try:
        result = await call()
    except control_flow:
        scope.handled = True
        await scope.commit()
        raise
    except BaseException:
        await scope.abort()
        raise
    await scope.commit()
    return result
