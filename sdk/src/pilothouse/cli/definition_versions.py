"""Versions of schemas and templates: what both command groups do with them in the same way."""

from pilothouse.cli.commands import Session
from pilothouse.cli.output import moment


def version_header(version: int | None) -> dict[str, str]:
    """Return the header by which only this version is changed, none for any version."""
    return {} if version is None else {"If-Match": f'"{version}"'}


def delete_definition(
    session: Session, path: str, name: str, comment: str, version: int | None
) -> None:
    """Delete what is at `path`, if it has this version, and print that."""
    session.api.send("DELETE", path, headers=version_header(version), comment=comment or None)
    if session.output.as_json:
        session.output.document({"name": name, "deleted": True})
    else:
        session.output.say(f"{name} is deleted")


def print_history(session: Session, path: str, limit: int) -> None:
    """Print the versions of what is at `path`, newest first."""
    page = session.api.page(f"{path}/history", limit)
    if session.output.as_json:
        session.output.document(page)
        return
    columns = ("version", "at", "action", "actor", "comment")
    rows = [
        (item["version"], moment(item["at"]), item["action"], item["actor"], item["comment"])
        for item in page["items"]
    ]
    session.output.table(columns, rows)


def print_diff(session: Session, path: str, name: str, old: int | None, new: int | None) -> None:
    """Print what differs between two versions of what is at `path`."""
    answer = session.api.get(f"{path}/diff", old_version=old, new_version=new).object()
    if session.output.as_json:
        session.output.document(answer)
        return
    session.output.say(f"{name}: {answer['old_version']} -> {answer['new_version']}")
    session.output.changes(answer)
