"""Image files in S3-compatible object stores, read by ``fsspec`` from one prefix of one bucket and nowhere else.

Keys, region and endpoint come from the environment, by the names that Amazon gave them: ``AWS_ACCESS_KEY_ID``, …
"""

from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from model.archive_format import MAX_IMAGE_BYTES
from model.errors import ArchiveError

if TYPE_CHECKING:
    from obstore.fsspec import FsspecStore

SCHEME = "s3://"
RETRIES = 3
PATIENCE = timedelta(seconds=60)  # for one object, retries included


class ObjectFolder:
    """The objects below ``s3://BUCKET/PREFIX``; reading is safe from many threads."""

    def __init__(self, url: str) -> None:
        bucket, _, prefix = url.removeprefix(SCHEME).rstrip("/").partition("/")
        if not url.startswith(SCHEME) or not bucket:
            raise ArchiveError(f"expected {SCHEME}BUCKET or {SCHEME}BUCKET/PREFIX, found {url!r:.80}")
        self._root = f"{bucket}/{prefix}".strip("/")

    def __str__(self) -> str:
        return SCHEME + self._root

    def read(self, name: str) -> bytes:
        """The bytes of the object of this name, of which no more is fetched than an image may have.

        Raises:
            ArchiveError: it is missing, outside the prefix, too large, or cannot be read.
        """
        data = self._fetch(name, MAX_IMAGE_BYTES + 1)
        if len(data) > MAX_IMAGE_BYTES:
            raise ArchiveError(f"expected an object of at most {MAX_IMAGE_BYTES:,} bytes, found more")
        return data

    def check(self, name: str) -> None:
        """Look whether the object is there.

        Raises:
            ArchiveError: it is missing, outside the prefix, or cannot be read.
        """
        self._fetch(name, 1)

    def _fetch(self, name: str, size_bytes: int) -> bytes:
        if not all(part.strip(".") for part in name.split("/")):  # "", "." and ".." are folders to some stores
            raise ArchiveError(f"{name!r:.80} leads out of the folder of the images; it was not read")
        store = self._store
        from obstore.exceptions import BaseError

        try:
            found = store.cat_file(f"{self._root}/{name}", start=0, end=size_bytes)
        except FileNotFoundError as error:
            raise ArchiveError(f"no object {name!r:.80} below {self}") from error
        except (BaseError, OSError) as error:
            raise ArchiveError(f"cannot read the object: {str(error)!r:.300}") from error
        return bytes(found)

    @cached_property
    def _store(self) -> "FsspecStore":
        try:
            from obstore.fsspec import FsspecStore
        except ImportError as error:
            raise ArchiveError(f"{self}: expected the package obstore; pip install 'crossbit[s3]'") from error
        return FsspecStore("s3", retry_config={"max_retries": RETRIES, "retry_timeout": PATIENCE})
