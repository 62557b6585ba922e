"""``items/``: what appended items were made from, each file under the SHA-256 of its bytes.

A later model encodes the items again from here, so nothing that a record of the log names is ever removed.
"""

import hashlib
from collections.abc import Collection, Iterable
from pathlib import Path

from index.durable import make_directory, replace_file, sync
from index.errors import IndexCorrupt

ITEMS_FOLDER = "items"


class Originals:
    """The folder ``items`` of one index; it need not exist yet."""

    def __init__(self, index_dir: Path) -> None:
        self.path = index_dir / ITEMS_FOLDER

    def file(self, digest: str) -> Path:
        """Where the bytes with this SHA-256 (hex) are, or would be."""
        return self.path / digest[:2] / digest

    def keep(self, contents: Iterable[bytes]) -> list[str]:
        """Store some bytes each, durably, and return their digests; what is there already is written again."""
        by_digest: dict[str, bytes] = {}
        digests = []
        for content in contents:
            digest = hashlib.sha256(content).hexdigest()
            by_digest[digest] = content
            digests.append(digest)
        folders = sorted({self.file(digest).parent for digest in by_digest})
        if folders:
            make_directory(self.path)
        for folder in folders:
            make_directory(folder)
        for digest, content in by_digest.items():
            replace_file(self.file(digest), content)
        for folder in folders:
            sync(folder)
        return digests

    def read(self, digest: str) -> bytes:
        """The bytes with this digest.

        Raises:
            IndexCorrupt: the file is missing or altered.
        """
        path = self.file(digest)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise IndexCorrupt(f"cannot read {path}: {error.strerror}; restore it or append the item again") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise IndexCorrupt(f"{path} does not match its name, which is its checksum; restore it or append again")
        return content

    def collect(self, kept: Collection[str]) -> int:
        """Delete every file but these, and what interrupted writers left; returns how many went."""
        found = [path for path in sorted(self.path.glob("??/*")) if path.name not in kept]
        for path in found:
            path.unlink()
        return len(found)
