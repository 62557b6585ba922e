"""The generations of one index on disk, and the pointer that says which one serves."""

import re
import shutil
from pathlib import Path

from index.durable import LEFTOVER, make_directory, publish, remove_directory, sync
from index.errors import GenerationNotFound, IndexCorrupt, IndexNotFound, InvalidIndexName, SearchError
from index.lock import writing
from index.manifest import FORMAT, MANIFEST, GenerationManifest, Pointer

CURRENT = "CURRENT"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
DIRECTORY = re.compile(r"generation-(\d{6,12})(\.tmp)?")


def check_index_name(name: str) -> str:
    """Return the name if an index can have it; one that could leave its folder cannot.

    Raises:
        InvalidIndexName: it cannot.
    """
    if not NAME.fullmatch(name):
        raise InvalidIndexName(
            f"expected an index name of 1 to 64 characters a-z, 0-9, _ or -, starting with a letter or digit, "
            f"found {name!r:.80}"
        )
    return name


def list_indexes(indexes_dir: Path) -> list[str]:
    """Names of the indexes that have an active generation, sorted."""
    return sorted(path.parent.name for path in indexes_dir.glob(f"*/{CURRENT}") if NAME.fullmatch(path.parent.name))


class IndexDirectory:
    """``<name>/CURRENT`` and ``<name>/generation-000012/``; the directory need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.name = check_index_name(path.name)
        self.path = path

    def generation_path(self, generation: int) -> Path:
        """Where a generation of that number is, or would be."""
        return self.path / f"generation-{generation:06d}"

    def generations(self) -> list[int]:
        """Numbers of the finished generations, ascending."""
        return sorted(number for number, is_leftover in self._numbers() if not is_leftover)

    def next_number(self) -> int:
        """One above every generation, finished or not: a number is never used for two."""
        return max((number for number, _ in self._numbers()), default=0) + 1

    def reserve(self) -> int:
        """Take the next number by creating its unfinished directory, which survives a crash."""
        self._create()
        while True:
            number = self.next_number()
            try:
                self._unfinished(number).mkdir()
            except FileExistsError:  # another process took it a moment ago
                continue
            sync(self.path)
            return number

    def manifest(self, generation: int) -> GenerationManifest:
        """The manifest of a finished generation.

        Raises:
            GenerationNotFound: there is none of that number.
            IndexCorrupt: the manifest is damaged, or is that of another generation.
        """
        path = self.generation_path(generation)
        if not path.is_dir():
            known = ", ".join(map(str, self.generations())) or "none"
            raise GenerationNotFound(f"index {self.name!r} has no generation {generation}; it has: {known}")
        manifest = GenerationManifest.load(path / MANIFEST)
        if manifest.generation != generation:
            raise IndexCorrupt(
                f"{path / MANIFEST}: expected generation {generation}, found {manifest.generation}; "
                "restore it or rebuild the index"
            )
        return manifest

    def current_manifest(self) -> GenerationManifest:
        """The manifest of the generation that serves.

        Raises:
            IndexNotFound: no generation is active.
            IndexCorrupt: the pointer or the manifest is damaged, or they do not belong together.
        """
        pointer, path = self.current(), self.path / CURRENT
        if pointer is None:
            raise IndexNotFound(f"there is no index {self.name!r} with an active generation; build it first")
        try:
            manifest = self.manifest(pointer.generation)
        except GenerationNotFound as error:
            raise IndexCorrupt(f"{path} names a generation that is missing: {error}; roll back or rebuild") from error
        if (manifest.fingerprint, manifest.artifact) != (pointer.fingerprint, pointer.artifact):
            raise IndexCorrupt(
                f"{path} names the artifact {pointer.artifact!r} ({pointer.fingerprint}), but generation "
                f"{pointer.generation} was made by {manifest.artifact!r} ({manifest.fingerprint}); roll back or rebuild"
            )
        return manifest

    def current(self) -> Pointer | None:
        """The pointer, or none before the first activation.

        Raises:
            IndexCorrupt: the file is damaged.
            IndexFormatUnsupported: it was written by a newer version.
        """
        path = self.path / CURRENT
        return Pointer.load(path) if path.exists() else None

    def activate(self, generation: int) -> Pointer:
        """Make a generation, with the artifact that made it, the one that serves: one atomic rename.

        Raises:
            GenerationNotFound: there is none of that number.
            IndexCorrupt: its manifest is damaged.
            IndexLocked: another writer is at work.
        """
        self.manifest(generation)  # also where there is no index at all
        with writing(self.path):
            return self.point_to(generation)

    def point_to(self, generation: int) -> Pointer:
        """``activate`` for who holds the writer's lock already."""
        manifest = self.manifest(generation)
        pointer = Pointer(FORMAT, manifest.artifact, manifest.fingerprint, generation)
        pointer.save(self.path / CURRENT)
        return pointer

    def previous(self) -> int:
        """The newest generation below the current one.

        Raises:
            IndexNotFound: no generation is active.
            GenerationNotFound: the current one is the oldest.
        """
        current = self.current()
        if current is None:
            raise IndexNotFound(f"index {self.name!r} has no active generation; build it first")
        older = [number for number in self.generations() if number < current.generation]
        if not older:
            raise GenerationNotFound(
                f"index {self.name!r} has no generation below the current one, {current.generation}; nothing changed"
            )
        return older[-1]

    def rollback(self, generation: int | None = None) -> Pointer:
        """Activate a generation again, ``previous()`` if none is given.

        Raises:
            IndexNotFound, GenerationNotFound, IndexCorrupt, IndexLocked: nothing changed.
        """
        return self.activate(self.previous() if generation is None else generation)

    def prune(self, keep: int = 2, *, leftovers: bool = False) -> list[int]:
        """Delete all but the newest ``keep`` generations and the current one; returns the numbers deleted, ascending.

        ``leftovers`` also deletes what interrupted writers left; only for when no writer is at work on this index.
        """
        if keep < 1:
            raise SearchError(f"expected to keep at least 1 generation, found {keep}")
        current = self.current()
        kept = {*self.generations()[-keep:], *([] if current is None else [current.generation])}
        removed = [number for number in self.generations() if number not in kept]
        for number in removed:
            remove_directory(self.generation_path(number))
        if leftovers:
            self._remove_leftovers()
        return removed

    def discard(self, generation: int) -> None:
        """Delete a generation that never served, finished or not; one that is not there is no error.

        Raises:
            SearchError: it is the current one.
        """
        current = self.current()
        if current is not None and current.generation == generation:
            raise SearchError(f"generation {generation} of index {self.name!r} serves; activate another one first")
        shutil.rmtree(self._unfinished(generation), ignore_errors=True)
        if self.generation_path(generation).is_dir():
            remove_directory(self.generation_path(generation))

    def publish(self, generation: int) -> None:
        """Give the finished directory of a reserved generation its final name, durably."""
        publish(self._unfinished(generation), self.generation_path(generation))

    def fresh(self, generation: int) -> Path:
        """An empty unfinished directory for a reserved generation; what an earlier attempt left in it is dropped."""
        self._create()
        path = self._unfinished(generation)
        if path.exists():
            shutil.rmtree(path)
        path.mkdir()
        return path

    def _create(self) -> None:
        make_directory(self.path)

    def _unfinished(self, generation: int) -> Path:
        path = self.generation_path(generation)
        return path.with_name(path.name + LEFTOVER)

    def _numbers(self) -> list[tuple[int, bool]]:
        matches = [DIRECTORY.fullmatch(path.name) for path in self.path.glob("generation-*") if path.is_dir()]
        return [(int(match[1]), match[2] is not None) for match in matches if match]

    def _remove_leftovers(self) -> None:
        for path in self.path.glob(f"*{LEFTOVER}"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
