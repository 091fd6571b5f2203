"""What operators see: the shape of a log line and every metric of the service.

Nothing here knows who logs or counts; values of configurations reach neither.
"""

import logging
import sys
import traceback
from collections.abc import Iterator

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from structlog.typing import EventDict, Processor, WrappedLogger

# A `_created` series beside every counter would double what is scraped, and nobody reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]

_HANDLER = "pilothouse"

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

# From a read out of memory to a waiting read at its bound of 60 s.
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# Calls to a server behind a port are cut after two seconds.
_CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5)

HTTP_REQUESTS = Counter(
    "pilothouse_http_requests_total",
    "HTTP requests answered; 499 stands for a caller who left before the answer began.",
    ["method", "route", "status"],
    registry=REGISTRY,
)
HTTP_REQUEST_DURATION = Histogram(
    "pilothouse_http_request_duration_seconds",
    "From the first byte read to the last byte sent; a stream counts until it ends.",
    ["method", "route"],
    buckets=_REQUEST_SECONDS,
    registry=REGISTRY,
)
HTTP_REQUESTS_IN_PROGRESS = Gauge(
    "pilothouse_http_requests_in_progress",
    "HTTP requests being answered now, streams and waiting reads included.",
    registry=REGISTRY,
)
VAULT_REQUESTS = Counter(
    "pilothouse_vault_requests_total",
    "Requests sent to Vault.",
    ["operation", "outcome"],
    registry=REGISTRY,
)
VAULT_REQUEST_DURATION = Histogram(
    "pilothouse_vault_request_duration_seconds",
    "How long Vault took to answer or to fail.",
    ["operation"],
    buckets=_CALL_SECONDS,
    registry=REGISTRY,
)
DATABASE_CALLS = Counter(
    "pilothouse_database_calls_total",
    "Transactions sent to the database.",
    ["operation", "outcome"],
    registry=REGISTRY,
)
DATABASE_CALL_DURATION = Histogram(
    "pilothouse_database_call_duration_seconds",
    "How long the database took to answer or to fail.",
    ["operation"],
    buckets=_CALL_SECONDS,
    registry=REGISTRY,
)
CACHE_REQUESTS = Counter(
    "pilothouse_cache_requests_total",
    "What was asked of Redis: hit, miss, done, older (a newer one is kept), refused, failed, "
    "busy (no connection free), skipped (the breaker is open).",
    ["operation", "outcome"],
    registry=REGISTRY,
)
CACHE_BREAKER_OPEN = Gauge(
    "pilothouse_cache_breaker_open",
    "1 while Redis is not asked because it failed several times in a row.",
    registry=REGISTRY,
)
CONFIG_READS = Counter(
    "pilothouse_config_reads_total",
    "Configuration documents read, by where they came from: memory, redis or store.",
    ["source"],
    registry=REGISTRY,
)
CONFIG_WRITES = Counter(
    "pilothouse_config_writes_total",
    "Configuration writes, by what became of them.",
    ["outcome"],
    registry=REGISTRY,
)
CONFIG_WRITE_DURATION = Histogram(
    "pilothouse_config_write_duration_seconds",
    "A configuration write from its intent to its logged change.",
    buckets=_CALL_SECONDS,
    registry=REGISTRY,
)
PLAIN_CREDENTIALS = Counter(
    "pilothouse_plain_credentials_total",
    "Credentials found in plain values that were to be written, by rule and by what became of "
    "them: refused, warned of or allowed.",
    ["rule", "outcome"],
    registry=REGISTRY,
)
LOG_REVISION = Gauge(
    "pilothouse_log_revision",
    "The revision of the change log this replica has reached.",
    registry=REGISTRY,
)
LOG_LAST_CONTACT = Gauge(
    "pilothouse_log_last_contact_seconds",
    "Seconds since the change log was last read successfully.",
    registry=REGISTRY,
)
OPEN_INTENTS = Gauge(
    "pilothouse_open_intents",
    "Configuration writes that were begun and whose outcome is not yet known.",
    registry=REGISTRY,
)
VERSION_REGRESSIONS = Counter(
    "pilothouse_version_regressions_total",
    "Documents found at a lower version than the change log knows.",
    registry=REGISTRY,
)
EXTERNAL_EDITS = Counter(
    "pilothouse_external_edits_total",
    "Changes found in the store that no write of ours had made.",
    registry=REGISTRY,
)
EVENTS_SENT = Counter(
    "pilothouse_events_sent_total",
    "Events that Kafka has acknowledged to this replica.",
    registry=REGISTRY,
)
EVENT_FAILURES = Counter(
    "pilothouse_event_failures_total",
    "Events that were sent and not acknowledged, and will be sent again.",
    registry=REGISTRY,
)
AUDIT_EVENTS_LOST = Counter(
    "pilothouse_audit_events_lost_total",
    "Denied attempts that were counted in the audit, but not told: too many at once.",
    registry=REGISTRY,
)
EVENT_DURATION = Histogram(
    "pilothouse_event_publish_duration_seconds",
    "From handing events to Kafka to the last acknowledgement or the first failure.",
    buckets=_CALL_SECONDS,
    registry=REGISTRY,
)
OLDEST_UNSENT = Gauge(
    "pilothouse_oldest_unsent_event_seconds",
    "For how long the oldest change in the log has been waiting to be sent to Kafka.",
    registry=REGISTRY,
)
STREAMS = Gauge(
    "pilothouse_streams",
    "Clients that listen to the event stream of this replica.",
    registry=REGISTRY,
)
STREAM_EVENTS = Counter(
    "pilothouse_stream_events_total",
    "Events handed to stream clients.",
    registry=REGISTRY,
)
STREAMS_CLOSED = Counter(
    "pilothouse_streams_closed_total",
    "Streams that ended: gone (by the client), slow (cut off), drain (by a shutdown).",
    ["reason"],
    registry=REGISTRY,
)
EVALUATIONS = Counter(
    "pilothouse_flag_evaluations_total",
    "Flags evaluated, by environment and OpenFeature's reason.",
    ["environment", "reason"],
    registry=REGISTRY,
)
VARIANT_EVALUATIONS = Counter(
    "pilothouse_flag_variant_evaluations_total",
    "Evaluations by flag and variant (_none: the caller's default), for the first 1,000 of them; "
    "all others are counted together as _other.",
    ["environment", "flag", "variant"],
    registry=REGISTRY,
)
FLAG_WRITES = Counter(
    "pilothouse_flag_writes_total",
    "Versions of flags and segments written by this replica.",
    ["kind"],
    registry=REGISTRY,
)
ISSUER_CALLS = Counter(
    "pilothouse_issuer_calls_total",
    "Reads of the keys of the OpenID Connect issuer.",
    ["outcome"],
    registry=REGISTRY,
)
DENIALS = Counter(
    "pilothouse_denials_total",
    "Requests that access control refused, by the code of the answer.",
    ["code"],
    registry=REGISTRY,
)
BACKGROUND_FAILURES = Counter(
    "pilothouse_background_failures_total",
    "Rounds of a background task that failed and will be tried again.",
    ["task"],
    registry=REGISTRY,
)


