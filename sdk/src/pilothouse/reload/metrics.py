"""Counts of reloads, also for Prometheus if its client is installed."""

from datetime import datetime, timezone
from typing import Any, Protocol

from pilothouse.forks import ForkLock
from pilothouse.reload.model import Metrics, ReloadStatus

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Measures(Protocol):
    """Receives the same figures as `get_metrics`."""

    def open(self) -> None: ...

    def record_reload(self, status: ReloadStatus, seconds: float) -> None: ...

    def sources_healthy(self, number: int) -> None: ...

    def close(self) -> None: ...


class NoMeasures:
    """Measures nothing."""

    def open(self) -> None: ...

    def record_reload(self, status: ReloadStatus, seconds: float) -> None: ...

    def sources_healthy(self, number: int) -> None: ...

    def close(self) -> None: ...


class PrometheusMeasures:
    """`config_reloads_total`, `config_reload_duration_seconds`, `config_sources_healthy`."""

    def __init__(self, registry: Any) -> None:
        from prometheus_client import Counter, Gauge, Histogram  # noqa: PLC0415 - optional

        self._registry = registry
        self._reloads = Counter(
            "config_reloads", "Reloads of the configuration.", ["status"], registry=None
        )
        self._duration = Histogram(
            "config_reload_duration_seconds",
            "How long a reload took.",
            buckets=_BUCKETS,
            registry=None,
        )
        self._healthy = Gauge(
            "config_sources_healthy",
            "Sources whose last load succeeded.",
            registry=None,
        )
        for status in ReloadStatus:
            self._reloads.labels(status.value)

    def open(self) -> None:
        for metric in (self._reloads, self._duration, self._healthy):
            self._registry.register(metric)

    def record_reload(self, status: ReloadStatus, seconds: float) -> None:
        self._reloads.labels(status.value).inc()
        self._duration.observe(seconds)

    def sources_healthy(self, number: int) -> None:
        self._healthy.set(number)

    def close(self) -> None:
        for metric in (self._reloads, self._duration, self._healthy):
            self._registry.unregister(metric)


def measures_for(registry: Any | None) -> Measures:
    """Return measures in a registry of prometheus-client; NoMeasures without either of them."""
    if registry is None:
        return NoMeasures()
    try:
        return PrometheusMeasures(registry)
    except ImportError:
        return NoMeasures()


class Tally:
    """The counts of one manager."""

    def __init__(self, measures: Measures) -> None:
        self.measures = measures
        self._lock = ForkLock()
        self._succeeded = self._failed = 0
        self._seconds = 0.0
        self._last: datetime | None = None

    def record_reload(self, status: ReloadStatus, seconds: float) -> None:
        with self._lock.lock:
            self._seconds += seconds
            self._last = datetime.now(timezone.utc)
            if status is ReloadStatus.FAILED:
                self._failed += 1
            else:
                self._succeeded += 1
        self.measures.record_reload(status, seconds)

    def metrics(self, sources: int) -> Metrics:
        with self._lock.lock:
            total = self._succeeded + self._failed
            return Metrics(
                total_reloads=total,
                successful_reloads=self._succeeded,
                failed_reloads=self._failed,
                average_reload_time_ms=1000 * self._seconds / total if total else 0.0,
                last_reload_time=self._last,
                config_sources_count=sources,
            )
