"""Makes planned changes one by one; what a policy refuses goes into a proposal."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from pilothouse.cli.api import Api, segment
from pilothouse.cli.exit_codes import ExitCode, Failure
from pilothouse.cli.folders.entries import GLOBAL, Content, Entry
from pilothouse.cli.folders.installation import DOCUMENTS, KEYS, ROUTES, layer_query
from pilothouse.cli.folders.plan import Change, patch_of
from pilothouse_core.trees import leaf_key

_PROPOSALS = "/api/v1/proposals"
_MOST_ITEMS = 200  # of one proposal
NEEDS_PROPOSAL = "proposal_needed"
DENIED = "denied"
_NOTHING_MASKED = "nothing_masked"
_FATAL = frozenset({ExitCode.UNAVAILABLE, ExitCode.OUTCOME_UNKNOWN})
_LONGEST_TITLE = 200


@dataclass
class Application:
    """What became of each change; nothing is said of those that were not tried."""

    written: dict[Entry, int] = field(default_factory=dict)  # versions, 0 where there is none
    unchanged: set[Entry] = field(default_factory=set)
    refused: dict[Entry, Failure] = field(default_factory=dict)
    proposed: list[Change] = field(default_factory=list)
    denied: dict[Entry, Failure] = field(default_factory=dict)  # and proposed, as others may be
    missing: list[tuple[Entry, str]] = field(default_factory=list)
    warnings: list[tuple[Entry, str]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        codes = [refusal.exit_code for refusal in self.refused.values()]
        worst = [code for code in codes if code in {*_FATAL, ExitCode.CONFLICT}]
        return next(iter([*worst, *codes]), ExitCode.OK)


def apply_changes(
    api: Api, changes: Sequence[Change], comment: str, report: Callable[[Entry], None]
) -> Application:
    """Make changes in their order, and again those that were refused while others still succeed.

    So a schema may come before or after what it allows or forbids. Nothing is written over what
    has changed since it was compared. Ends early where the service cannot be reached.
    """
    result = Application()
    waiting = list(changes)
    while waiting:
        refused: list[Change] = []
        for change in waiting:
            result.refused.pop(change.entry, None)
            try:
                _make(api, change, comment, result)
            except Failure as refusal:
                code = refusal.problem.get("code")
                if code in {NEEDS_PROPOSAL, DENIED}:
                    result.proposed.append(change)
                    if code == DENIED:
                        result.denied[change.entry] = refusal
                    report(change.entry)
                    continue
                result.refused[change.entry] = refusal
                if refusal.exit_code in _FATAL:
                    return result
                refused.append(change)
            else:
                report(change.entry)
        if len(refused) == len(waiting):
            break
        waiting = refused
    return result


def _make(api: Api, change: Change, comment: str, result: Application) -> None:
    if change.entry.kind == "config":
        change, answer = _write_layer(api, change, comment)
        result.missing += [(change.entry, key) for key in change.missing]
    else:
        answer = _write_definition(api, change, comment)
    warnings = answer.get("warnings") or ()
    result.warnings += [(change.entry, str(each.get("detail", ""))) for each in warnings]
    if answer.get("changed") is False:
        result.unchanged.add(change.entry)
    else:
        result.written[change.entry] = answer.get("version", 0)


def _if_match(version: int) -> dict[str, str]:
    return {"If-Match": f'"{version}"'}


def _write_layer(api: Api, change: Change, comment: str) -> tuple[Change, Content]:
    """Write a layer without the keys whose secrets it lacks; return the change that was made."""
    while True:
        try:
            return change, send_layer(api, change, comment)
        except Failure as refusal:
            key = _unmasked_key(refusal, change)
            if key is None:
                raise
            change = change.without(key)


def _unmasked_key(refusal: Failure, change: Change) -> str | None:
    """Return the key that holds a mask and no secret, of which the service found that."""
    if refusal.problem.get("code") != _NOTHING_MASKED or change.content is None:
        return None
    flaws = refusal.problem.get("errors") or [refusal.problem]
    key = str(flaws[0].get("key") or "") if isinstance(flaws[0], Mapping) else ""
    leaf, _ = leaf_key(change.content, key) if key else ("", "")
    return leaf if leaf and leaf not in change.missing else None


def send_layer(api: Api, change: Change, comment: str, *, dry_run: bool = False) -> Content:
    """Write, or with `dry_run` only judge, what a layer becomes; return the service's answer."""
    entry, query = change.entry, {**layer_query(change.entry), "dry_run": dry_run or None}
    headers = _if_match(change.version)
    route = f"{DOCUMENTS}/{segment(entry.name)}"
    where: dict[str, Any] = {"environment": entry.environment, "dry_run": dry_run or None}
    if change.is_deletion and not entry.user:
        answer = api.send("DELETE", route, headers=headers, **where)
        return answer.object() if answer.body else {}
    additions, removals = patch_of(change.before, change.content or {})
    if change.action == "added" and not additions:
        if dry_run or entry.user:
            return {}
        body = {"config_data": {}, "comment": comment}
        return api.send("POST", route, json=body, environment=entry.environment).object()
    patch = {"set": additions, "unset": removals, "comment": comment}
    return api.send("PATCH", KEYS, json=patch, headers=headers, **query).object()


