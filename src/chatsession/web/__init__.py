"""A page on 127.0.0.1 to look at stored sessions, and to mend them by hand while the bot runs.

* `serve(url)` runs it until Ctrl-C; so does the command `chatsession web URL`.
* `inspecting(storage)` runs it inside your own program.

Needs `pip install 'chatsession[web]'`.
"""

try:
    import starlette
    import uvicorn
except ImportError as error:
    raise ImportError(
        f"the web inspector needs {error.name}: pip install 'chatsession[web]'", name=error.name
    ) from error

from chatsession.web._server import Inspector, inspecting, serve

__all__ = ["Inspector", "inspecting", "serve"]

del starlette, uvicorn
