"""Writing so that a crash at any moment leaves the old file or the new one, never something in between."""

import os
import shutil
import threading
from pathlib import Path

LEFTOVER = ".tmp"


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by a file with this content: temporary sibling, fsync, rename, fsync of the directory."""
    replace_file(path, data)
    sync(path.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Replace ``path`` by a file with this content, which is durable once its directory is synced too."""
    sibling = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}{LEFTOVER}")
    try:
        sibling.write_bytes(data)
        sync(sibling)
        sibling.replace(path)
    except BaseException:
        sibling.unlink(missing_ok=True)
        raise


def make_directory(path: Path) -> None:
    """Create a directory, durably, unless it is there."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the file's content, or the directory's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(source: Path, target: Path) -> None:
    """Rename a finished file or directory to its final name, durably."""
    source.replace(target)
    sync(target.parent)


def remove_directory(path: Path) -> None:
    """Delete a directory that readers must see whole or not at all: hidden by a rename first, then removed."""
    hidden = path.with_name(path.name + LEFTOVER)
    shutil.rmtree(hidden, ignore_errors=True)
    publish(path, hidden)
    shutil.rmtree(hidden)