def _write_definition(api: Api, change: Change, comment: str) -> Content:
    if change.was_archived and not change.is_deletion:
        change = _restore(api, change, comment)
    answer = send_definition(api, change, comment)
    version = int(answer.get("version", change.version))
    if change.is_archived:
        return _act(api, change.entry, "archive", version, comment)
    return answer


def _restore(api: Api, change: Change, comment: str) -> Change:
    """Restore an archived flag, so that it can be written, and return the change from there."""
    restored = _act(api, change.entry, "restore", change.version, comment)
    return Change(change.entry, "changed", int(restored["version"]), change.before, change.content)


def _act(api: Api, entry: Entry, action: str, version: int, comment: str) -> Content:
    path = f"{ROUTES[entry.kind]}/{segment(entry.name)}/{action}"
    return api.send(
        "POST",
        path,
        json={"comment": comment},
        headers=_if_match(version),
        environment=entry.environment,
    ).object()


def send_definition(api: Api, change: Change, comment: str, *, dry_run: bool = False) -> Content:
    """Write, or with `dry_run` only judge, a definition; return the service's answer."""
    entry, route = change.entry, ROUTES[change.entry.kind]
    path = f"{route}/{segment(entry.name)}"
    query: dict[str, Any] = {"dry_run": True} if dry_run else {}
    if entry.environment:
        query["environment"] = entry.environment
    headers = _if_match(change.version)
    if change.is_deletion:
        answer = api.send("DELETE", path, headers=headers, comment=comment or None, **query)
        return answer.object() if answer.body else {}
    body = {**change.definition, **({"comment": comment} if comment else {})}
    if change.action == "added" and entry.environment:
        environment = query.pop("environment")
        body |= {"name": entry.name, "environment": environment}
        return api.send("POST", route, json=body, **query).object()
    return api.send("PUT", path, json=body, headers=headers, **query).object()


def proposal_groups(changes: Sequence[Change]) -> Iterator[tuple[str, list[Change]]]:
    """Yield the environments of changes, each with those that one proposal can have."""
    ordered = sorted(changes, key=_environment_of)
    for environment, group in groupby(ordered, _environment_of):
        of_environment = list(group)
        for start in range(0, len(of_environment), _MOST_ITEMS):
            yield environment, of_environment[start : start + _MOST_ITEMS]


def _environment_of(change: Change) -> str:
    return change.entry.environment or GLOBAL


def propose(api: Api, environment: str, changes: Sequence[Change], title: str) -> Content:
    """Make one proposal of all the changes, and return it; raises Failure.

    The same changes make the same proposal for a day, however often they are sent.
    """
    items = [_item_of(change) for change in changes]
    named = f"{title} ({environment})"[:_LONGEST_TITLE]
    body = {"title": named, "on_failure": "stop", "items": items}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    headers = {"Idempotency-Key": f"apply-{digest}"}
    made = api.send("POST", _PROPOSALS, json=body, headers=headers).object()
    return {**made, "environment": environment, "items": items}


def _item_of(change: Change) -> Content:
    item: Content = dict(change.entry.address)
    if change.is_deletion and not change.entry.user:
        return {**item, "delete": True}
    if change.entry.kind == "config":
        additions, removals = patch_of(change.before, change.content or {})
        if not additions and not removals:
            return {**item, "data": {}}  # a layer without keys is created
        return {**item, "set": additions, "unset": removals}
    if change.is_archived:
        return {**item, "archive": True}
    return {**item, "definition": change.definition}
