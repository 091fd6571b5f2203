"""Commands `pilothouse export-all` and `pilothouse apply`."""

import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pilothouse.cli.commands import Session
from pilothouse.cli.exit_codes import ExitCode, Failure, usage
from pilothouse.cli.folders.application import (
    Application,
    apply_changes,
    proposal_groups,
    propose,
)
from pilothouse.cli.folders.entries import USERS, Content, Entry
from pilothouse.cli.folders.folder import (
    GROUPS,
    MANIFEST,
    FolderFiles,
    failure_at,
    read_folder,
    write_folder,
)
from pilothouse.cli.folders.installation import read_installation
from pilothouse.cli.folders.plan import Change, Plan, plan_changes
from pilothouse.cli.folders.previews import Preview, drop_unchanged, preview_changes
from pilothouse.cli.folders.reports import (
    print_application,
    print_plan,
    result_document,
)

Folder = Annotated[Path, typer.Argument(help="The folder.", metavar="DIR")]


def _environment_of(session: Session) -> str | None:
    """Return the environment that was typed; raises Failure (usage) for a service or a user."""
    options = session.options
    if options.service is not None or options.user is not None:
        raise usage("a folder is of all services: --service and --user do not apply")
    return options.environment


def export_all(
    session: Session,
    folder: Folder,
    *,
    users: Annotated[
        bool, typer.Option("--users/--no-users", help="The layers of users as well.")
    ] = True,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove files of what does not exist (any more).")
    ] = False,
) -> None:
    """Write everything that you may read as files: layers, flags, segments, schemas, templates.

    Secrets are written as masks. With --environment only what belongs to that environment.
    """
    environment = _environment_of(session)
    installation = read_installation(session.api, environment, with_users=users)
    for group, reason in installation.unread.items():
        session.output.note(f"{group}: not exported: {reason}")
    contents = {entry: present.content for entry, present in installation.entries.items()}
    written = write_folder(folder, contents, installation.groups, prune=prune)
    if session.output.as_json:
        return session.output.document(
            {
                "folder": str(folder),
                "files": len(contents),
                "written": [str(path) for path in written.written],
                "removed": [str(path) for path in written.removed],
                "foreign": [str(path) for path in written.foreign],
            }
        )
    for path in written.removed:
        session.output.say(f"removed {folder / path}")
    for path in written.foreign:
        session.output.note(f"{folder / path}: not in the installation; --prune removes such files")
    counts = f"{len(contents)} exported, {len(written.written)} files changed"
    session.output.say(f"{folder}: {counts}")
    return None


def apply(
    session: Session,
    folder: Folder,
    *,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove what exists and has no file.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before writing.")] = False,
    comment: Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the history.")] = "",
) -> None:
    """Make the installation say what the files of a folder say.

    What a policy refuses becomes a proposal.
    The exit code is 5 if something changed in between, 9 if secrets have to be set.
    """
    environment = _environment_of(session)
    files = _read_files(session, folder)
    groups = _prunable_groups(folder, files, prune=prune)
    for path in files.ignored:
        session.output.note(f"{path}: ignored: not a YAML file")
    plan = _plan(session, files, groups, environment, prune=prune)
    asks = not dry_run and not yes and bool(plan.changes)
    previews = preview_changes(session.api, plan.changes, files) if dry_run or asks else {}
    if not session.output.as_json:
        print_plan(session.output, plan, previews)
    if dry_run or not plan.changes:
        _finish(session, plan, Application(), previews, [], dry_run=dry_run)
        return
    if asks:
        _require_consent(len(plan.changes))
    result = Application()
    with session.output.progress("applying", len(plan.changes)) as steps:
        result = apply_changes(
            session.api,
            plan.changes,
            comment or f"applied from {folder.resolve().name}",
            lambda entry: steps.done(entry.label),
        )
    for entry, refusal in result.refused.items():
        if entry in files.files:
            result.refused[entry] = failure_at(files.files[entry], refusal)
    proposals = _propose(session, result, comment or f"Apply {folder.resolve().name}")
    _finish(session, plan, result, previews, proposals)


