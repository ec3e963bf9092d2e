"""aiogram's scenes: their handlers are behind a wrapper, and their actions are called past all middlewares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakKeyDictionary

from aiogram.dispatcher.event.handler import CallableObject, HandlerObject
from aiogram.fsm.scene import SceneHandlerWrapper, SceneRegistry

Give = Callable[[set[str], dict[str, Any]], Awaitable[None]]
"""Puts sessions that are named into what somebody gets."""


def named(handler: HandlerObject) -> set[str]:
    """The parameters of a handler, of a scene or not."""
    if isinstance(handler.callback, SceneHandlerWrapper):
        return handler.callback.handler.params
    return handler.params


class SceneActions:
    """Sees to it that the actions of scenes (`on.message.enter()`, …) get the sessions that they name.

    Args:
        names: parameters that an action asks for sessions by.
        give: called before such an action, with what the action names and what it gets.
    """

    def __init__(self, names: set[str], give: Give) -> None:
        self._names = frozenset(names)
        self._give = give
        self._served: WeakKeyDictionary[SceneRegistry, int] = WeakKeyDictionary()

    def serve(self, registry: SceneRegistry) -> None:
        """Serve the scenes of a registry, which may have grown since the last time."""
        scenes = registry._scenes
        if self._served.get(registry) == len(scenes):
            return
        self._served[registry] = len(scenes)
        for scene in scenes.values():
            for actions in scene.__scene_config__.actions.values():
                for event_type, action in actions.items():
                    if not self._names.isdisjoint(action.params) and not self._serves(action):
                        actions[event_type] = _Action(action, self._names, self._give)

    def _serves(self, action: CallableObject) -> bool:
        while isinstance(action, _Action):
            if action.names == self._names:  # in the name of another dispatcher, which makes no difference
                return True
            action = action.action
        return False


class _Action(CallableObject):
    """An action that is given its sessions before it is called."""

    def __init__(self, action: CallableObject, names: frozenset[str], give: Give) -> None:
        super().__init__(action.callback)
        self.action = action
        self.names = names
        self._give = give

    async def call(self, *args: Any, **kwargs: Any) -> Any:
        await self._give(self.params, kwargs)
        return await self.action.call(*args, **kwargs)
