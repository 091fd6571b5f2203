"""Commands `pilothouse flags`: feature flags."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pilothouse.cli.api import segment
from pilothouse.cli.buckets import bucket_sentences
from pilothouse.cli.commands import Session, command
from pilothouse.cli.exit_codes import usage
from pilothouse.cli.files import read_document, read_object, write_out
from pilothouse.cli.output import Branch, moment
from pilothouse.cli.values import display_text, indented_json, json_text, pairs, read

app = typer.Typer()

_FLAGS = "/api/v1/feature-flags"
_LONGEST_COMMENT = 1000
Name = Annotated[str, typer.Argument(help="The flag's name.", metavar="NAME")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the history.")]
File = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="Members as JSON or YAML; `-` is standard input."),
]
Rollout = Annotated[
    float | None, typer.Option("--rollout", help="On for this share of users, 0 to 100.")
]
Targets = Annotated[
    list[str] | None, typer.Option("--target", help="On for this user. Repeatable.")
]
Enabled = Annotated[
    bool | None, typer.Option("--enabled/--disabled", help="Whether rules are evaluated.")
]
Description = Annotated[str | None, typer.Option("--description")]
Owner = Annotated[str | None, typer.Option("--owner")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag. Repeatable.")]
Version = Annotated[
    int | None, typer.Option("--if-version", min=1, help="Only if the flag has this version.")
]
Context = Annotated[
    list[str] | None,
    typer.Option("--context", "-c", help="ATTRIBUTE=VALUE, JSON or text. Repeatable."),
]
ContextFile = Annotated[
    Path | None, typer.Option("--context-file", help="Attributes as JSON or YAML.")
]
Force = Annotated[bool, typer.Option("--force", help="Change the type of a flag in use.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]
LeaveOut = Annotated[
    bool,
    typer.Option("--leave-out", help="Skip what cannot be converted, instead of refusing all."),
]


@command(app, "list")
def list_(
    session: Session,
    *,
    enabled: Annotated[
        bool | None,
        typer.Option("--enabled/--disabled", help="Only enabled or only disabled flags."),
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Only flags with this tag.")] = None,
    text: Annotated[
        str | None, typer.Option("--search", help="Part of the name or description.")
    ] = None,
    stale_days: Annotated[
        int | None, typer.Option(min=0, help="Only flags not evaluated for this many days.")
    ] = None,
    archived: Annotated[
        bool,
        typer.Option("--archived", help="Only archived flags, which are not listed otherwise."),
    ] = False,
) -> None:
    """List the flags of an environment."""
    query: dict[str, Any] = {"enabled": enabled, "tag": tag, "q": text, "stale_days": stale_days}
    query["archived"] = archived or None
    page = session.api.page(_FLAGS, environment=session.environment, **query)
    if session.output.as_json:
        return session.output.document(page)
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
        for flag in page["items"]
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
        (member, value if isinstance(value, str) else json_text(value))
        for member, value in flag.items()
    ]
    session.output.table(("member", "value"), rows, ("cyan",))
    return None


def _members(file: Path | None, **stated: Any) -> dict[str, Any]:
    """Return the members of a file, overridden by those of options."""
    members = {} if file is None else read_object(file)
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
    dry_run: DryRun = False,
) -> None:
    """Create a flag: on for a share of users, or as the file defines it."""
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
    made = session.api.send("POST", _FLAGS, json=body, dry_run=dry_run or None).object()
    _print_flag(session, made, "is created")


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
    force: Force = False,
    dry_run: DryRun = False,
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
        raise usage("nothing to set: give a member by an option or --file")
    made = session.api.send(
        "PATCH",
        f"{_FLAGS}/{segment(name)}",
        json={**members, "comment": comment},
        headers=_over(if_version),
        environment=session.environment,
        force=force or None,
        dry_run=dry_run or None,
    ).object()
    _print_flag(session, made, "is set")


@command(app)
def delete(
    session: Session,
    name: Name,
    *,
    comment: Comment = "",
    if_version: Version = None,
    dry_run: DryRun = False,
) -> None:
    """Delete a flag; programs that evaluate it get their own default from then on."""
    answer = session.api.send(
        "DELETE",
        f"{_FLAGS}/{segment(name)}",
        headers=_over(if_version),
        environment=session.environment,
        comment=comment,
        dry_run=dry_run or None,
    )
    if dry_run:
        return _print_preview(session, answer.object())
    if session.output.as_json:
        return session.output.document(
            {"environment": session.environment, "name": name, "deleted": True}
        )
    session.output.say(f"{name} is deleted: {session.environment}")
    return None


@command(app)
def archive(
    session: Session,
    name: Name,
    *,
    comment: Comment = "",
    if_version: Version = None,
    dry_run: DryRun = False,
) -> None:
    """Archive a flag: it is not served or listed, and can be restored."""
    body = {"comment": comment}
    made = _act(session, name, "archive", if_version, body, dry_run=dry_run or None)
    _print_flag(session, made, "is archived")


@command(app)
def restore(
    session: Session,
    name: Name,
    *,
    comment: Comment = "",
    if_version: Version = None,
    dry_run: DryRun = False,
) -> None:
    """Restore an archived flag as it was."""
    body = {"comment": comment}
    made = _act(session, name, "restore", if_version, body, dry_run=dry_run or None)
    _print_flag(session, made, "is restored")


@command(app)
def kill(
    session: Session,
    name: Name,
    *,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; kept in the history.")],
    if_version: Version = None,
    dry_run: DryRun = False,
) -> None:
    """Turn a flag off in one environment at once; its rules stay as they are."""
    body = {"reason": reason}
    made = _act(session, name, "kill", if_version, body, dry_run=dry_run or None)
    _print_flag(session, made, "is off")


@command(app)
def rollback(
    session: Session,
    name: Name,
    version: Annotated[int, typer.Argument(min=1, help="The version to restore.")],
    *,
    comment: Comment = "",
    if_version: Version = None,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Write an earlier version of a flag as a new one, with its cohorts."""
    body = {"version": version, "comment": comment}
    query = {"force": force or None, "dry_run": dry_run or None}
    made = _act(session, name, "rollback", if_version, body, **query)
    _print_flag(session, made, f"is restored from version {version}")


