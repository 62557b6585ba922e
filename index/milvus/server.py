"""A Milvus server that holds generations: one collection a column, an alias a column of the one that serves.

A column is taken over under another name, indexed, loaded, read back and compared by checksum, and only then gets its
name: who dies on the way leaves a collection that nobody reads, and of two that take over the same column one wins.
"""

import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.client.types import LoadState

from index.errors import EngineUnavailable, IndexCorrupt, IndexNotFound
from index.generation import Generation
from index.manifest import MODALITIES
from index.milvus.contents import Description, content_digest
from index.milvus.engine import MilvusEngine, Near
from index.transfer import IdAndCode, checksum, ids_and_codes

ROW, ID, CODE = "row", "id", "code"  # fields of a collection
MAX_ID_BYTES = 65_535
BATCH_ROWS, BATCH_BYTES = 8192, 2**20  # of one insert; message queues behind Milvus take 5 MB
READ_ROWS = 8192
POLL_S = 0.1
PAUSES_S = (0.5, 30.0)  # shortest and longest wait before an insert is tried again
MAX_LISTS = 65_536

T = TypeVar("T")
Progress: TypeAlias = Callable[[int], None]  # hears of the codes that were sent or read

logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it prints a traceback for every error that it also raises


@dataclass(frozen=True, slots=True)
class MilvusOptions:
    """Where the server is and how it searches."""

    url: str
    token: str = ""
    prefix: str = "crossbit"  # of the names of all collections and aliases
    index: Literal["BIN_FLAT", "BIN_IVF_FLAT"] = "BIN_FLAT"
    lists: int = 1024  # of BIN_IVF_FLAT
    probes: int | None = None  # lists that a search looks into; none: all, which is exact
    timeout_s: float = 10.0  # of one call, further tries included
    ready_s: float = 3600.0  # of taking over one column, and of loading one

    def build_params(self) -> dict[str, int]:
        """Parameters of the index."""
        return {"nlist": self.lists} if self.index == "BIN_IVF_FLAT" else {}

    def search_params(self) -> dict[str, int]:
        """Parameters of a search."""
        return {"nprobe": self.probes or self.lists} if self.index == "BIN_IVF_FLAT" else {}


