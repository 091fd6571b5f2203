"""One format for every log line, and metrics with bounded, united names."""

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pydantic import BaseModel

from app.telemetry import REGISTRY, configure_logging

SECRET = "hunter2"


class Count(BaseModel):
    number: int


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_is_json_with_its_time_level_and_request(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", json=True)
    structlog.contextvars.bind_contextvars(request_id="r1")

    structlog.get_logger().info("change_applied", revision=7)

    (line,) = _lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "change_applied", "level": "info", "request_id": "r1", "revision": 7}


def test_the_level_is_the_lowest_that_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("WARNING", json=True)

    structlog.get_logger().info("unheard")
    structlog.get_logger().warning("heard")

    assert [line["event"] for line in _lines(capsys)] == ["heard"]


def test_configuring_again_replaces_what_was(capsys: pytest.CaptureFixture[str]) -> None:
    log = structlog.get_logger()
    configure_logging("error", json=False)
    log.info("unheard")
    configure_logging("info", json=True)

    log.info("ours")
    logging.getLogger("library").warning("theirs")

    assert [line["event"] for line in _lines(capsys)] == ["ours", "theirs"]


def test_uvicorn_speaks_in_the_same_format_and_leaves_access_to_us(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logging.getLogger("uvicorn").addHandler(logging.StreamHandler(sys.stdout))
    logging.getLogger("uvicorn.access").addHandler(logging.StreamHandler(sys.stdout))

    configure_logging("info", json=True)
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    logging.getLogger("uvicorn.access").info("GET /?token=hunter2")

    (line,) = _lines(capsys)
    assert line["event"] == "Started server process [7]"
    assert line["logger"] == "uvicorn.error"
    assert not logging.getLogger("uvicorn.access").hasHandlers()


def test_libraries_are_heard_from_warnings_up(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", json=True)

    logging.getLogger("aiohttp.client").debug("X-Vault-Token: hunter2")
    logging.getLogger("aiohttp.client").warning("slow")

    assert [line["event"] for line in _lines(capsys)] == ["slow"]


@pytest.mark.parametrize(
    ("is_terminal", "may_colour", "has_colours"),
    [(True, True, True), (False, True, False), (True, False, False)],
)
def test_only_a_terminal_has_colours(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_terminal: bool,
    may_colour: bool,
    has_colours: bool,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    configure_logging("info", json=False, has_colors=may_colour)

    structlog.get_logger().info("told")
    logging.getLogger("library").warning("told too")

    lines = capsys.readouterr().out.splitlines()
    assert [("\x1b" in line) for line in lines] == [has_colours] * 2


def _fail(text: str) -> None:
    raise OSError(text)


@pytest.mark.parametrize("json", [True, False])
@pytest.mark.parametrize("level", ["debug", "info"])
def test_no_logger_tells_a_credential(
    capsys: pytest.CaptureFixture[str], level: str, *, json: bool
) -> None:
    configure_logging(level, json=json, secrets=["a-pepper-of-many-characters"])

    structlog.get_logger().warning("ours", header=f"Authorization: Bearer {SECRET}")
    for name in ("uvicorn.error", "aiohttp.client", "websockets.server", "anything"):
        logging.getLogger(name).error("< Authorization: Bearer %s", SECRET)
        logging.getLogger(name).error("%s", {"X-Vault-Token": SECRET, "a": b"a"})
    logging.getLogger("library").error("it is a-pepper-of-many-characters")
    try:
        try:
            _fail(f"no way to postgresql://a:{SECRET}@db.example/a")
        except OSError as error:
            raise RuntimeError(f"password={SECRET}") from error
    except RuntimeError:
        structlog.get_logger().exception("failed")
        logging.getLogger("library").exception("failed")

    output = capsys.readouterr().out
    assert SECRET not in output
    assert "a-pepper" not in output
    assert output.count("[redacted]") >= 11
    assert "db.example" in output


def _raise_in_three_steps() -> None:
    try:
        try:
            int("x")
        except ValueError as error:
            raise LookupError("in between") from error
    except LookupError:
        raise ExceptionGroup("two at once", [OSError("first"), OSError("second")]) from None


def test_an_exception_is_told_with_its_causes(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", json=True)

    try:
        try:
            _raise_in_three_steps()
        except ExceptionGroup as group:
            raise RuntimeError("outermost") from group
    except RuntimeError:
        structlog.get_logger().exception("round_failed")

    (line,) = _lines(capsys)
    assert line["level"] == "error"
    assert "_raise_in_three_steps" in line["exception"]
    assert "RuntimeError: outermost\nCaused by:" in line["exception"]
    assert "One of them:\nOSError: second" in line["exception"]
    assert "in between" not in line["exception"]


def test_an_exception_of_a_library_is_told_alike(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", json=True)

    try:
        int("x")
    except ValueError:
        logging.getLogger("library").exception("failed")

    assert "ValueError: invalid literal" in _lines(capsys)[0]["exception"]


def test_a_validation_error_does_not_tell_what_it_refuses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("info", json=True)

    try:
        Count.model_validate({"number": SECRET})
    except ValueError as error:
        structlog.get_logger().error("round_failed", exc_info=error)

    out = capsys.readouterr().out
    assert "ValidationError: (message withheld)" in out
    assert SECRET not in out


def test_people_can_have_it_without_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", json=False)

    try:
        int("x")
    except ValueError:
        structlog.get_logger().exception("round_failed", task="follow")

    out = capsys.readouterr().out
    assert "round_failed" in out
    assert "ValueError: invalid literal" in out


def test_every_metric_is_ours_by_name_or_the_process_s_and_says_what_it_is() -> None:
    # docs/reference/metrics.md lists them, and a test of its own compares that page.
    metrics = list(REGISTRY.collect())

    assert all(metric.documentation for metric in metrics)
    assert {metric.name.partition("_")[0] for metric in metrics} == {
        "pilothouse",
        "process",
        "python",
    }
