"""Sessions in a folder: one JSON file each, which everyday tools can read, repair and back up.

Durability: a session that was committed outlasts the process, and with `fsync` (the default) a power cut too: the new
value is written to a new file and synced, renamed over the old one, and the folder is synced. A process that
is killed at any moment leaves the old value or the new one, never a part.

Several processes of one machine may share the folder: who holds a session is written in small files that are changed
under `flock`, leases run out by the machine's clock, and each commit checks its lease and the version it was loaded
from, so that a change by hand is noticed as well. The folder must lie on a local POSIX file system with links and
named pipes; on a network file system, and on Windows, use another storage (such as SQLite). The names of the files are
safe on all systems, so that a folder can be moved there and back.

A session's expiry is kept in a symbolic link next to it, which points to a time, so that the file stays plain JSON. A
file that is empty, no file, or not readable is reported as `StorageError`, and never overwritten.
"""

import os

if os.name != "posix":
    raise ImportError("sessions in files need a POSIX system (locks, links, named pipes); use sqlite:///bot.db")

from chatsession.storages.file._storage import FileStorage, Layout
from chatsession.storages.file._url import from_url

__all__ = ["FileStorage", "Layout", "from_url"]
