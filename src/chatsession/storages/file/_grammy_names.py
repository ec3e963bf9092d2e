"""Maps a session key to its file name in grammY's file storage: the key itself.

grammY keeps the session of key `bot:42` in `42/bot:42.json`; the folder is the key's last two UTF-16 code units. Keys
that it cannot store, or only outside of its folder (such as `a/b` or `..`), are kept in `other/`, where grammY never
looks, under their names in the library's own layout.
"""

from __future__ import annotations

from chatsession.errors import SessionKeyError
from chatsession.storages.file._names import Names

OTHER = "other"
LONGEST = 247
"""Bytes, of the 255 that file systems allow; the rest is for `.expires`."""
_LONGEST_OF_GRAMMY = 250


class GrammyNames(Names):
    """As `Names`. The name of a file in `other/` begins with that folder."""

    others_write = True

    def name_of(self, key: str) -> str:
        """The name of the key's file.

        Raises:
            SessionKeyError: the key is empty, not valid Unicode, or a few bytes too long for a file with an expiry.
        """
        own = super().name_of(key)  # refuses what is not a key
        if "/" in key or "\0" in key or _tail(key) in (".", ".."):
            return f"{OTHER}/{own}"
        length = len(key.encode())
        if LONGEST < length <= _LONGEST_OF_GRAMMY:
            raise SessionKeyError(f"it has {length} bytes, and {LONGEST} is the most for a file of grammY's", key=key)
        return key if length <= LONGEST else f"{OTHER}/{own}"

    def key_of(self, name: str) -> str | None:
        folder, slash, rest = name.partition("/")
        key = name if not slash else Names().key_of(rest) if folder == OTHER else None
        if key is None:
            return None
        try:
            return key if self.name_of(key) == name else None
        except SessionKeyError:
            return None

    def is_digest(self, name: str) -> bool:
        return name.startswith(f"{OTHER}/") and super().is_digest(name.removeprefix(f"{OTHER}/"))

    def folder_of(self, name: str) -> str:
        return OTHER if "/" in name else _tail(name)

    def is_folder(self, folder: str) -> bool:
        return folder == OTHER or super().is_folder(folder)

    def name_at(self, folder: str, file: str) -> str:
        return f"{OTHER}/{file}" if folder == OTHER else file

    def check_folded(self, key: str) -> None:
        if "/" not in self.name_of(key) and not (key.isascii() and key == key.lower()):
            raise SessionKeyError(
                "this file system takes upper and lower case for the same, so that grammY's names are not safe for it",
                key=key,
            )


def _tail(key: str) -> str:
    """The last two UTF-16 code units, as in JavaScript; half a surrogate pair becomes U+FFFD on the disk."""
    return key.encode("utf-16-le", "surrogatepass")[-4:].decode("utf-16-le", "replace")
