"""What the playground needs beyond the core, and how a reader gets it."""

from importlib.util import find_spec

INSTALL = "pip install chatsession-playground"


def require(*modules: str) -> None:
    """Make sure that optional packages are there, before anything is started.

    Args:
        modules: import names, such as `"aiohttp"`.

    Raises:
        ImportError: one of them is missing; the message has the command that installs it.
    """
    for module in modules:
        if find_spec(module) is None:
            raise not_installed(module)


def not_installed(module: str) -> ImportError:
    """The error that says how to install a module."""
    return ImportError(f"the playground needs {module}: {INSTALL}", name=module)
