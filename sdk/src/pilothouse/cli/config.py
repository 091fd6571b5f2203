"""pilothouse config: configurations."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pilothouse.cli.api import segment
from pilothouse.cli.commands import Session, command
from pilothouse.cli.editing import edit
from pilothouse.cli.exits import ExitCode, Failure, usage
from pilothouse.cli.files import FORMATS, ConfigFile, config_files, write_out
from pilothouse.cli.output import layer, moment
from pilothouse.cli.values import STDIN, indented, is_masked, read, shown, typed
from pilothouse.cli.watching import watch
from pilothouse_core.trees import leaves

app = typer.Typer()

_KEYS = "/api/v1/config"
_DOCUMENTS = "/api/configs"
Format = Literal["yaml", "json", "properties", "dotenv"]

Key = Annotated[str, typer.Argument(help="A dotted key, e.g. database.host.", metavar="KEY")]
SomeKey = Annotated[
    str | None, typer.Argument(help="Only this key instead of the document.", metavar="KEY")
]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the history.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Decrypt secrets; audited.")]
Alone = Annotated[bool, typer.Option("--layer", help="The addressed layer alone, not merged.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")]
Version = Annotated[
    int | None, typer.Option("--if-version", min=0, help="Only over this version of the layer.")
]
Out = Annotated[Path | None, typer.Option("--output", "-o", help="Into this file.")]


@command(app)
def get(
    session: Session,
    key: Key,
    *,
    version: Annotated[
        int | None, typer.Option(min=1, help="What the addressed layer said then.")
    ] = None,
    reveal: Reveal = False,
    alone: Alone = False,
) -> None:
    """Print one value: text as it is, anything else as JSON."""
    query: dict[str, Any] = {"version": version, "reveal": reveal, "resolve": not alone}
    found = session.api.get(f"{_KEYS}/{segment(key)}", **session.layer, **query).object()
    if session.output.as_json:
        return session.output.document(found)
    if is_masked(found["value"]):
        session.output.note(f"{key} is a secret; --reveal shows it")
    value = found["value"]
    session.output.raw(f"{value}\n" if isinstance(value, str) else f"{shown(value)}\n")
    return None


@command(app, "set")
def set_(
    session: Session,
    key: Key,
    value: Annotated[
        str | None,
        typer.Argument(
            help="JSON, else text; `-` reads standard input, nothing asks.", metavar="VALUE"
        ),
    ] = None,
    *,
    secret: Annotated[
        bool, typer.Option("--secret", help="Encrypt it; better from `-` or asked for.")
    ] = False,
    text: Annotated[bool, typer.Option("--text", help="Text, even if it is JSON.")] = False,
    comment: Comment = "",
    if_version: Version = None,
) -> None:
    """Set one key of the addressed layer; a section is merged, a secret stays one."""
    if secret and value not in {None, STDIN}:
        session.output.note(
            "a secret that is typed here stays in the shell's history; `-` reads it"
        )
    given = typed(value, name="VALUE", is_secret=secret)
    body = {
        "set": {key: given if text else read(given)},
        "encrypt": [key] if secret else [],
        "comment": comment,
    }
    _told(session, _patched(session, body, if_version), f"{key} is set", f"{key} was so already")


@command(app)
def unset(
    session: Session,
    keys: Annotated[list[str], typer.Argument(help="Dotted keys or sections.", metavar="KEY...")],
    comment: Comment = "",
    if_version: Version = None,
) -> None:
    """Remove keys from the addressed layer, in one version; what is absent is passed over."""
    written = _patched(session, {"unset": keys, "comment": comment}, if_version)
    _told(session, written, f"{', '.join(keys)} removed", "there was nothing to remove")


def _patched(session: Session, body: dict[str, Any], version: int | None) -> dict[str, Any]:
    headers = {} if version is None else {"If-Match": f'"{version}"'}
    answer = session.api.send("PATCH", _KEYS, json=body, headers=headers, **session.layer)
    return answer.object()


def _told(session: Session, written: dict[str, Any], done: str, idle: str) -> None:
    if session.output.as_json:
        session.output.document(written)
    elif written["changed"]:
        session.output.say(f"{done}: {layer(written)}, version {written['version']}")
    else:
        session.output.say(f"{idle}: {layer(written)}")


@command(app, "list")
def list_(
    session: Session,
    prefix: Annotated[str, typer.Argument(help="Only this section.", metavar="PREFIX")] = "",
    *,
    alone: Alone = False,
) -> None:
    """List keys with the layer each value comes from."""
    query: dict[str, Any] = {"prefix": prefix or None, "resolve": not alone}
    found = session.api.page(_KEYS, **session.layer, **query)
    if session.output.as_json:
        return session.output.document(found)
    rows = [
        (
            item["key"],
            layer(item["source"]),
            item["version"],
            moment(item["updated_at"]),
            shown(item["value"]),
        )
        for item in found["items"]
    ]
    session.output.table(("key", "from", "version", "changed", "value"), rows, ("cyan",))
    return None


@command(app)
def effective(
    session: Session,
    *,
    form: Annotated[Format | None, typer.Option("--format", help="As a file.")] = None,
    reveal: Reveal = False,
    output: Out = None,
) -> None:
    """Show what a service sees: all layers merged."""
    path, query = "/api/v1/effective", {**session.layer, "reveal": reveal}
    if form not in {None, "json"} and not session.output.as_json:
        answer = session.api.get(path, headers={"Accept": FORMATS[str(form)]}, **query)
        return write_out(session, answer.body.decode(), output)
    found = session.api.get(path, **query).object()
    if session.output.as_json:
        return write_out(session, indented(found), output)
    if form == "json" or output is not None:
        return write_out(session, indented(found["data"]), output)
    rows = [
        (key, layer(found["sources"][key]), shown(value)) for key, value in leaves(found["data"])
    ]
    session.output.table(("key", "from", "value"), rows, ("cyan",))
    return None


command(app)(edit)


@command(app)
def history(session: Session, key: SomeKey = None, limit: Limit = 20) -> None:
    """List the versions of a key or of the whole document, newest first."""
    found = session.api.page(f"{_of(session, key)}/history", limit, **_addressed(session, key))
    if session.output.as_json:
        return session.output.document(found)
    columns = ["version", "at", "action", "actor", "comment"]
    rows = [
        [item["version"], moment(item["at"]), item["action"], item["actor"], item["comment"]]
        for item in found["items"]
    ]
    if key is not None:
        columns.append("value")
        for row, item in zip(rows, found["items"], strict=True):
            row.append("(removed)" if item["removed"] else shown(item["value"]))
    session.output.table(columns, rows)
    return None


@command(app)
def diff(
    session: Session,
    old: Annotated[int | None, typer.Argument(min=1, metavar="OLD")] = None,
    new: Annotated[int | None, typer.Argument(min=1, metavar="NEW")] = None,
) -> None:
    """Compare two versions of a document; without them the last two."""
    query = {"old_version": old, "new_version": new, **_addressed(session, None)}
    found = session.api.get(f"{_of(session, None)}/diff", **query).object()
    if session.output.as_json:
        return session.output.document(found)
    session.output.say(f"{layer(found)}: {found['old_version']} -> {found['new_version']}")
    session.output.changes(found)
    return None


@command(app)
def rollback(
    session: Session,
    key: SomeKey = None,
    *,
    to: Annotated[int, typer.Option("--to", min=1, help="The version to go back to.")],
    comment: Comment = "",
) -> None:
    """Write an earlier value, or an earlier document, as a new version."""
    body = {"version": to, "comment": comment}
    path = f"{_of(session, key)}/rollback"
    found = session.api.send("POST", path, json=body, **_addressed(session, key)).object()
    if session.output.as_json:
        return session.output.document(found)
    what = key or layer(found)
    session.output.say(f"{what} is as in version {to} again: version {found['version']}")
    return None


def _of(session: Session, key: str | None) -> str:
    return f"{_DOCUMENTS}/{segment(session.service)}" if key is None else f"{_KEYS}/{segment(key)}"


def _addressed(session: Session, key: str | None) -> dict[str, Any]:
    """Return the layer as the two kinds of address name it; raises Failure (usage)."""
    if key is not None:
        return session.layer
    if session.asked.user is not None:
        raise usage("the layer of a user is reached by key: name a KEY")
    return {"environment": session.environment}


@command(app, "import")
def import_(
    session: Session,
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Files or folders; `-` is standard input. Without --service a file's stem is "
            "the service, and `application` the shared layer.",
            metavar="FILE...",
        ),
    ],
    *,
    form: Annotated[
        Format | None, typer.Option("--format", help="Default: by the file's ending.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    comment: Comment = "",
) -> None:
    """Merge files into their layers; keys that a file does not name stay as they are."""
    files = config_files(paths, form, session.profile.service)
    documents: list[dict[str, Any]] = []
    failures: list[Failure] = []
    with session.output.progress("importing", len(files)) as steps:
        for file in files:
            try:
                documents += _imported(session, file, comment, dry_run=dry_run)
            except Failure as refused:
                failures.append(refused.of_file(file.name))
            steps.done(file.name)
    _tell_imported(session, documents, dry_run=dry_run)
    for each in failures:
        session.output.failed(each)
    if failures:
        raise typer.Exit(failures[0].exit_code)
    if any(document["status"] == "failed" for document in documents):
        raise typer.Exit(ExitCode.FAILED)


def _imported(
    session: Session, file: ConfigFile, comment: str, *, dry_run: bool
) -> list[dict[str, Any]]:
    query = {
        **session.layer,
        "service_name": file.service,
        "format": file.form,
        "dry_run": dry_run,
        "comment": comment or f"imported from {file.name}",
    }
    answer = session.api.send("POST", "/api/v1/import", content=file.content(), **query)
    return list(answer.object()["documents"])


def _tell_imported(session: Session, documents: list[dict[str, Any]], *, dry_run: bool) -> None:
    if session.output.as_json:
        return session.output.document({"dry_run": dry_run, "documents": documents})
    rows = []
    for document in documents:
        counts = [len(document["changes"][kind]) for kind in ("added", "changed")]
        error = (document["error"] or {}).get("detail", "")
        rows.append((layer(document), document["status"], document["version"], *counts, error))
    session.output.table(("layer", "status", "version", "added", "changed", ""), rows)
    if dry_run:
        session.output.note("nothing was written")
    return None


@command(app)
def export(
    session: Session,
    form: Annotated[Format, typer.Option("--format", help="The file's format.")] = "yaml",
    output: Out = None,
) -> None:
    """Print one layer as a file; secrets stay masked."""
    chosen = "json" if session.output.as_json else form
    answer = session.api.get("/api/v1/export", format=chosen, **session.layer)
    write_out(session, answer.body.decode(), output)


@command(app, "watch")
def watch_(
    session: Session,
    prefix: Annotated[str, typer.Argument(help="Only this section.", metavar="PREFIX")] = "",
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="End after so many changes.")
    ] = None,
) -> None:
    """Tell every change of the merged configuration until Ctrl-C; with --json one line each."""
    watch(session, prefix, count)