@command(app)
def copy(
    session: Session,
    name: Name,
    to: Annotated[str, typer.Argument(help="The target environment.")],
    *,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing flag of this name.")
    ] = False,
    comment: Comment = "",
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Copy a flag to another environment; users stay in their cohorts."""
    body = {"to": to, "overwrite": overwrite, "comment": comment, "dry_run": dry_run}
    answer = _act(session, name, "copy", None, body, force=force or None)
    if session.output.as_json:
        return session.output.document(answer)
    session.output.say(f"{name} is {answer['status']}: {to}, version {answer['version']}")
    for one in answer["missing"]:
        state = "archived there" if one["archived"] else "missing there"
        session.output.note(f"{state}: {one['kind']} {one['name']}")
    if dry_run:
        session.output.note("nothing was written")
    return None


def _act(
    session: Session,
    name: str,
    action: str,
    if_version: int | None,
    body: Mapping[str, Any],
    **query: Any,
) -> dict[str, Any]:
    return session.api.send(
        "POST",
        f"{_FLAGS}/{segment(name)}/{action}",
        json=body,
        headers=_over(if_version),
        environment=session.environment,
        **query,
    ).object()


def _over(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}


def _print_flag(session: Session, flag: dict[str, Any], what: str) -> None:
    """Print a written flag, or what a dry run returned in its place."""
    if "dry_run" in flag:
        return _print_preview(session, flag)
    if session.output.as_json:
        return session.output.document(flag)
    where = f"{flag['environment']}, version {flag['version']}"
    state = "" if flag["enabled"] else ", not enabled"
    session.output.say(f"{flag['name']} {what}: {where}{state}")
    return None


def _print_preview(session: Session, preview: dict[str, Any]) -> None:
    if session.output.as_json:
        return session.output.document(preview)
    state = "would be changed" if preview["changed"] else "would stay as it is"
    where = f"{preview['environment']}, now version {preview['version']}"
    session.output.say(f"{preview['name']} {state}: {where}")
    if any(preview["diff"].values()):
        session.output.changes(preview["diff"])
    for sentence in bucket_sentences(preview.get("buckets")):
        session.output.say(sentence)
    session.output.note("nothing was written")
    return None


def _evaluation_request(
    session: Session, context: list[str] | None, file: Path | None
) -> dict[str, Any]:
    attributes = {} if file is None else read_object(file)
    for name, value in pairs(context or (), name="--context").items():
        attributes[name] = read(value)
    return {
        "environment": session.environment,
        "user_id": session.options.user,
        "context": attributes,
    }


@command(app)
def evaluate(
    session: Session,
    names: Annotated[
        list[str] | None,
        typer.Argument(help="One flag or several; by default all.", metavar="NAME..."),
    ] = None,
    *,
    context: Context = None,
    context_file: ContextFile = None,
) -> None:
    """Evaluate flags for --user and a context."""
    request = _evaluation_request(session, context, context_file)
    if names is not None and len(names) == 1:
        body = {"flag_name": names[0], **request}
        answer = session.api.send("POST", f"{_FLAGS}/evaluate", json=body).object()
        evaluations = [answer]
    else:
        body = {"flag_names": names or None, **request}
        answer = session.api.send("POST", f"{_FLAGS}/evaluate/batch", json=body).object()
        evaluations = list(answer["evaluations"].values())
    if session.output.as_json:
        return session.output.document(answer)
    rows = [
        (
            evaluation["flag_name"],
            display_text(evaluation["value"]),
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
    """Show why --user gets a flag's value: every rule and condition."""
    body = {
        "flag_name": name,
        "explain": True,
        **_evaluation_request(session, context, context_file),
    }
    evaluation = session.api.send("POST", f"{_FLAGS}/evaluate", json=body).object()
    if session.output.as_json:
        return session.output.document(evaluation)
    rule = f", rule {evaluation['rule_id']}" if evaluation["rule_id"] else ""
    answer = f"{name} = {display_text(evaluation['value'])} ({evaluation['reason']}{rule})"
    session.output.tree(answer, explanation_of(evaluation["explanation"]))
    return None


