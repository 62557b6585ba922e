"""The standalone server of the wheel ``milvus``, started once for the tests of that marker, and engines in it."""

import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient

from index.codes import check_bits
from index.milvus.engine import MilvusEngine
from index.milvus.server import CODE, ROW, MilvusOptions, MilvusServer, Searched

COMPONENTS = ("rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "indexCoord", "dataCoord", "dataNode")
QUICK = {"proxy.timeTickInterval": 20, "queryCoord.checkInterval": 20, "queryCoord.distPullInterval": 20}  # ms
PORTS = [
    "root_coord_port",
    "proxy_port",
    "proxy_internal_port",
    "query_coord_port",
    "query_node_port",
    "index_coord_port",
    "index_node_port",
    "data_coord_port",
    "data_node_port",
    "etcd_port",
]


def make_server(data_dir: Path) -> Any:  # noqa: ANN401 - milvus has no types
    """A server of the wheel on free ports, not started yet; its parts speak to each other over loopback."""
    from milvus import MilvusServer as Standalone
    from milvus import MilvusServerConfig

    config = MilvusServerConfig(data_dir=str(data_dir), **dict(zip(PORTS, free_ports(len(PORTS)), strict=True)))
    for component in COMPONENTS:
        config.set(f"{component}.ip", "127.0.0.1")
    for setting, value in (QUICK | {"log.stdout": "false", "log.level": "warn"}).items():
        config.set(setting, value)
    server = Standalone(config)
    server.webservice_port = free_ports(1)[0]
    return server


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def running(data_dir: Path) -> Iterator[str]:
    """The address of a running server."""
    server = make_server(data_dir)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.listen_port}"
    finally:
        server.stop()


refilled: "list[Refilled]" = []  # that of the session's server, once it runs


def milvus(codes: NDArray[np.uint8]) -> MilvusEngine:
    """An engine over a few codes in the session's server."""
    return refilled[0](codes)


class Refilled:
    """Builds engines over few codes quickly: collections that stay loaded, emptied and filled again for each.

    What ``MilvusServer.publish`` makes takes seconds, too many for each of a thousand examples. An engine is good until
    the next but one of its code length is built.
    """

    def __init__(self, url: str) -> None:
        self._server = MilvusServer(MilvusOptions(url))
        self._client = MilvusClient(url)
        self._collections: dict[int, list[str]] = {}

    def __call__(self, codes: NDArray[np.uint8]) -> MilvusEngine:
        bits = check_bits(codes.shape[1] * 8)
        engine = MilvusEngine(Searched(self._server, self._next(bits)), bits=bits, count=len(codes))
        rows = [{ROW: row, CODE: code.tobytes()} for row, code in enumerate(codes)]
        name = self._collections[bits][0]
        for start in range(0, len(rows), 10_000):
            self._client.insert(name, rows[start : start + 10_000])
        return engine

    def _next(self, bits: int) -> str:
        """An empty loaded collection, of two that take turns: a test may compare two engines."""
        names = self._collections.setdefault(bits, [])
        if len(names) < 2:
            names.insert(0, self._make(bits))
        else:
            names.reverse()
            self._client.delete(names[0], filter=f"{ROW} >= 0")
        return names[0]

    def _make(self, bits: int) -> str:
        name = f"refilled_{uuid.uuid4().hex}"
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(ROW, DataType.INT64, is_primary=True)
        schema.add_field(CODE, DataType.BINARY_VECTOR, dim=bits)
        params = MilvusClient.prepare_index_params()
        params.add_index(CODE, index_type="BIN_FLAT", metric_type="HAMMING")
        self._client.create_collection(name, schema=schema, index_params=params, consistency_level="Strong")
        return name
