"""What `/metrics` tells, in a registry of its own, so that two applications in one process do not mix.

Labels are bounded: methods are those of HTTP, routes are templates and not paths, statuses, problem codes, stages,
modalities and outcomes are fixed lists; indexes, columns and models are those on the operator's disk. Nothing that a
request carries becomes a label.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from model.hasher import EncodedBatch, Modality
from model.margins import near_zero_bits

if TYPE_CHECKING:
    from app.runtime import Runtime

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
REQUEST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STAGE_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
REBUILD_S = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
INPUTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TIE_SIZES = (1, 2, 5, 10, 25, 100, 1000, 10_000, 100_000)


class Metrics:
    """What is counted as it happens; ``watch`` adds what is read off the runtime when somebody asks."""

    def __init__(self) -> None:
        # else each series has a second one with its age; the package leaves this function without types
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "http_requests_total",
            "Answered requests; a route is a template, empty for files of the page, unknown paths and missing keys.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._request_s = Histogram(
            "http_request_duration_seconds",
            "Time from the first byte of a request to the last of its answer.",
            ["route"],
            buckets=REQUEST_S,
            registry=self.registry,
        )
        self._rejected = Counter(
            "rejected_total", "Requests answered with a problem, by its code.", ["code"], registry=self.registry
        )
        self._stage_s = Histogram(
            "stage_duration_seconds",
            "Time of a query in each stage: queue (waiting for a thread, over all stages), decode, encode, search.",
            ["stage"],
            buckets=STAGE_S,
            registry=self.registry,
        )
        self._batch_sizes = Histogram(
            "encode_batch_size",
            "Inputs that were encoded together.",
            ["modality"],
            buckets=INPUTS,
            registry=self.registry,
        )
        self._near_zero = Counter(
            "code_near_zero_bits_total",
            "Bits of encoded queries whose margin is under a thousandth of their code's mean margin.",
            registry=self.registry,
        )
        self._tie_sizes = Histogram(
            "search_tie_group_size",
            "Items at one distance from the query, for each distance on a page of hits.",
            buckets=TIE_SIZES,
            registry=self.registry,
        )
        self._rebuilt = Counter(
            "rebuild_items_total",
            "Items that rebuilds handled: encoded, reused (the code was taken over) or skipped.",
            ["outcome"],
            registry=self.registry,
        )
        self._shards = Counter(
            "rebuild_shards_total", "Shards of rebuilds that this process has finished.", registry=self.registry
        )
        self._beat_age_s = Gauge(
            "worker_beat_age_seconds",
            "Time since the worker in this process last gave a sign of life to the others.",
            ["worker"],
            registry=self.registry,
        )
        self._rebuild_s = Histogram(
            "rebuild_duration_seconds",
            "Time from the start or resumption of a rebuild to its swap.",
            buckets=REBUILD_S,
            registry=self.registry,
        )
        self._rebuilds_failed = Counter(
            "rebuilds_failed_total", "Rebuilds that failed; the old generation goes on serving.", registry=self.registry
        )
        ProcessCollector(registry=self.registry)

    def watch(self, runtime: "Runtime") -> None:
        """Also tell what this runtime holds."""
        self.registry.register(_RuntimeCollector(runtime))

    def watch_worker(self, name: str, beat_age_s: Callable[[], float]) -> None:
        """Also tell when the worker in this process last gave a sign of life."""
        self._beat_age_s.labels(name).set_function(beat_age_s)

    def render(self) -> bytes:
        """Everything, in the Prometheus text format."""
        return prometheus_client.generate_latest(self.registry)

    def record_request(
        self, *, method: str, route: str, status: int | None, problem: str | None, seconds: float
    ) -> None:
        """Count an answered request; ``status`` is None where the caller left before the answer."""
        method = method if method in METHODS else "other"
        self._requests.labels(method, route, "none" if status is None else str(status)).inc()
        self._request_s.labels(route).observe(seconds)
        if problem is not None:
            self._rejected.labels(problem).inc()

    def record_stage(self, stage: str, seconds: float) -> None:
        """Count the time that a query spent in a stage."""
        self._stage_s.labels(stage).observe(seconds)

    def record_encoded(self, modality: Modality, batch: EncodedBatch) -> None:
        """Count one call of an encoder."""
        self._batch_sizes.labels(modality.value).observe(len(batch))
        self._near_zero.inc(int(near_zero_bits(batch).sum()))

    def record_tie_group(self, size: int) -> None:
        """Count a tie group that an answer shows."""
        self._tie_sizes.observe(size)

    def record_rebuilt(self, *, encoded: int, reused: int, skipped: int) -> None:
        """Count a shard that a rebuild has finished, and its items."""
        self._shards.inc()
        for outcome, items in (("encoded", encoded), ("reused", reused), ("skipped", skipped)):
            self._rebuilt.labels(outcome).inc(items)

    def record_rebuild(self, seconds: float) -> None:
        """Count a rebuild that has swapped."""
        self._rebuild_s.observe(seconds)

    def record_failed_rebuild(self) -> None:
        """Count a rebuild that has failed."""
        self._rebuilds_failed.inc()


class _RuntimeCollector(Collector):
    """Reads figures off the runtime at each scrape, so that what is gone is not told any more."""

    def __init__(self, runtime: "Runtime") -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family a metric."""
        yield self._queue_depth()
        yield from self._indexes()
        yield self._refused()
        yield self._free_space()
        info = GaugeMetricFamily("model_info", "Models in memory; always 1.", labels=["name", "fingerprint", "bits"])
        for (name, bits), hasher in sorted(self._runtime.models.loaded().items()):
            info.add_metric([name, hasher.fingerprint, str(bits)], 1)
        yield info

    def _queue_depth(self) -> GaugeMetricFamily:
        depth = GaugeMetricFamily("encode_queue_depth", "Calls that wait to be encoded.", labels=["modality"])
        for modality in Modality:
            depth.add_metric([modality.value], self._runtime.encoding.waiting(modality))
        return depth

    def _refused(self) -> GaugeMetricFamily:
        refused = GaugeMetricFamily(
            "index_refused", "Indexes on disk that are not served, by the problem; always 1.", labels=["index", "code"]
        )
        for name, refusal in self._runtime.refused().items():
            refused.add_metric([name, refusal.code], 1)
        return refused

    def _free_space(self) -> GaugeMetricFamily:
        free = GaugeMetricFamily("home_free_bytes", "Free bytes on the disk of the home.")
        with suppress(OSError):  # there may be no home yet
            free.add_metric([], shutil.disk_usage(self._runtime.settings.home).free)
        return free

    def _indexes(self) -> Iterator[GaugeMetricFamily]:
        items = GaugeMetricFamily("index_items", "Items that have a code in this column.", labels=["index", "column"])
        generation = GaugeMetricFamily("index_generation", "Number of the generation that serves.", labels=["index"])
        model = GaugeMetricFamily(
            "index_model_loaded", "1, or 0 where its model is missing and only codes can be asked.", labels=["index"]
        )
        age = GaugeMetricFamily("index_age_seconds", "Time since that generation was made.", labels=["index"])
        now = time.time()
        for name, served in self._runtime.served().items():
            manifest = served.snapshot.manifest
            for column in manifest.columns:
                items.add_metric([name, column], served.snapshot.items_in(column))
            generation.add_metric([name], manifest.generation)
            model.add_metric([name], served.hasher is not None)
            age.add_metric([name], now - datetime.fromisoformat(manifest.created).timestamp())
        yield from (items, generation, model, age)
