"""What the service holds: models, and for each index one immutable pair (generation, model), swapped as a whole.

A query takes the pair once and keeps it to its end, so it never sees half a swap. A generation's files are closed by
whoever drops the last reference to its pair: the swap, or the last query that still uses it.
"""

import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

from app.batching import Batching
from app.decoding import Decoders
from app.demo import INDEX as DEMO
from app.encode_process import EncodeFailed
from app.engines import Engines
from app.logs import Log
from app.metrics import Metrics
from app.models import LoadHasher, Models, require_modality
from app.problems import Problem, as_problem
from app.settings import Settings
from app.stages import Stage
from index.errors import EngineUnavailable, SearchError
from index.generations import IndexDirectory, list_indexes
from index.snapshot import Snapshot, index_stamp
from model.hasher import Hasher, Modality
from model.manifest import artifact_stamp

log = Log(__name__)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Served:
    """An opened generation with the model that made it."""

    snapshot: Snapshot
    hasher: Hasher | None  # None where the artifact is not there: codes can be searched, nothing can be encoded

    def encoder(self, modality: Modality) -> Hasher:
        """The model, if it encodes this modality.

        Raises:
            Problem: ``model_not_found`` or ``modality_not_supported``.
        """
        manifest = self.snapshot.manifest
        if self.hasher is None:
            raise Problem(
                "model_not_found",
                f"expected the artifact {manifest.artifact!r} that built index {manifest.index!r}, found none that "
                "loads; restore it, rebuild the index with another model, or search by code",
            )
        require_modality(self.hasher, modality, manifest.artifact)
        return self.hasher


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an index that is on disk is not served."""

    code: str
    detail: str


class Runtime:
    """Opens, hands out and swaps what the routes work with. Every method may be called from any thread."""

    def __init__(self, settings: Settings, load_hasher: LoadHasher) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.metrics.watch(self)
        self.models = Models(settings, load_hasher)
        self._engines = Engines(settings)
        limits = settings.limits
        self.encoding = Batching(
            threads=max(1, settings.encode_processes),
            queue=limits.queue,
            batch=settings.encode_batch,
            wait_s=settings.encode_wait_s,
            on_encoded=self.metrics.record_encoded,
        )
        self.loading = Stage("loading", threads=1, queue=limits.queue)
        processes = settings.decode_processes
        self.decoders = Decoders(processes, max_pixels=limits.image_pixels, deadline_s=limits.decode_s)
        self.decoding = Stage("decoding", threads=processes or settings.search_threads, queue=limits.queue)
        self.searching = Stage("searching", threads=settings.search_threads, queue=limits.queue)
        self.editing = Stage("editing", threads=1, queue=limits.queue)  # an index has one writer at a time anyway
        self._swapping = threading.Lock()
        self._indexes: Mapping[str, Served | Refusal] = {}
        self._stamps: dict[str, tuple[int, ...]] = {}  # of the files that were opened, or refused
        self._ready = False
        self._draining = False

    @property
    def ready(self) -> bool:
        """Whether every index on disk was opened or refused, and the service is not about to end."""
        return self._ready and not self._draining

    @property
    def draining(self) -> bool:
        """Whether the service is about to end: it answers what comes, and asks callers to connect elsewhere."""
        return self._draining

    @property
    def awaits_demo(self) -> bool:
        """Whether the index of the demo is wanted and not there yet."""
        return self.settings.demo and self._is_wanted(DEMO) and DEMO not in self._indexes

    def drain(self) -> None:
        """Be ready no more; a signal handler may call this."""
        self._draining = True

    def open_all(self) -> None:
        """Open the indexes, then be ready; one that cannot be served does not keep the others from it."""
        self.decoders.start()
        names = self._names()
        for name in sorted(set(self.settings.indexes or ()) - set(names)):
            log.warning("index_missing", index=name, remedy="build it, or take it out of CROSSBIT_INDEXES")
        for name in names:
            try:
                self._stamps[name] = self._stamp(name)
                self.reload(name)
            except Exception as error:  # also an unforeseen failure concerns this index alone
                self._refuse(name, error)
        self._ready = True
        log.info("service_ready", indexes=len(self.served()), refused=len(self.refused()))

    def served(self) -> dict[str, Served]:
        """The indexes that answer."""
        return {name: entry for name, entry in self._indexes.items() if isinstance(entry, Served)}

    def refused(self) -> dict[str, Refusal]:
        """The indexes that do not, with the reasons."""
        return {name: entry for name, entry in self._indexes.items() if isinstance(entry, Refusal)}

    def index(self, name: str | None) -> Served:
        """The pair that answers for this index now; without a name the default index, or the only one.

        Raises:
            Problem: ``not_ready``, ``index_not_found``, ``invalid_request`` (no name where one is needed), or the
                reason for which the index is refused.
        """
        name = name if name is not None else self._default_name()
        match self._indexes.get(name):
            case Served() as served:
                return served
            case Refusal(code, detail):
                raise Problem(code, detail)
        if not self._ready:
            raise Problem("not_ready", f"index {name!r} is not open yet; try again when /readyz answers 200")
        known = ", ".join(self._indexes) or "none"
        raise Problem("index_not_found", f"expected the name of an index, found {name!r}; known: {known}")

    def reload(self, name: str) -> None:
        """Serve the generation that the index's pointer names; on any error the old one goes on serving."""
        if self._is_wanted(name):
            with self._swapping:
                self._swap(name, self._open(name))

    def refresh(self) -> None:
        """Serve what other processes built, activated, appended, deleted or compacted; costs a few looks at files.

        An index that is new is served, one whose folder is gone is not any more, and one that waits for its model
        is tried again when the artifact changes. Queries in flight end on what they began with.
        """
        for name in self._names():
            try:
                self.follow(name)
            except Exception as error:  # what serves goes on serving until the files change again
                if isinstance(self._indexes.get(name), Served):
                    log.error("index_not_refreshed", index=name, reason=str(error), exc_info=error)
                    self._forget_if_unavailable(name, error)
                else:
                    self._refuse(name, error)
        self._drop_gone()
        self.models.forget(used=[served.hasher for served in self.served().values() if served.hasher is not None])

    def follow(self, name: str) -> None:
        """Serve the index as it is on disk: what was written before this call is in every answer after it."""
        path = self.settings.indexes_dir / name
        with self._swapping:  # also where nothing changed: another thread may be about to serve what it has read
            stamp = self._stamp(name)
            if stamp == self._stamps.get(name):
                return
            self._stamps[name] = stamp
            pointer, entry = IndexDirectory(path).current(), self._indexes.get(name)
            if (
                not isinstance(entry, Served)
                or entry.hasher is None
                or pointer is None
                or pointer.generation != entry.snapshot.generation
            ):
                self._swap(name, self._open(name))
                return
            newer = entry.snapshot.newer()
            if newer is not None:
                self._indexes = {**self._indexes, name: self._pair(newer, entry.hasher)}
                log.info("index_edited", index=name, position=newer.position, items=newer.item_count)

    def rollback(self, name: str, generation: int | None) -> Served:
        """Point the index to an earlier generation, the newest one below the current if none is given, and serve it.

        Raises:
            GenerationNotFound: there is no such generation.
            ModelMismatch: the model that made it is gone; nothing changes.
        """
        with self._swapping:
            directory = IndexDirectory(self.settings.indexes_dir / name)
            served = self._open(name, directory.previous() if generation is None else generation)
            directory.activate(served.snapshot.generation)
            self._swap(name, served)
            return served

    def close(self) -> None:
        """Wait for running work, then drop every index."""
        for stage in (self.loading, self.decoding, self.encoding, self.searching, self.editing):
            stage.close()
        self.decoders.close()
        self._indexes = {}

    def _names(self) -> list[str]:
        return [name for name in list_indexes(self.settings.indexes_dir) if self._is_wanted(name)]

    def _is_wanted(self, name: str) -> bool:
        return self.settings.indexes is None or name in self.settings.indexes

    def _stamp(self, name: str) -> tuple[int, ...]:
        """Changes with the files of the index and, while it has no model that serves it, with the artifact."""
        path, entry = self.settings.indexes_dir / name, self._indexes.get(name)
        stamp = index_stamp(path)
        if isinstance(entry, Served) and entry.hasher is not None:
            return stamp
        try:
            pointer = IndexDirectory(path).current()
        except SearchError:  # opening it says what is wrong
            return stamp
        return stamp if pointer is None else (*stamp, *artifact_stamp(self.settings.artifacts_dir / pointer.artifact))

    def _open(self, name: str, generation: int | None = None) -> Served:
        settings = self.settings
        engine = self._engines.of(name)
        snapshot = Snapshot.open(settings.indexes_dir / name, generation, engine=engine, verify=settings.verify_on_open)
        return self._pair(snapshot, self._hasher_for(snapshot))

    def _pair(self, snapshot: Snapshot, hasher: Hasher | None) -> Served:
        served = Served(snapshot, hasher)
        try:
            snapshot.warm()
        except Exception:  # a search server may be away
            snapshot.close()
            raise
        weakref.finalize(served, snapshot.close)
        return served

    def _hasher_for(self, snapshot: Snapshot) -> Hasher | None:
        manifest = snapshot.manifest
        try:
            return self.models.get(manifest.artifact, manifest.bits, fingerprint=manifest.fingerprint)
        except Problem as problem:
            log.warning("index_without_model", index=manifest.index, model=manifest.artifact, reason=problem.detail)
            return None
        except Exception:
            snapshot.close()
            raise

    def _swap(self, name: str, served: Served) -> None:
        self._indexes = dict(sorted({**self._indexes, name: served}.items()))
        manifest = served.snapshot.manifest
        log.info("index_swapped", index=name, generation=manifest.generation, model=manifest.artifact)
        try:
            self._engines.activate(served.snapshot, self.settings.indexes_dir / name)
        except EngineUnavailable as error:  # no query looks at the alias
            log.warning("alias_not_moved", index=name, generation=manifest.generation, reason=str(error))

    def _drop_gone(self) -> None:
        with self._swapping:  # a rebuild may serve an index that was not there a moment ago
            there = self._names()
            gone = [name for name in self._indexes if name not in there]
            if gone:
                self._indexes = {name: entry for name, entry in self._indexes.items() if name in there}
        for name in gone:
            self._stamps.pop(name, None)
            log.warning("index_dropped", index=name, reason="it is not on disk any more")

    def _forget_if_unavailable(self, name: str, error: Exception) -> None:
        """Have the next look try again: its files do not change when a search server or an encoding process is back."""
        if isinstance(error, EngineUnavailable | EncodeFailed):
            self._stamps.pop(name, None)

    def _refuse(self, name: str, error: Exception) -> None:
        self._forget_if_unavailable(name, error)
        problem = as_problem(error) or Problem("internal", "the index failed to open; the service's log has the reason")
        log.error("index_refused", index=name, code=problem.code, reason=str(error), exc_info=error)
        with self._swapping:
            self._indexes = dict(sorted({**self._indexes, name: Refusal(problem.code, problem.detail)}.items()))

    def _default_name(self) -> str:
        if self.settings.default_index is not None:
            return self.settings.default_index
        if not self._ready:
            raise Problem("not_ready", "the indexes are not open yet; try again when /readyz answers 200")
        names = list(self._indexes)
        if len(names) != 1:
            known = ", ".join(names) or "none"
            raise Problem("invalid_request", f"index: expected a name, as there is not exactly one; known: {known}")
        return names[0]