def explanation_of(trace: dict[str, Any]) -> list[Branch]:
    """Return the trace as branches, each a sentence with its own branches."""
    branches: list[Branch] = [] if trace["enabled"] else [("the flag is disabled", [])]
    for need in trace["prerequisites"]:
        served = f"{need['flag']} serves {need['served']}, one of {', '.join(need['variants'])}"
        branches.append((f"{_sign(need['met'])} prerequisite: {served} is needed", []))
    for rule in trace["rules"]:
        serve = rule["serve"] or {}
        outcome = serve.get("variant") or serve.get("skipped") or ""
        inactive = "" if rule["active"] else " (not active now)"
        below = [] if rule["when"] is None else [_condition(rule["when"])]
        text = f"{_sign(rule['matched'])} rule {rule['id']}{inactive}"
        branches.append((f"{text}: {outcome}" if outcome else text, below))
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
    values = json_text(condition.get("values", []))
    return f"{sign} {condition.get('attribute')} {condition.get('op')} {values}", []


def _sign(holds: bool) -> str:  # noqa: FBT001
    return "+" if holds else "-"


Hash = Annotated[
    Literal["v2", "v3"] | None,
    typer.Option("--hash", help="flagd's hash for rollouts; v2, as in its daemons, by default."),
]


@command(app, "import")
def import_(
    session: Session,
    files: Annotated[
        list[Path],
        typer.Argument(
            help="JSON or YAML; `-` is standard input. Several files of flagd are read as one.",
            metavar="FILE...",
        ),
    ],
    *,
    form: Annotated[Literal["pilothouse", "flagd", "unleash"], typer.Option("--format")],
    source_environment: Annotated[
        str | None, typer.Option(help="The environment of an Unleash export with several.")
    ] = None,
    hash_version: Hash = None,
    dry_run: DryRun = False,
    leave_out: LeaveOut = False,
    comment: Comment = "",
) -> None:
    """Import exported flags, of Pilothouse or another system; other flags stay unchanged."""
    read = [read_document(file) for file in files]
    if len(files) > 1 and form != "flagd":
        raise usage("only files of flagd are read as one: import others one by one")
    document = read[0] if len(read) == 1 else _flatten_documents(read)
    names = ", ".join(file.name for file in files)
    with session.output.progress("importing", 1) as steps:
        answer = session.api.send(
            "POST",
            f"{_FLAGS}/import",
            json=document,
            format=form,
            environment=session.environment,
            source_environment=source_environment,
            hash=hash_version,
            dry_run=dry_run,
            leave_out=leave_out,
            comment=comment or f"imported from {names}"[:_LONGEST_COMMENT],
        ).object()
        steps.done()
    if session.output.as_json:
        return session.output.document(answer)
    rows = [
        (item["kind"], item["name"], item["status"], item["version"]) for item in answer["items"]
    ]
    session.output.table(("kind", "name", "status", "version"), rows, ("", "cyan"))
    for note in answer["report"]:
        session.output.note(f"skipped: {note['flag']} {note['pointer']} {note['reason']}")
    if answer.get("hash"):
        session.output.note(f"rollouts use flagd's hash {answer['hash']}")
    if dry_run:
        session.output.note("nothing was written")
    return None


def _flatten_documents(documents: Sequence[dict[str, Any] | list[Any]]) -> list[Any]:
    """Return the documents of all files, each of which may contain several."""
    return [
        document
        for content in documents
        for document in (content if isinstance(content, list) else [content])
    ]


@command(app)
def export(
    session: Session,
    *,
    form: Annotated[Literal["pilothouse", "flagd"], typer.Option("--format")] = "flagd",
    hash_version: Hash = None,
    leave_out: LeaveOut = False,
    redraw: Annotated[
        bool,
        typer.Option(
            "--redraw",
            help="Keep the shares of rollouts that flagd cannot compute, with new cohorts.",
        ),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file.")
    ] = None,
) -> None:
    """Print an environment's flags, in Pilothouse's own format or as flagd's definitions."""
    answer = session.api.get(
        f"{_FLAGS}/export",
        format=form,
        environment=session.environment,
        hash=hash_version,
        leave_out=leave_out,
        redraw=redraw or None,
    )
    text = answer.body.decode() if form == "pilothouse" else indented_json(answer.object())
    write_out(session, text, output)