class MilvusServer:
    """One server; connects at the first call, and may be used from any thread."""

    def __init__(self, options: MilvusOptions) -> None:
        self.options = options
        self._connecting = threading.Lock()

    def open(self, generation: Generation, modality: str) -> MilvusEngine:
        """The engine over a column of a generation, which is taken over first if it is not there yet.

        Raises:
            EngineUnavailable: the server does not answer, or is not ready in time.
            IndexCorrupt: what it holds is not the column.
        """
        name = self.publish(generation, modality)
        manifest = generation.manifest
        return MilvusEngine(Searched(self, name), bits=manifest.bits, count=manifest.columns[modality].count)

    def publish(self, generation: Generation, modality: str, progress: Progress = lambda count: None) -> str:
        """Take a column over if it is not there yet, wait until it is indexed and loaded; returns its collection."""
        name = self.collection_name(generation, modality)
        if not self._has(name):
            self._take_over(generation, modality, name, progress)
        self._load(name, generation.manifest.columns[modality].count)
        return name

    def collection_name(self, generation: Generation, modality: str) -> str:
        """Name of a column's collection: other contents have another name, as have other parameters of the index."""
        manifest, options = generation.manifest, self.options
        kind = "flat" if options.index == "BIN_FLAT" else f"ivf{options.lists}"
        digest = content_digest(generation, modality)
        return f"{self._alias(manifest.index, modality)}_{manifest.generation:06d}_{kind}_{digest}"

    def activate(self, generation: Generation, kept: Container[int]) -> None:
        """Point the aliases to the collections of a generation, and drop those of generations that are not kept."""
        index = generation.manifest.index
        collections = self.call("list collections", self._client.list_collections)
        for modality in MODALITIES:
            alias = self._alias(index, modality)
            if modality in generation.columns:
                self._point(alias, self.collection_name(generation, modality))
            elif self._has(alias):
                self.call("drop an alias", self._client.drop_alias, alias)
            name = re.compile(rf"{alias}_(\d{{6,12}})_(flat|ivf\d+)_[0-9a-f]{{12}}(_[0-9a-f]{{8}})?")
            for collection in collections:
                match = name.fullmatch(collection)
                if match and int(match[1]) not in kept:
                    self.call("drop a collection", self._client.drop_collection, collection)

    def current(self, index: str) -> dict[str, Description]:
        """The columns that the aliases of an index point to, by modality.

        Raises:
            IndexNotFound: there are none.
        """
        found = {}
        for modality in MODALITIES:
            alias = self._alias(index, modality)
            if self._has(alias):
                found[modality] = self.describe(alias)
        if not found:
            raise IndexNotFound(
                f"expected index {index!r} under the prefix {self.options.prefix!r} of Milvus at {self.options.url}, "
                "found no alias of it; export it first"
            )
        return found

    def version(self) -> str:
        """Version of the server."""
        version: str = self.call("tell its version", self._client.get_server_version)
        return version

    def describe(self, name: str) -> Description:
        """What a collection, or the one that an alias points to, says about itself."""
        described = self.call("describe a collection", self._client.describe_collection, name)
        return Description.from_json(described["description"], name)

    def read(self, index: str, modality: str, progress: Progress = lambda count: None) -> Iterator[IdAndCode]:
        """Every (id, code) of the column that the alias points to, in id order."""
        alias = self._alias(index, modality)
        count = self.describe(alias).count
        self._load(alias, count)
        return self._pairs(alias, count, progress)

    def call(
        self,
        what: str,
        function: Callable[..., T],
        *args: object,
        timeout_s: float | None = None,
        **options: object,
    ) -> T:
        """One call, with further tries while the server is away or asks to slow down.

        Raises:
            EngineUnavailable: it failed, or took longer than ``timeout_s``, by default that of the options.
        """
        timeout_s = timeout_s or self.options.timeout_s
        try:
            return function(*args, timeout=timeout_s, **options)
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
            raise EngineUnavailable(
                f"expected Milvus at {self.options.url} to {what} within {timeout_s:g} s, found: "
                f"{_reason(error)}; see that it runs and has room"
            ) from error

    def _has(self, name: str) -> bool:
        """Whether there is a collection or alias of that name."""
        has: bool = self.call("look for a collection", self._client.has_collection, name)
        return has

    @cached_property
    def _connected(self) -> MilvusClient:
        return self.call("let us in", MilvusClient, self.options.url, token=self.options.token)

    @property
    def _client(self) -> MilvusClient:
        with self._connecting:
            return self._connected

    def search(self, name: str, queries: NDArray[np.uint8], limit: int, *, where: str, radius: int | None) -> Near:
        """See ``index.milvus.engine.Collection``."""
        params = self.options.search_params()
        if radius is not None and self.options.index == "BIN_FLAT":
            params["radius"] = radius + 1  # Milvus means strictly less
        found = self.call(
            "search",
            self._client.search,
            name,
            [query.tobytes() for query in queries],
            anns_field=CODE,
            limit=limit,
            filter=where,
            search_params={"metric_type": "HAMMING", "params": params},
        )
        near = Near(
            np.repeat(np.arange(len(queries)), [len(hits.ids) for hits in found]),
            np.array([row for hits in found for row in hits.ids], dtype=np.int64),
            np.array([distance for hits in found for distance in hits.distances], dtype=np.int32),
        )
        # by radius, BIN_IVF_FLAT of 2.3.5 misses entries even where all lists are probed; by rank it does not
        return near if radius is None else near.only(near.distance <= radius)

    def _take_over(self, generation: Generation, modality: str, name: str, progress: Progress) -> None:
        description = Description.of(generation, modality)
        unfinished = f"{name}_{secrets.token_hex(4)}"
        self._create(unfinished, description)
        try:
            for batch in _batches(ids_and_codes(generation, modality)):
                self._insert(unfinished, batch)
                progress(len(batch))
            self.call("flush", self._client.flush, unfinished, timeout_s=self.options.ready_s)
            self._index(unfinished, description.count)
            self._load(unfinished, description.count)
            self._check(unfinished, description)
            self.call("rename a collection", self._client.rename_collection, unfinished, name)
        except BaseException:
            self._drop_unfinished(unfinished)
            if not self._has(name):  # else another process was quicker
                raise

    def _create(self, name: str, description: Description) -> None:
        schema = MilvusClient.create_schema(
            auto_id=False, enable_dynamic_field=False, description=description.to_json()
        )
        schema.add_field(ROW, DataType.INT64, is_primary=True)
        schema.add_field(ID, DataType.VARCHAR, max_length=MAX_ID_BYTES)
        schema.add_field(CODE, DataType.BINARY_VECTOR, dim=description.bits)
        create = self._client.create_collection
        self.call("create a collection", create, name, schema=schema, consistency_level="Eventually")

    def _insert(self, name: str, batch: Sequence[dict[str, object]]) -> None:
        """Send rows; a server that is full or away is given time."""
        pause, longest = PAUSES_S
        deadline, send = time.monotonic() + self.options.ready_s, self._client.insert
        while True:
            try:
                self.call("take rows", send, name, batch)
                return
            except EngineUnavailable:
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, longest)
            send = self._client.upsert  # the rows may be there already

    def _index(self, name: str, count: int) -> None:
        """Build the index before anything is loaded: what was loaded without it would be searched 80 times slower."""
        params = MilvusClient.prepare_index_params()
        params.add_index(CODE, index_type=self.options.index, metric_type="HAMMING", params=self.options.build_params())
        self.call("build an index", self._client.create_index, name, params, sync=False)

        def is_built() -> bool:
            state = self.call("describe an index", self._client.describe_index, name, CODE)
            is_done: bool = state["state"] == "Finished" and not state["pending_index_rows"]
            return is_done and int(state["indexed_rows"]) >= count

        self._wait("be indexed", name, is_built)

    def _load(self, name: str, count: int) -> None:
        """Have every segment in memory with its index; returns at once where it is."""
        self.call("load a collection", self._client.load_collection, name, _async=True)

        def is_loaded() -> bool:
            state = self.call("say what is loaded", self._client.get_load_state, name)["state"]
            return state is LoadState.Loaded and self._loaded_rows(name) >= count

        self._wait("be loaded", name, is_loaded)
        counted = self.call("count", self._client.query, name, output_fields=["count(*)"], consistency_level="Strong")
        found = counted[0]["count(*)"]
        if found != count:
            raise IndexCorrupt(f"collection {name}: expected {count:,} codes, found {found:,}; drop it")

    def _loaded_rows(self, name: str) -> int:
        """Rows of the segments that are in memory."""
        segments = self.call("list segments", self._client.list_loaded_segments, name)
        return sum(segment.num_rows for segment in segments)

    def _check(self, name: str, description: Description) -> None:
        found = checksum(self._pairs(name, description.count))
        if found != description.checksum:
            raise IndexCorrupt(
                f"collection {name}: expected (id, code) of checksum {description.checksum}, read back {found}; "
                "try again"
            )

    def _pairs(self, name: str, count: int, progress: Progress = lambda count: None) -> Iterator[IdAndCode]:
        for first in range(0, count, READ_ROWS):
            found = self.call(
                "read rows",
                self._client.query,
                name,
                filter=f"{ROW} >= {first} and {ROW} < {first + READ_ROWS}",
                output_fields=[ROW, ID, CODE],
            )
            rows = sorted(found, key=lambda row: row[ROW])
            if [row[ROW] for row in rows] != list(range(first, min(first + READ_ROWS, count))):
                raise IndexCorrupt(f"collection {name}: expected each row from {first} on once; drop it and try again")
            for row in rows:
                code = row[CODE]
                yield row[ID], code[0] if isinstance(code, list) else code
            progress(len(rows))

    def _wait(self, what: str, name: str, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.options.ready_s
        while not is_done():
            if time.monotonic() > deadline:
                raise EngineUnavailable(
                    f"expected collection {name} of Milvus at {self.options.url} to {what} within "
                    f"{self.options.ready_s:g} s; look at its log, or give it longer"
                )
            time.sleep(POLL_S)

    def _point(self, alias: str, name: str) -> None:
        if self._has(alias):
            self.call("move an alias", self._client.alter_alias, name, alias)
        else:
            self.call("create an alias", self._client.create_alias, name, alias)

    def _drop_unfinished(self, name: str) -> None:
        try:
            self.call("drop a collection", self._client.drop_collection, name)
        except EngineUnavailable:
            return  # dropped with its generation

    def _alias(self, index: str, modality: str) -> str:
        """Milvus takes no dashes, and names of indexes have no capitals."""
        return f"{self.options.prefix}_{index.replace('-', 'D')}_{modality}"


@dataclass(frozen=True, slots=True)
class Searched:
    """One loaded collection of a server."""

    server: MilvusServer
    name: str

    def search(self, queries: NDArray[np.uint8], limit: int, *, where: str, radius: int | None = None) -> Near:
        """See ``index.milvus.engine.Collection``."""
        return self.server.search(self.name, queries, limit, where=where, radius=radius)


def _batches(pairs: Iterator[IdAndCode]) -> Iterator[list[dict[str, object]]]:
    batch: list[dict[str, object]] = []
    size = 0
    for row, (item_id, code) in enumerate(pairs):
        batch.append({ROW: row, ID: item_id, CODE: code})
        size += len(code) + len(item_id) * 4 + 16
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _reason(error: Exception) -> str:
    message = getattr(error, "message", None) or (error.details() if isinstance(error, grpc.Call) else str(error))
    return f"{type(error).__name__}: {str(message).splitlines()[0] if message else 'no answer'}"