def _read_files(session: Session, folder: Path) -> FolderFiles:
    """Read the folder; what is wrong with its files is one line each for people."""
    try:
        return read_folder(folder)
    except Failure as refused:
        flaws = refused.problem.get("errors") or ()
        if session.output.as_json or not flaws:
            raise
        for flaw in flaws:
            session.output.print_failure(usage(flaw["detail"]))
        raise usage(f"{refused}: {len(flaws)} of its files are wrong") from None


def _prunable_groups(folder: Path, files: FolderFiles, *, prune: bool) -> Collection[str]:
    """Return the kinds of contents of which the folder has all; raises Failure (usage)."""
    if files.groups is None and prune:
        raise usage(
            f"--prune removes everything that {folder} lacks, and {folder / MANIFEST} does not say "
            "what it is a folder of; `export-all` writes that file"
        )
    return files.groups or [group for group in GROUPS if group != USERS]


def _plan(
    session: Session,
    files: FolderFiles,
    groups: Collection[str],
    environment: str | None,
    *,
    prune: bool,
) -> Plan:
    wanted: dict[Entry, Content] = {
        entry: file.content
        for entry, file in files.files.items()
        if environment in {None, entry.environment}
    }
    with_users = USERS in groups or any(entry.user for entry in wanted)
    installation = read_installation(session.api, environment, wanted, with_users=with_users)
    for group, reason in installation.unread.items():
        session.output.note(f"{group}: cannot be compared: {reason}")
    present = {
        entry: each
        for entry, each in installation.entries.items()
        if entry in wanted or entry.group in groups
    }
    plan = plan_changes(wanted, present, groups, prune=prune)
    return replace(plan, changes=drop_unchanged(session.api, plan.changes))


def _require_consent(count: int) -> None:
    if not sys.stdin.isatty():
        raise usage("nothing was written: --yes writes without asking")
    typer.confirm(f"Apply {count} change{'s' * (count != 1)}?", abort=True, err=True)


def _propose(session: Session, result: Application, title: str) -> list[Content]:
    """Make a proposal for each environment; why it is refused counts for all its changes.

    What the caller may not write is proposed as well, for those who may at least propose.
    """
    proposals: list[Content] = []
    accepted: list[Change] = []
    for environment, changes in proposal_groups(result.proposed):
        try:
            proposal, of_it = _propose_group(session, result, environment, changes, title)
        except Failure as refusal:
            sentence = f"no proposal could be made for {environment}: {refusal}"
            each = Failure({**refusal.problem, "detail": sentence}, refusal.exit_code)
            result.refused |= {change.entry: each for change in changes}
        else:
            proposals.append(proposal)
            accepted += of_it
    for change in result.proposed:
        if change not in accepted and change.entry in result.denied:
            result.refused[change.entry] = result.denied[change.entry]
    result.proposed = accepted
    return proposals


def _propose_group(
    session: Session, result: Application, environment: str, changes: list[Change], title: str
) -> tuple[Content, list[Change]]:
    """Propose all changes, else those that were not denied; return what was proposed."""
    try:
        return propose(session.api, environment, changes, title), changes
    except Failure as refusal:
        allowed = [change for change in changes if change.entry not in result.denied]
        if refusal.exit_code != ExitCode.DENIED or len(allowed) in {0, len(changes)}:
            raise
    return propose(session.api, environment, allowed, title), allowed


def _finish(
    session: Session,
    plan: Plan,
    result: Application,
    previews: dict[Entry, Preview],
    proposals: list[Content],
    *,
    dry_run: bool = False,
) -> None:
    missing = sorted({*plan.missing, *result.missing})
    if session.output.as_json:
        document = result_document(plan, result, previews, proposals, missing, dry_run=dry_run)
        session.output.document(document)
    else:
        print_application(session.output, plan, result, proposals, missing)
        if dry_run:
            session.output.note("nothing was written")
    for refusal in {each.sentence: each for each in result.refused.values()}.values():
        session.output.print_failure(refusal)
    refused = [each.refusal for each in previews.values() if each.is_final]
    if dry_run and refused and refused[0] is not None:
        raise typer.Exit(refused[0].exit_code)
    if result.exit_code:
        raise typer.Exit(result.exit_code)
    if missing:
        raise typer.Exit(ExitCode.INCOMPLETE)