_threshold = logging.INFO


def configure_logging(level: str, json: bool) -> None:  # noqa: FBT001 (read as `json=settings.log_json`)
    """Send every log line, ours and the libraries', to stdout in one format.

    To be called after uvicorn has set up its own loggers, for example in the application factory.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    global _threshold  # noqa: PLW0603 - one process, one log
    _threshold = threshold
    lines = _processors(json=json)
    # Straight to stdout: the detour through the standard library costs three times as much, and
    # there is a line for every request. Not cached, because a cached logger keeps its first level.
    structlog.configure(
        processors=lines,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    _take_over_libraries(lines)
    _take_over_uvicorn(threshold)


def tells_requests() -> bool:
    """Tell whether access lines are written, for code that would not even like to make them."""
    return _threshold <= logging.INFO


def _processors(*, json: bool) -> list[Processor]:
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _tell_exception,
        structlog.processors.JSONRenderer() if json else plain,
    ]


def _take_over_libraries(lines: list[Processor]) -> None:
    formatter = structlog.stdlib.ProcessorFormatter
    handler = logging.StreamHandler(sys.stdout)
    handler.set_name(_HANDLER)
    handler.setFormatter(
        formatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name],
            processors=[formatter.remove_processors_meta, *lines],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [*(other for other in root.handlers if other.name != _HANDLER), handler]
    # At lower levels libraries tell headers and parameters: tokens and values are among them.
    root.setLevel(logging.WARNING)


def _take_over_uvicorn(threshold: int) -> None:
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(threshold)
    # uvicorn skips its access line when nobody listens; ours is written by `app.web.middleware`.
    logging.getLogger("uvicorn.access").handlers.clear()
    logging.getLogger("uvicorn.access").propagate = False


def _tell_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exception()
    elif isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(_story(error, told=set()))
    return event


def _story(error: BaseException, *, told: set[int]) -> Iterator[str]:
    """Tell a failure from its outermost exception to its first cause.

    Not the traceback module's own text: that has no way to withhold a message.
    """
    told.add(id(error))
    yield "".join(traceback.format_tb(error.__traceback__)) + _headline(error)
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield "One of them:"
            yield from _story(part, told=told)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and id(cause) not in told:
        yield "Caused by:"
        yield from _story(cause, told=told)


def _headline(error: BaseException) -> str:
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    # Pydantic's and FastAPI's validation errors quote the value they refuse: it may be a secret.
    quotes_its_input = callable(getattr(error, "errors", None))
    return f"{name}: {'(message withheld)' if quotes_its_input else error}"


INSTANCES_ADOPTED = Counter(
    "pilothouse_instances_adopted_total",
    "Instances whose nodes this replica took over from one that is gone.",
    registry=REGISTRY,
)
INSTANCES_EVICTED = Counter(
    "pilothouse_instances_evicted_total",
    "Instances that this replica removed because they were silent for two of their ttl.",
    registry=REGISTRY,
)
PROBES = Counter(
    "pilothouse_instance_probes_total",
    "Health checks of instances, by outcome: healthy, unhealthy.",
    ["outcome"],
    registry=REGISTRY,
)
