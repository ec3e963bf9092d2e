"""The actions of aiogram's scenes, which are called past all middlewares, are given their sessions."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from aiogram.dispatcher.event.handler import CallableObject
from aiogram.fsm.scene import SceneRegistry

from chatsession.integrations.aiogram._handlers import wanted_by
from chatsession.integrations.update_session import scope_in

_known: WeakKeyDictionary[SceneRegistry, int] = WeakKeyDictionary()
"""How many scenes of a registry get their sessions already."""


def serve_actions(registry: SceneRegistry) -> None:
    """Let the actions of scenes (`on.message.enter()`, …) get the sessions that they name.

    Args:
        registry: of the scenes, which may have grown since the last time.
    """
    scenes = registry._scenes
    if _known.get(registry) == len(scenes):
        return
    _known[registry] = len(scenes)
    for scene in scenes.values():
        for actions in scene.__scene_config__.actions.values():
            for event_type, action in actions.items():
                if not isinstance(action, _Action):
                    actions[event_type] = _Action(action)


class _Action(CallableObject):
    """An action that is given its sessions before it is called."""

    def __init__(self, action: CallableObject) -> None:
        super().__init__(action.callback)
        self._action = action
        self._wanted = wanted_by(action)

    async def call(self, *args: Any, **kwargs: Any) -> Any:
        scope = scope_in(kwargs)
        if scope is not None:  # `None`: of a dispatcher that shares the scene, and has no sessions
            kwargs.update(await scope.load(*self._wanted))
        return await self._action.call(*args, **kwargs)
