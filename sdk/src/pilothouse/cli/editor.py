"""Command `pilothouse config edit`: edit one layer, and never overwrite the change of another."""

import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pilothouse.cli.commands import Session
from pilothouse.cli.exit_codes import ExitCode, Failure, failure, usage
from pilothouse.cli.yaml_text import NotYaml, parse_yaml
from pilothouse_core.diff import Diff, diff
from pilothouse_core.trees import BadKey, KeysConflict, Tree, nested_tree

_HEAD = """\
# {layer}, version {version}. Keys that you delete are unset.
# `$secret: masked` keeps a secret as it is; `$secret: {{value: ...}}` sets a new one.
"""


@dataclass(frozen=True)
class _Layer:
    text: str
    tree: Tree
    version: int  # 0: there is no such layer


def edit(
    session: Session,
    *,
    comment: Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the history.")] = "",
) -> None:
    """Open one layer as YAML in $VISUAL or $EDITOR; never overwrites another user's change."""
    before = _current(session)
    file = _draft(session, before)
    try:
        after = _edit_tree(file)
        difference = None if after is None else diff(before.tree, after)
        if not difference:
            file.unlink()
            return _say_idle(session, before)
        written = _write(session, before, difference, comment)
    except Failure as refused:
        raise _mention_file(file, refused) from None
    file.unlink()
    if session.output.as_json:
        return session.output.document(written)
    session.output.say(f"{_name(session)} is written: version {written['version']}")
    return session.output.changes(_members(difference))


def _say_idle(session: Session, before: _Layer) -> None:
    if session.output.as_json:
        where = {**session.layer, "user": session.options.user}
        session.output.document({**where, "version": before.version, "changed": False})
    session.output.say("nothing was changed")


def _name(session: Session) -> str:
    return "/".join(session.layer.values())


def _current(session: Session) -> _Layer:
    try:
        answer = session.api.get("/api/v1/export", format="yaml", **session.layer)
    except Failure as missing:
        if missing.exit_code != ExitCode.NOT_FOUND:
            raise
        return _Layer("", {}, 0)
    text = answer.body.decode()
    return _Layer(text, _tree(text), int(answer.etag.strip('"')))


def _tree(text: str) -> Tree:
    document = parse_yaml(text)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise NotYaml("a configuration is a mapping of names to values")
    try:
        return nested_tree(document)
    except (BadKey, KeysConflict) as error:
        raise NotYaml(str(error)) from None


def _draft(session: Session, before: _Layer) -> Path:
    # Only its owner may read it; the suffix shows the editor the format.
    descriptor, name = tempfile.mkstemp(".yaml", "pilothouse-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(_HEAD.format(layer=_name(session), version=before.version) + before.text)
    return Path(name)


def _edit_tree(file: Path) -> Tree | None:
    """Let the user edit the file; return its content, None if the user emptied it."""
    while True:
        _open_editor(file)
        text = file.read_text(encoding="utf-8")
        if not any(line.strip() and not line.startswith("#") for line in text.splitlines()):
            return None
        try:
            return _tree(text)
        except NotYaml as error:
            if not _again(f"{error}. Edit it again?"):
                raise usage(str(error)) from None


def _again(question: str) -> bool:
    return sys.stdin.isatty() and typer.confirm(question, default=True, err=True)


def _open_editor(file: Path) -> None:
    words = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    try:
        ended = subprocess.run([*words, str(file)], check=False)  # noqa: S603 - the user's own command
    except OSError as error:
        sentence = f"the editor {words[0]!r} cannot be started: {error.strerror}"
        raise failure("editor", sentence, ExitCode.FAILED) from None
    if ended.returncode:
        sentence = f"the editor ended with {ended.returncode}, and nothing was written"
        raise failure("editor", sentence, ExitCode.FAILED)


def _write(session: Session, before: _Layer, difference: Diff, comment: str) -> dict[str, Any]:
    changed = {key: new for key, (_, new) in difference.changed.items()}
    body = {
        "set": {**difference.added, **changed},
        "unset": list(difference.removed),
        "comment": comment,
    }
    headers = {"If-Match": f'"{before.version}"'}
    try:
        answer = session.api.send(
            "PATCH", "/api/v1/config", json=body, headers=headers, **session.layer
        )
    except Failure as refused:
        if refused.problem.get("code") != "stale_version":
            raise
        raise _stale(session, before, refused) from None
    return answer.object()


def _stale(session: Session, before: _Layer, refused: Failure) -> Failure:
    now = _current(session)
    theirs = _members(diff(before.tree, now.tree))
    if not session.output.as_json:
        session.output.note(
            f"{_name(session)} was changed in the meantime, to version {now.version}:"
        )
        session.output.changes(theirs)
    sentence = f"{_name(session)} is no longer at version {before.version}; nothing was written"
    return Failure({**refused.problem, "detail": sentence, "theirs": theirs}, refused.exit_code)


def _members(difference: Diff) -> dict[str, Any]:
    changed = {key: {"old": old, "new": new} for key, (old, new) in difference.changed.items()}
    return {"added": difference.added, "removed": difference.removed, "changed": changed}


def _mention_file(file: Path, refused: Failure) -> Failure:
    detail = f"{refused}; your text is kept in {file}"
    return Failure({**refused.problem, "detail": detail, "file": str(file)}, refused.exit_code)
