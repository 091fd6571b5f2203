"""Command `pilothouse config watch`: every change of a merged configuration, by long polling."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pilothouse.changes import ConfigChange, changes_between, concerns
from pilothouse.cli.commands import Session
from pilothouse.cli.exit_codes import ExitCode, Failure
from pilothouse.cli.output import layer
from pilothouse.cli.values import display_text
from pilothouse.transport import full_jitter

_PATH = "/api/v1/effective"
_WAIT_SECONDS = 30.0
_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_SIGNS = {"added": "+", "removed": "-", "modified": "~"}
_STYLES = {"added": "green", "removed": "red", "modified": ""}


def watch(session: Session, prefix: str, count: int | None) -> None:
    """Print `count` changes, or all until the process ends; waits for an unavailable service."""
    for number, change in enumerate(_changes(session, prefix), start=1):
        _print_change(session, change)
        if number == count:
            return


def _changes(session: Session, prefix: str) -> Iterator[dict[str, Any]]:
    answer = session.api.get(_PATH, **session.layer)
    before = answer.object()
    session.output.note(f"watching {layer(before)} at revision {before['revision']}")
    tag, failures = answer.etag, 0
    while True:
        try:
            known = {"If-None-Match": tag}
            answer = session.api.get(_PATH, headers=known, wait=_WAIT_SECONDS, **session.layer)
        except Failure as away:
            if away.exit_code != ExitCode.UNAVAILABLE:
                raise
            failures += 1
            if failures == 1:
                session.output.note_outage(away)
            time.sleep(full_jitter(failures, _PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS))
            continue
        failures = 0
        if not answer.is_unchanged:
            tag, after = answer.etag, answer.object()
            for change in changes_between(before["data"], after["data"]):
                if concerns(prefix, change.path):
                    yield _line(change, after)
            before = after


def _line(change: ConfigChange, after: dict[str, Any]) -> dict[str, Any]:
    return {
        "path": change.path,
        "change_type": change.change_type.value,
        "old_value": change.old_value,
        "new_value": change.new_value,
        "environment": after["environment"],
        "service_name": after["service_name"],
        "user": after["user"],
        "revision": after["revision"],
    }


def _print_change(session: Session, change: dict[str, Any]) -> None:
    if session.output.as_json:
        return session.output.line(change)
    kind = change["change_type"]
    values = [
        display_text(change[member])
        for member, absent in (("old_value", "added"), ("new_value", "removed"))
        if kind != absent
    ]
    now = datetime.now().astimezone().strftime("%H:%M:%S")
    sentence = f"{now}  {_SIGNS[kind]} {change['path']}  {' -> '.join(values)}"
    return session.output.say(sentence, _STYLES[kind])
