"""pilothouse flags: feature flags."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pilothouse.cli.api import segment
from pilothouse.cli.commands import Session, command
from pilothouse.cli.exits import usage
from pilothouse.cli.files import read_document, write_out
from pilothouse.cli.output import Branch, moment
from pilothouse.cli.values import indented, pairs, read, shown, written

app = typer.Typer()

_FLAGS = "/api/v1/feature-flags"
Name = Annotated[str, typer.Argument(help="The flag's name.", metavar="NAME")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the history.")]
File = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="Members as JSON or YAML, `-` is standard input."),
]
Rollout = Annotated[
    float | None, typer.Option("--rollout", help="On for this share of users, 0 to 100.")
]
Targets = Annotated[
    list[str] | None, typer.Option("--target", help="On for this user; may stand often.")
]
Enabled = Annotated[
    bool | None, typer.Option("--enabled/--disabled", help="Whether rules count at all.")
]
Description = Annotated[str | None, typer.Option("--description")]
Owner = Annotated[str | None, typer.Option("--owner")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="May stand often.")]
Version = Annotated[
    int | None, typer.Option("--if-version", min=1, help="Only over this version of the flag.")
]
Context = Annotated[
    list[str] | None,
    typer.Option("--context", "-c", help="ATTRIBUTE=VALUE, JSON or text; may stand often."),
]
ContextFile = Annotated[
    Path | None, typer.Option("--context-file", help="Attributes as JSON or YAML.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")]
LeaveOut = Annotated[
    bool, typer.Option("--leave-out", help="Leave out what has no equal, instead of refusing all.")
]


@command(app, "list")
def list_(
    session: Session,
    *,
    enabled: Annotated[
        bool | None, typer.Option("--enabled/--disabled", help="Only these.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Only flags with this tag.")] = None,
    text: Annotated[
        str | None, typer.Option("--search", help="Part of the name or description.")
    ] = None,
    stale_days: Annotated[
        int | None, typer.Option(min=0, help="Only flags not evaluated for so long.")
    ] = None,
) -> None:
    """List the flags of an environment."""
    query: dict[str, Any] = {"enabled": enabled, "tag": tag, "q": text, "stale_days": stale_days}
    found = session.api.page(_FLAGS, environment=session.environment, **query)
    if session.output.as_json:
        return session.output.document(found)
    rows = [
        (
            flag["name"],
            flag["type"],
            "on" if flag["enabled"] else "off",
            len(flag["rules"]),
            flag["default_variant"],
            flag["version"],
            moment(flag["updated_at"]),
        )
        for flag in found["items"]
    ]
    columns = ("name", "type", "enabled", "rules", "default", "version", "changed")
    session.output.table(columns, rows, ("cyan",))
    return None


@command(app)
def get(session: Session, name: Name) -> None:
    """Show one flag."""
    path = f"{_FLAGS}/{segment(name)}"
    _show(session, session.api.get(path, environment=session.environment).object())


def _show(session: Session, flag: dict[str, Any]) -> None:
    if session.output.as_json:
        return session.output.document(flag)
    rows = [
        (member, value if isinstance(value, str) else written(value))
        for member, value in flag.items()
    ]
    session.output.table(("member", "value"), rows, ("cyan",))
    return None


def _members(file: Path | None, **stated: Any) -> dict[str, Any]:
    """Return the members of a file with those that were stated by options over them."""
    members = {} if file is None else read_document(file)
    return {**members, **{name: value for name, value in stated.items() if value is not None}}


@command(app)
def create(
    session: Session,
    name: Name,
    *,
    file: File = None,
    rollout: Rollout = None,
    target: Targets = None,
    enabled: Enabled = None,
    description: Description = None,
    owner: Owner = None,
    tag: Tags = None,
    comment: Comment = "",
) -> None:
    """Create a flag: on for a share of users, or whatever the file defines."""
    members = _members(
        file,
        rollout_percentage=rollout,
        target_users=target or None,
        enabled=enabled,
        description=description,
        owner=owner,
        tags=tag or None,
    )
    body = {**members, "name": name, "environment": session.environment, "comment": comment}
    if file is None and rollout is None and not target:
        body["rollout_percentage"] = 0
    made = session.api.send("POST", _FLAGS, json=body).object()
    _told(session, made, "is created")


@command(app, "set")
def set_(
    session: Session,
    name: Name,
    *,
    file: File = None,
    rollout: Rollout = None,
    target: Targets = None,
    enabled: Enabled = None,
    description: Description = None,
    owner: Owner = None,
    tag: Tags = None,
    comment: Comment = "",
    if_version: Version = None,
) -> None:
    """Replace single members of a flag."""
    members = _members(
        file,
        rollout_percentage=rollout,
        target_users=target or None,
        enabled=enabled,
        description=description,
        owner=owner,
        tags=tag or None,
    )
    if not members:
        raise usage("nothing is to be set: name a member by an option or by --file")
    made = session.api.send(
        "PATCH",
        f"{_FLAGS}/{segment(name)}",
        json={**members, "comment": comment},
        headers=_over(if_version),
        environment=session.environment,
    ).object()
    _told(session, made, "is set")


@command(app)
def delete(
    session: Session, name: Name, *, comment: Comment = "", if_version: Version = None
) -> None:
    """Delete a flag; programs that ask for it get their own default from then on."""
    session.api.send(
        "DELETE",
        f"{_FLAGS}/{segment(name)}",
        headers=_over(if_version),
        environment=session.environment,
        comment=comment,
    )
    if session.output.as_json:
        return session.output.document(
            {"environment": session.environment, "name": name, "deleted": True}
        )
    session.output.say(f"{name} is deleted: {session.environment}")
    return None


def _over(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}


def _told(session: Session, flag: dict[str, Any], what: str) -> None:
    if session.output.as_json:
        return session.output.document(flag)
    where = f"{flag['environment']}, version {flag['version']}"
    session.output.say(f"{flag['name']} {what}: {where}")
    return None


def _asked(session: Session, context: list[str] | None, file: Path | None) -> dict[str, Any]:
    attributes = {} if file is None else read_document(file)
    for name, value in pairs(context or (), name="--context").items():
        attributes[name] = read(value)
    return {
        "environment": session.environment,
        "user_id": session.asked.user,
        "context": attributes,
    }


@command(app)
def evaluate(
    session: Session,
    names: Annotated[
        list[str] | None,
        typer.Argument(help="One flag or several; none: all.", metavar="NAME..."),
    ] = None,
    *,
    context: Context = None,
    context_file: ContextFile = None,
) -> None:
    """Evaluate flags for --user and a context."""
    asked = _asked(session, context, context_file)
    if names is not None and len(names) == 1:
        body = {"flag_name": names[0], **asked}
        found = session.api.send("POST", f"{_FLAGS}/evaluate", json=body).object()
        evaluations = [found]
    else:
        body = {"flag_names": names or None, **asked}
        found = session.api.send("POST", f"{_FLAGS}/evaluate/batch", json=body).object()
        evaluations = list(found["evaluations"].values())
    if session.output.as_json:
        return session.output.document(found)
    rows = [
        (
            evaluation["flag_name"],
            shown(evaluation["value"]),
            evaluation["variant"],
            evaluation.get("error_code") or evaluation["reason"],
            evaluation["rule_id"],
        )
        for evaluation in evaluations
    ]
    session.output.table(("flag", "value", "variant", "reason", "rule"), rows, ("cyan",))
    return None


@command(app)
def explain(
    session: Session, name: Name, *, context: Context = None, context_file: ContextFile = None
) -> None:
    """Show why a flag answers --user as it does: every rule and condition."""
    body = {"flag_name": name, "explain": True, **_asked(session, context, context_file)}
    found = session.api.send("POST", f"{_FLAGS}/evaluate", json=body).object()
    if session.output.as_json:
        return session.output.document(found)
    rule = f", rule {found['rule_id']}" if found["rule_id"] else ""
    answer = f"{name} = {shown(found['value'])} ({found['reason']}{rule})"
    session.output.tree(answer, explanation_of(found["explanation"]))
    return None


def explanation_of(trace: dict[str, Any]) -> list[Branch]:
    """Return the trace as branches, each a sentence with those below it."""
    branches: list[Branch] = [] if trace["enabled"] else [("the flag is disabled", [])]
    for need in trace["prerequisites"]:
        served = f"{need['flag']} serves {need['served']}, one of {', '.join(need['variants'])}"
        branches.append((f"{_sign(need['met'])} prerequisite: {served} is needed", []))
    for rule in trace["rules"]:
        serve = rule["serve"] or {}
        outcome = serve.get("variant") or serve.get("skipped") or ""
        inactive = "" if rule["active"] else " (not active now)"
        below = [] if rule["when"] is None else [_condition(rule["when"])]
        told = f"{_sign(rule['matched'])} rule {rule['id']}{inactive}"
        branches.append((f"{told}: {outcome}" if outcome else told, below))
    return branches


def _condition(condition: dict[str, Any]) -> Branch:
    sign = _sign(condition["holds"])
    for kind in ("all", "any"):
        if kind in condition:
            return f"{sign} {kind} of", [_condition(one) for one in condition[kind]]
    if "not" in condition:
        return f"{sign} not", [_condition(condition["not"])]
    if "segment" in condition:
        inner = condition.get("when")
        return f"{sign} segment {condition['segment']}", [_condition(inner)] if inner else []
    if "rollout" in condition:
        rollout = condition["rollout"]
        return f"{sign} {rollout.get('percent')} % by {rollout.get('by')}", []
    values = written(condition.get("values", []))
    return f"{sign} {condition.get('attribute')} {condition.get('op')} {values}", []


def _sign(holds: bool) -> str:  # noqa: FBT001
    return "+" if holds else "-"


@command(app, "import")
def import_(
    session: Session,
    file: Annotated[Path, typer.Argument(help="JSON or YAML; `-` is standard input.")],
    *,
    form: Annotated[Literal["flagd", "unleash"], typer.Option("--format")],
    source_environment: Annotated[
        str | None, typer.Option(help="Which one of an export of Unleash that holds several.")
    ] = None,
    dry_run: DryRun = False,
    leave_out: LeaveOut = False,
    comment: Comment = "",
) -> None:
    """Import another system's flags, in one commit; others stay as they are."""
    document = read_document(file)
    with session.output.progress("importing", 1) as steps:
        found = session.api.send(
            "POST",
            f"{_FLAGS}/import",
            json=document,
            format=form,
            environment=session.environment,
            source_environment=source_environment,
            dry_run=dry_run,
            leave_out=leave_out,
            comment=comment or f"imported from {file.name}",
        ).object()
        steps.done()
    if session.output.as_json:
        return session.output.document(found)
    rows = [
        (item["kind"], item["name"], item["status"], item["version"]) for item in found["items"]
    ]
    session.output.table(("kind", "name", "status", "version"), rows, ("", "cyan"))
    for note in found["report"]:
        session.output.note(f"left out: {note['flag']} {note['pointer']} {note['reason']}")
    if dry_run:
        session.output.note("nothing was written")
    return None


@command(app)
def export(
    session: Session,
    *,
    form: Annotated[Literal["flagd"], typer.Option("--format")] = "flagd",
    leave_out: LeaveOut = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Into this file.")] = None,
) -> None:
    """Print an environment's flags as another system's definitions."""
    answer = session.api.get(
        f"{_FLAGS}/export", format=form, environment=session.environment, leave_out=leave_out
    )
    write_out(session, indented(answer.object()), output)
