"""API keys: two roles, known by SHA-256 digests, so that neither settings nor logs nor a core of them tell a key.

A key is 256 random bits, so a plain digest is as good as a slow one: there is nothing to guess.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from app.roles import Role
from app.settings import Settings

PREFIX = "crossbit_"  # lets secret scanners and people see what a leaked string is
DIGEST = re.compile(r"[0-9a-f]{64}")


class KeysFileError(Exception):
    """The keys file cannot be read, or a line of it is not a key; the message names the line and never shows it."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The digests of every key; without any, everybody who reaches the service may do everything."""

    digests: tuple[tuple[str, Role], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.digests)

    def role_of(self, key: str) -> Role | None:
        """The role of a key, None for an unknown one, in a time that tells nothing about how near it came."""
        digest, role = digest_of(key), None
        for known, its_role in self.digests:  # to the end, whatever matched
            if hmac.compare_digest(known, digest):
                role = its_role
        return role


def load_keys(settings: Settings) -> KeyRing:
    """The keys of the settings and of the keys file.

    Raises:
        KeysFileError: the file is missing or malformed.
    """
    digests = [(digest, Role.QUERY) for digest in settings.keys.query]
    digests += [(digest, Role.ADMIN) for digest in settings.keys.admin]
    if settings.keys_file is not None:
        digests += _read_keys(settings.keys_file)
    return KeyRing(tuple(sorted(digests, key=lambda one: one[1] is Role.ADMIN)))  # of two roles, the higher one


def new_key() -> str:
    """A key that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """SHA-256 (hex) of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def _read_keys(path: Path) -> list[tuple[str, Role]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KeysFileError(f"cannot read the keys file {path}: {getattr(error, 'strerror', 'not UTF-8')}") from error
    return [_parse(path, number, line) for number, line in enumerate(lines, 1) if line.split("#")[0].strip()]


def _parse(path: Path, number: int, line: str) -> tuple[str, Role]:
    role, _, digest = line.split("#")[0].strip().partition(" ")
    if role not in set(Role) or not DIGEST.fullmatch(digest.strip()):
        raise KeysFileError(
            f"{path}, line {number}: expected `query DIGEST` or `admin DIGEST`, where DIGEST is 64 hex digits as "
            "`crossbit key` prints them, found something else"
        )
    return digest.strip(), Role(role)
