"""Whether what became of a proposal is what it says, from the histories of what it changed."""

from collections.abc import Mapping, Sequence
from typing import Any

Versions = Mapping[str, Sequence[Mapping[str, Any]]]


def find_violations(proposal: Mapping[str, Any], versions: Versions) -> list[str]:
    """Return what is wrong with an ended proposal of configurations.

    `versions` are those of each service, newest first, as its history has them.
    """
    actor = f"proposal:{proposal['id']}"
    found = []
    for item in proposal["items"]:
        name, outcome = item["service_name"], item["outcome"]
        written = [each["version"] for each in versions[name] if each["actor"] == actor]
        if len(written) > 1:
            found.append(f"{name} was written {len(written)} times")
        if outcome is None:
            found.append(f"{name} has no outcome")
        elif outcome["state"] == "applied" and written != [outcome["version"]]:
            found.append(f"{name} is said to be version {outcome['version']}, and is {written}")
        elif outcome["state"] != "applied" and written:
            found.append(f"{name} is said to be {outcome['state']}, and is there")
    states = {item["outcome"] and item["outcome"]["state"] for item in proposal["items"]}
    if (proposal["state"] == "applied") != (states <= {"applied", "unchanged"}):
        found.append(f"the proposal is {proposal['state']}, its items are {states}")
    return found
