"""What proposals look like at a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from pilothouse.cli.output import Output, moment

_MOST_KEYS = 5
_LABEL = 12
_STATE_STYLES = {
    "open": "yellow",
    "approved": "green",
    "applied": "green",
    "partly_applied": "red",
    "not_applied": "red",
    "undone": "red",
    "refused": "red",
    "outdated": "red",
    "missed": "red",
    "aborted": "red",
}


def place_of(item: Mapping[str, Any]) -> str:
    """Name what an item changes."""
    if item["kind"] == "config":
        user = f"/{item['user']}" if item["user"] else ""
        return f"{item['environment']}/{item['service_name']}{user}"
    of_environment = f"{item['environment']}/" if item["kind"] in {"flag", "segment"} else ""
    return f"{item['kind']} {of_environment}{item['name']}"


def print_list(output: Output, proposals: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            proposal["id"],
            proposal["state"],
            proposal["title"],
            _places(proposal["items"]),
            ", ".join(proposal["authors"]),
        )
        for proposal in proposals
    ]
    columns = ("id", "state", "title", "changes", "authors")
    output.table(columns, rows, ("cyan",), whole=("id", "state"))


def _places(items: Sequence[Mapping[str, Any]]) -> str:
    more = f" +{len(items) - 1}" if len(items) > 1 else ""
    return f"{place_of(items[0])}{more}"


def print_proposal(output: Output, proposal: Mapping[str, Any]) -> None:
    """Print a proposal: its state, what it needs, what it changes and what was said of it."""
    output.say(f"{proposal['id']}: {proposal['title']}", "bold")
    if proposal["description"]:
        output.say(proposal["description"])
    state = proposal["state"]
    _print_fact(output, "state", state_sentence(proposal), _STATE_STYLES.get(state, ""))
    authors = ", ".join(proposal["authors"])
    _print_fact(output, "proposed", f"{moment(proposal['created_at'])} UTC by {authors}")
    for label, sentence in _approval_facts(proposal):
        _print_fact(output, label, sentence)
    if proposal["checks"] is not None:
        _print_checks(output, proposal["checks"])
    if proposal["on_failure"] == "undo":
        _print_fact(output, "on failure", "what was applied before is undone")
    output.say("")
    print_items(output, proposal["items"])
    if proposal["reviews"]:
        output.say("")
        rows = [
            (each["round"], each["verdict"], each["actor"], moment(each["at"]), each["text"])
            for each in proposal["reviews"]
        ]
        output.table(("round", "verdict", "by", "at", "text"), rows, whole=("verdict",))


def state_sentence(proposal: Mapping[str, Any]) -> str:
    """Return the state with the round, and with the time or the reason that explains it."""
    sentence = f"{proposal['state']}, round {proposal['round']}"
    if proposal["apply_at"]:
        sentence += f", to be applied at {moment(proposal['apply_at'])} UTC"
    if proposal["release_id"]:
        sentence += f", release {proposal['release_id']}"
    if proposal["applied_by"]:
        sentence += f", by order of {proposal['applied_by']}"
    return sentence + (f": {proposal['reason']}" if proposal["reason"] else "")


def approval_sentence(approvals: Mapping[str, Any]) -> str:
    """Return how many approvals there are, how many the policies ask for, and whose count."""
    if not approvals["needed"]:
        return "no policy asks for approvals"
    by = f" by {', '.join(approvals['by'])}" if approvals["by"] else ""
    names = ", ".join(approvals["policies"])
    policies = "policy" if len(approvals["policies"]) == 1 else "policies"
    counted = f"{approvals['given']} of {approvals['needed']} approvals"
    return f"{counted}{by} ({policies} {names})"


def _approval_facts(proposal: Mapping[str, Any]) -> list[tuple[str, str]]:
    approvals = proposal["approvals"]
    facts = [("approvals", approval_sentence(approvals))]
    if proposal["state"] == "open" and approvals["given"] < approvals["needed"]:
        facts.append(("may approve", _approvers(approvals, proposal["authors"])))
    return facts


def _approvers(approvals: Mapping[str, Any], authors: Sequence[str]) -> str:
    """Return who may still approve, as far as the policies say it."""
    who = "publishers and admins" if "publisher" in approvals["of"] else "admins"
    people = ", people only" if approvals["people_only"] else ""
    others = ", ".join(dict.fromkeys([*authors, *approvals["by"]]))
    return f"{who} of all that it changes{people}; not {others}, nor tokens related to the authors"


def _print_checks(output: Output, checks: Mapping[str, Any]) -> None:
    names = ("schema", "credentials", "references")
    passed = all(checks[name] == "passed" for name in names)
    sentence = ", ".join(f"{name} {checks[name]}" for name in names)
    _print_fact(output, "checks", sentence, "" if passed else "red")
    for flaw in checks["errors"]:
        number = str(flaw["pointer"]).removeprefix("#/items/").partition("/")[0]
        _print_fact(output, "", f"item {number}: {flaw['detail']}", "red")


def print_items(output: Output, items: Sequence[Mapping[str, Any]]) -> None:
    """Print each item with the keys that it changes, secrets masked."""
    for number, item in enumerate(items):
        if number:
            output.say("")
        base = f"{item['operation']} of version {item['base']}" if item["base"] else "new"
        output.say(f"item {number}: {place_of(item)}, {base}", "bold")
        if item["diff"] is None:
            output.say("what it sets does not exist any more")
        elif any(item["diff"].values()):
            output.changes(item["diff"])
        if item["stale"]:
            output.say(f"stale, changed by others since: {_keys(item['stale'])}", "red")
        if item["outcome"] is not None:
            output.say(outcome_sentence(item["outcome"]))


def _keys(keys: Sequence[str]) -> str:
    if "*" in keys:
        return "the whole of it"
    more = f" and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else ""
    return ", ".join(keys[:_MOST_KEYS]) + more


def outcome_sentence(outcome: Mapping[str, Any]) -> str:
    version = f", version {outcome['version']}" if outcome["version"] else ""
    why = f": {outcome['detail'] or outcome['code']}" if outcome["code"] else ""
    return f"{outcome['state']}{version}{why}"


def print_outcomes(output: Output, proposal: Mapping[str, Any]) -> None:
    """Print what became of each item of a proposal that has ended."""
    for item in proposal["items"]:
        if item["outcome"] is not None:
            output.say(f"{place_of(item)}: {outcome_sentence(item['outcome'])}")


def _print_fact(output: Output, label: str, sentence: str, style: str = "") -> None:
    output.fact(f"{label:<{_LABEL}}", sentence, style)
