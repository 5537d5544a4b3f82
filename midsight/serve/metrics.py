"""Figures for Prometheus: requests, batches, what waits, what was dropped."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "midsight_requests", "Requests by path and status.", ("path", "status"), registry=registry
        )
        self._seconds = Histogram(
            "midsight_request_seconds", "Time of requests.", ("path",), buckets=SECONDS, registry=registry
        )
        self._sizes = Histogram(
            "midsight_batch_size",
            "Pictures, frames or prompts of a batch.",
            ("kind",),
            buckets=SIZES,
            registry=registry,
        )
        self._model = Counter("midsight_model_seconds", "Time that the encoder worked.", ("kind",), registry=registry)
        self._dropped = Counter(
            "midsight_dropped", "Pieces not worked on: callers gone, or too late.", ("reason",), registry=registry
        )

    def request(self, path: str | None, status: int, seconds: float) -> None:
        """A request has ended; its path is the pattern, or None for an address that is not there."""
        self._requests.labels(path or "none", str(status)).inc()
        self._seconds.labels(path or "none").observe(seconds)

    def batch(self, kind: str, size: int, seconds: float) -> None:
        """The encoder has worked on a batch."""
        self._sizes.labels(kind).observe(size)
        self._model.labels(kind).inc(seconds)

    def dropped(self, reason: str, pieces: int) -> None:
        """Work that nobody waits for any more."""
        self._dropped.labels(reason).inc(pieces)

    def gauge(self, name: str, about: str, value: Callable[[], float]) -> None:
        """A figure that is read when it is asked for."""
        Gauge(f"midsight_{name}", about, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """All figures in Prometheus' format."""
        return generate_latest(self._registry)
