"""The format of log lines, and every metric of the service.

Configuration values reach neither.
"""

import logging
import sys
import traceback
from collections.abc import Iterable, Iterator

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

from app.redaction import Redactor

# A `_created` series for every counter would double what is scraped, and is not used.
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

CHECKS_WAIVED = Gauge(
    "pilothouse_production_checks_waived",
    "Settings that production mode accepts because a check is waived.",
    ["check"],
    registry=REGISTRY,
)
WEBHOOK_DELIVERIES = Counter(
    "pilothouse_webhook_deliveries_total",
    "Requests to receivers of webhooks; a `dead_letter` was given up.",
    ["outcome"],
    registry=REGISTRY,
)
WEBHOOK_OLDEST = Gauge(
    "pilothouse_webhook_oldest_undelivered_seconds",
    "Age of the oldest change that a webhook has not delivered, as every replica sees it.",
    registry=REGISTRY,
)
HTTP_REQUESTS = Counter(
    "pilothouse_http_requests_total",
    "Answered HTTP requests; 499 if the caller disconnected before the answer began.",
    ["method", "route", "status"],
    registry=REGISTRY,
)
HTTP_REQUEST_DURATION = Histogram(
    "pilothouse_http_request_duration_seconds",
    "Time from the first byte read to the last byte sent; a stream counts until it ends.",
    ["method", "route"],
    buckets=_REQUEST_SECONDS,
    registry=REGISTRY,
)
HTTP_REQUESTS_IN_PROGRESS = Gauge(
    "pilothouse_http_requests_in_progress",
    "HTTP requests in progress, including streams and waiting reads.",
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
    "Time until Vault answered or the request failed.",
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
    "Time until the database answered or the call failed.",
    ["operation"],
    buckets=_CALL_SECONDS,
    registry=REGISTRY,
)
CACHE_REQUESTS = Counter(
    "pilothouse_cache_requests_total",
    "Requests to Redis: hit, miss, done, older (a newer one is kept), refused, failed, "
    "busy (no connection free), skipped (the circuit breaker is open).",
    ["operation", "outcome"],
    registry=REGISTRY,
)
CACHE_BREAKER_OPEN = Gauge(
    "pilothouse_cache_breaker_open",
    "1 while Redis is not called because it failed several times in a row.",
    registry=REGISTRY,
)
CONFIG_READS = Counter(
    "pilothouse_config_reads_total",
    "Configuration documents read, by source: memory, redis or store.",
    ["source"],
    registry=REGISTRY,
)
CONFIG_WRITES = Counter(
    "pilothouse_config_writes_total",
    "Configuration writes, by outcome.",
    ["outcome"],
    registry=REGISTRY,
)
CONFIG_WRITE_DURATION = Histogram(
    "pilothouse_config_write_duration_seconds",
    "Time of a configuration write from its intent to its logged change.",
    buckets=_CALL_SECONDS,
    registry=REGISTRY,
)
PLAIN_CREDENTIALS = Counter(
    "pilothouse_plain_credentials_total",
    "Credentials found in plain values of writes, by rule and by outcome: refused, warned of or "
    "allowed.",
    ["rule", "outcome"],
    registry=REGISTRY,
)
SCHEMA_VERDICTS = Counter(
    "pilothouse_schema_verdicts_total",
    "Demands of schemas that effective configurations did not meet when a write was judged, by "
    "`mode` of the schema: `refused` with the write, `warned` of otherwise.",
    ["mode", "outcome"],
    registry=REGISTRY,
)
POLICY_BYPASSES = Counter(
    "pilothouse_policy_bypasses_total",
    "Changes made past a policy that asks for a proposal.",
    registry=REGISTRY,
)
SCHEMA_VIOLATIONS = Gauge(
    "pilothouse_schema_violations",
    "Effective configurations that do not meet a schema now, by its `mode`.",
    ["mode"],
    registry=REGISTRY,
)
RELEASE_STEP = Gauge(
    "pilothouse_release_step",
    "The step of each release that has not ended, counted from 0, by its id.",
    ["release"],
    registry=REGISTRY,
)
RELEASE_ABORTS = Counter(
    "pilothouse_release_aborts_total",
    "Releases aborted by `refused`, `health`, `prometheus`, `no_data`, `alert`, `manual`, "
    "`overtaken` (a key was changed elsewhere) or `not_writable` (refused at the end).",
    ["signal"],
    registry=REGISTRY,
)
READS_DROPPED = Counter(
    "pilothouse_reads_dropped_total",
    "Reads of instances that were not recorded: too many at once, or the store was unavailable.",
    registry=REGISTRY,
)
RULES_KILLED = Counter(
    "pilothouse_rules_killed_total",
    "Ends of the process that evaluates rules between keys: `cpu` and `memory` by a rule beyond "
    "its limits, `silent` without an answer in time, `ended` by anything else.",
    ["reason"],
    registry=REGISTRY,
)
LOG_REVISION = Gauge(
    "pilothouse_log_revision",
    "Revision of the change log that this replica has reached.",
    registry=REGISTRY,
)
LOG_LAST_CONTACT = Gauge(
    "pilothouse_log_last_contact_seconds",
    "Seconds since the change log was last read successfully.",
    registry=REGISTRY,
)
OPEN_INTENTS = Gauge(
    "pilothouse_open_intents",
    "Configuration writes whose outcome is not known yet.",
    registry=REGISTRY,
)
VERSION_REGRESSIONS = Counter(
    "pilothouse_version_regressions_total",
    "Documents found at a lower version than in the change log.",
    registry=REGISTRY,
)
VERSIONS_UNREADABLE = Counter(
    "pilothouse_versions_unreadable_total",
    "Versions found deleted or destroyed in the store.",
    registry=REGISTRY,
)
DOCUMENTS_EXPIRING = Gauge(
    "pilothouse_documents_expiring",
    "Documents whose versions the store deletes by itself (delete_version_after).",
    registry=REGISTRY,
)
DOCUMENTS_MALFORMED = Gauge(
    "pilothouse_documents_malformed",
    "Documents whose current version is malformed: the last good one is served.",
    registry=REGISTRY,
)
EXTERNAL_EDITS = Counter(
    "pilothouse_external_edits_total",
    "Changes found in the store that were not written by Pilothouse.",
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
    "Denied attempts that the audit has only as a number, because there were too many at once.",
    registry=REGISTRY,
)
EVENT_DURATION = Histogram(
    "pilothouse_event_publish_duration_seconds",
    "Time from sending events to Kafka to the last acknowledgement or the first failure.",
    buckets=_CALL_SECONDS,
    registry=REGISTRY,
)
OLDEST_UNSENT = Gauge(
    "pilothouse_oldest_unsent_event_seconds",
    "Seconds for which the oldest unsent change has been waiting to be sent to Kafka.",
    registry=REGISTRY,
)
STREAMS = Gauge(
    "pilothouse_streams",
    "Clients connected to the event stream of this replica.",
    registry=REGISTRY,
)
STREAM_EVENTS = Counter(
    "pilothouse_stream_events_total",
    "Events sent to stream clients.",
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
PROPOSALS_ENDED = Counter(
    "pilothouse_proposals_ended_total",
    "Proposals that this replica has applied or given up, by the state they ended in.",
    ["state"],
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


def configure_logging(
    level: str, *, json: bool, has_colors: bool = True, secrets: Iterable[str] = ()
) -> None:
    """Write every log line, ours and the libraries', to stdout in one format, without credentials.

    Text on a terminal may have colours; `secrets` are removed everywhere.

    To be called after uvicorn has set up its own loggers, for example in the application factory.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    global _threshold  # noqa: PLW0603 - one process, one log
    _threshold = threshold
    lines = _processors(Redactor(secrets), json=json, has_colors=has_colors)
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
    """Tell whether access lines are written, so that callers can skip composing them."""
    return _threshold <= logging.INFO


def _processors(redactor: Redactor, *, json: bool, has_colors: bool) -> list[Processor]:
    plain = structlog.dev.ConsoleRenderer(
        colors=has_colors and sys.stdout.isatty(),
        exception_formatter=structlog.dev.plain_traceback,
    )
    render = structlog.processors.JSONRenderer() if json else plain

    def render_redacted(logger: WrappedLogger, name: str, event: EventDict) -> str:
        # Our line of a request is made of routes and numbers, and there is one for each.
        is_safe = event.get("event") == "request" and "logger" not in event
        line = render(logger, name, event)
        assert isinstance(line, str)
        return line if is_safe else redactor.redact(line)

    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _render_exception,
        render_redacted,
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
    # At lower levels libraries log headers and parameters, with tokens and values.
    root.setLevel(logging.WARNING)


def _take_over_uvicorn(threshold: int) -> None:
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(threshold)
    # uvicorn skips its access line without a handler; ours is written by `app.web.boundary`.
    logging.getLogger("uvicorn.access").handlers.clear()
    logging.getLogger("uvicorn.access").propagate = False


def _render_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exception()
    elif isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(_exception_lines(error, seen=set()))
    return event


def _exception_lines(error: BaseException, *, seen: set[int]) -> Iterator[str]:
    """Yield a failure's lines from its outermost exception to its first cause.

    Not the traceback module's own text: that has no way to withhold a message.
    """
    seen.add(id(error))
    yield "".join(traceback.format_tb(error.__traceback__)) + _headline(error)
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield "One of them:"
            yield from _exception_lines(part, seen=seen)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and id(cause) not in seen:
        yield "Caused by:"
        yield from _exception_lines(cause, seen=seen)


def _headline(error: BaseException) -> str:
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    # Pydantic's and FastAPI's validation errors quote the value they refuse: it may be a secret.
    quotes_its_input = callable(getattr(error, "errors", None))
    return f"{name}: {'(message withheld)' if quotes_its_input else error}"


INSTANCES_ADOPTED = Counter(
    "pilothouse_instances_adopted_total",
    "Instances whose nodes this replica took over from a dead replica.",
    registry=REGISTRY,
)
INSTANCES_EVICTED = Counter(
    "pilothouse_instances_evicted_total",
    "Instances that this replica removed because they were silent for two of their ttl.",
    registry=REGISTRY,
)
SERVICES_PROTECTED = Gauge(
    "pilothouse_registry_protected_services",
    "Services of which so many instances fell silent at once that self-preservation keeps them.",
    registry=REGISTRY,
)
INSTANCES_PROTECTED = Gauge(
    "pilothouse_registry_protected_instances",
    "Silent instances that are still discovered because self-preservation keeps them.",
    registry=REGISTRY,
)
PROBES = Counter(
    "pilothouse_instance_probes_total",
    "Health checks of instances, by outcome: healthy, unhealthy.",
    ["outcome"],
    registry=REGISTRY,
)
