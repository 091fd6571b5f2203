"""What `pilothouse apply` prints: the plan, and what became of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pilothouse.cli.folders.application import Application
from pilothouse.cli.folders.entries import Content, Entry
from pilothouse.cli.folders.plan import MASK, Change, Plan
from pilothouse.cli.folders.previews import Preview
from pilothouse.cli.output import Output
from pilothouse_core.trees import SECRET, is_secret

_MASK = {SECRET: MASK}
_MOST_ROWS = 20  # of one change: a new service may have hundreds of keys
_SIGNS = {"added": ("+", "green"), "changed": ("~", "yellow"), "removed": ("-", "red")}


def print_plan(output: Output, plan: Plan, previews: Mapping[Entry, Preview]) -> None:
    """Print each change with its keys, then how many there are."""
    for change in plan.changes:
        preview = previews.get(change.entry)
        sign, colour = _SIGNS[change.action]
        output.say(f"{sign} {change.entry.label}: {change.action}", colour)
        if preview is not None and preview.is_unchanged:
            output.say("    says the same as before")
        elif not change.is_deletion:
            _print_keys(output, change)
        for remark in preview.remarks if preview is not None else ():
            output.say(f"    {remark}")
    counts: Counter[str] = Counter(change.action for change in plan.changes)
    words = [f"{counts[action]} {action}" for action in _SIGNS if counts[action]]
    output.say(", ".join(words) if words else "nothing to change")
    for entry in plan.surplus:
        output.note(f"{entry.label}: has no file; --prune removes it")


def _print_keys(output: Output, change: Change) -> None:
    changes = change.changes
    document = diff_document(change)
    count = changes.count
    if count > _MOST_ROWS:
        document = _first_rows(document, _MOST_ROWS)
    if count:
        output.changes(document)
    if count > _MOST_ROWS:
        output.say(f"    and {count - _MOST_ROWS} more keys")


def _first_rows(document: Mapping[str, Any], most: int) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for kind in ("added", "removed", "changed"):
        shown[kind] = dict(list(document[kind].items())[:most])
        most -= len(shown[kind])
    return shown


def diff_document(change: Change) -> dict[str, Any]:
    """Return the changed keys as the API writes differences, without any secret."""
    changes = change.changes
    hide = _without_secrets
    return {
        "added": {key: hide(value) for key, value in changes.added.items()},
        "removed": {key: hide(value) for key, value in changes.removed.items()},
        "changed": {
            key: {"old": hide(old), "new": _MASK if is_secret(old) else hide(new)}
            for key, (old, new) in changes.changed.items()
        },
    }


def _without_secrets(value: Any) -> Any:
    """Return a value of a file or a layer with a mask for each secret, also for one to be set."""
    if is_secret(value):
        return _MASK
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    if isinstance(value, dict):
        return {name: _without_secrets(item) for name, item in value.items()}
    return value


def print_application(
    output: Output,
    plan: Plan,
    result: Application,
    proposals: Sequence[Content],
    missing: Sequence[tuple[Entry, str]],
) -> None:
    """Print what was written and proposed, and what is left to be done."""
    for entry, warning in result.warnings:
        output.note(f"{entry.label}: {warning}")
    if result.written or result.unchanged:
        output.say(f"{len(result.written)} of {len(plan.changes)} changes written")
    for proposal in proposals:
        count = len(proposal["items"])
        number = "1 change" if count == 1 else f"{count} changes"
        output.say(f"proposal {proposal['id']}: {number} of {proposal['environment']} proposed")
    for entry, key in missing:
        output.note(f"{entry.label}: the secret {key} has to be set; the file has a mask only")


def result_document(
    plan: Plan,
    result: Application,
    previews: Mapping[Entry, Preview],
    proposals: Sequence[Content],
    missing: Sequence[tuple[Entry, str]],
    *,
    dry_run: bool,
) -> Content:
    """Return all of it as JSON."""
    changes = plan.changes
    return {
        "dry_run": dry_run,
        "changes": [_change_document(each, result, previews, dry_run=dry_run) for each in changes],
        "missing_secrets": [{**entry.address, "key": key} for entry, key in missing],
        "surplus": [entry.address for entry in plan.surplus],
        "proposals": [
            {"id": each["id"], "environment": each["environment"], "items": len(each["items"])}
            for each in proposals
        ],
    }


def _change_document(
    change: Change, result: Application, previews: Mapping[Entry, Preview], *, dry_run: bool
) -> Content:
    entry = change.entry
    document: Content = {**entry.address, "action": change.action, "changes": diff_document(change)}
    preview = previews.get(entry)
    if preview is not None:
        refusal = preview.refusal
        document["preview"] = {
            **{
                name: preview.answer[name]
                for name in ("buckets", "warnings")
                if name in preview.answer
            },
            **({"refusal": refusal.problem} if refusal is not None else {}),
        }
    document["status"] = _status_of(change, result, dry_run=dry_run)
    if entry in result.written:
        document["version"] = result.written[entry]
    return document


def _status_of(change: Change, result: Application, *, dry_run: bool) -> str:
    entry = change.entry
    if entry in result.refused:
        return "refused"
    if change in result.proposed:
        return "proposed"
    if entry in result.unchanged:
        return "unchanged"
    return "written" if entry in result.written else "planned" if dry_run else "not_tried"
