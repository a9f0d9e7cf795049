"""Trust in folders: an HMAC of what a folder names, by a key of the user that lies elsewhere.

Building what a folder names (a model, plug-ins, inverses) runs code. Folders that this user wrote
are known by their signature; those of others are built only when the caller says so.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import warnings
from collections.abc import Sequence
from pathlib import Path

from fxbio.errors import FxbioError, FxbioWarning
from fxbio.files.atomic_file import write_whole
from fxbio.files.reading import read_bytes, require_regular_file

__all__ = ["SIGNATURE", "check_trust", "sign"]

SIGNATURE = "signature"
"""File of a folder that holds the HMAC-SHA256, in hexadecimal digits."""

_LOGGER = logging.getLogger(__name__)
_KEY_BYTES = 32
_SHOWN = 300
"""Characters of a name that a message shows."""


def sign(document: Path) -> None:
    """Write the signature of a document beside it.

    Where there can be no key the folder stays without one, with an ``FxbioWarning``.
    """
    path = document.with_name(SIGNATURE)
    path.unlink(missing_ok=True)  # it may be a link that leads elsewhere
    try:
        key = _key() or _new_key()
    except OSError as error:
        warnings.warn(
            f"'{document.parent}' is not signed, and will need --trust (trust=True): {error}",
            FxbioWarning,
            stacklevel=2,
        )
        return
    write_whole(path, _signature(document, key) + "\n")


def check_trust(
    document: Path,
    names: Sequence[str],
    trust: bool,
    *,
    error: type[FxbioError],
    otherwise: str,
) -> None:
    """Refuse to run what a folder names, unless this user wrote it or the caller trusts it.

    What is run because the caller trusts it is logged first, as a warning.

    Args:
        document: the signed file of the folder.
        names: what would be imported or called, one entry each; nothing is checked without any.
        trust: what the caller says.
        error: class of the error.
        otherwise: what to do without trust, for the help.

    Raises:
        FxbioError: of the class ``error``, with the names.
    """
    if not names or _is_signed(document):
        return
    shown = [_shown(name) for name in names]
    if trust:
        _LOGGER.warning("running what '%s' names: %s", document.parent, ", ".join(shown))
        return
    raise error(
        f"'{document.parent}' was not written by you on this machine, and building it runs code",
        notes=shown,
        help=f"if you trust who made it: --trust, or trust=True in Python; {otherwise}",
    )


def _is_signed(document: Path) -> bool:
    try:
        found = read_bytes(document.parent / SIGNATURE).strip()
        key = _key()
    except OSError:
        return False
    return key is not None and hmac.compare_digest(found, _signature(document, key).encode())


def _signature(document: Path, key: bytes) -> str:
    """The name is part of it: one kind of folder cannot pass for another."""
    content = document.name.encode() + b"\0" + read_bytes(document)
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def _key_file() -> Path:
    state = os.environ.get("XDG_STATE_HOME")
    if not state:
        state = os.path.expanduser("~/.local/state")
        if not os.path.isabs(state):  # a user without an entry, as in many containers
            raise OSError("this user has no home: set XDG_STATE_HOME")
    return Path(state, "fxbio", "key")


def _key() -> bytes | None:
    """The key of this user; ``None`` where there is none, or others could have read or set it."""
    path = _key_file()
    try:
        with require_regular_file(path).open("rb") as stream:
            status = os.fstat(stream.fileno())
            key = stream.read()
    except FileNotFoundError:
        return None
    private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return key if private and len(key) == _KEY_BYTES else None


def _new_key() -> bytes:
    """Make a key; of several processes that do so at once all get the same."""
    path = _key_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = path.with_name(f".key-{os.getpid()}-{secrets.token_hex(4)}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(secrets.token_bytes(_KEY_BYTES))
    try:
        os.link(scratch, path)  # fails where there is one, and never shows half of a key
    except FileExistsError:
        pass
    finally:
        scratch.unlink()
    key = _key()
    if key is None:
        raise OSError(f"the key '{path}' is damaged, or not readable by you alone: remove it")
    return key


def _shown(name: str) -> str:
    """Without control characters, which could hide the rest from a terminal."""
    text = json.dumps(name)[1:-1].replace('\\"', '"')
    more = len(text) - _SHOWN
    return text if more <= 0 else f"{text[:_SHOWN]}… and {more} more characters"
