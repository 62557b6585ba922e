"""Failures of the surroundings rather than of the command: told in one line, where Python would print a traceback."""

import errno

FULL = (errno.ENOSPC, errno.EDQUOT)
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
FULL_MESSAGES = ("no space left on device", "database or disk is full")  # of safetensors and SQLite


class ExtraMissing(Exception):
    """A setting asks for something whose packages are not installed; the message says what to install."""


class RemoteFailed(Exception):
    """A service that a command asked over HTTP answered with a problem, or not at all."""


def explain(error: Exception) -> str | None:
    """What is wrong with the disk and what to do about it; None where the failure is another one."""
    code, place = None, ""
    if isinstance(error, OSError):
        code, place = error.errno, f" at {error.filename}" if error.filename else ""
    if code in FULL or any(message in str(error).lower() for message in FULL_MESSAGES):
        return (
            f"no space left on the disk{place}; nothing half-written was left behind, and what was there before still "
            "works; free some space or set CROSSBIT_HOME to a larger disk, then run the command again"
        )
    if code in DENIED:
        return f"may not read or write{place} ({errno.errorcode[code]}); check who owns it, or set CROSSBIT_HOME"
    return None
