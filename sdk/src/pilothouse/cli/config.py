"""Commands `pilothouse config`: configurations."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pilothouse.cli.api import segment
from pilothouse.cli.commands import Session, command
from pilothouse.cli.editor import edit
from pilothouse.cli.exit_codes import ExitCode, Failure, usage
from pilothouse.cli.files import FORMATS, ConfigFile, Known, config_files, write_out
from pilothouse.cli.output import layer, moment
from pilothouse.cli.values import STDIN, display_text, indented_json, is_masked, read, read_argument
from pilothouse.cli.watch import watch
from pilothouse_core.trees import leaves

app = typer.Typer()

_KEYS = "/api/v1/config"
_DOCUMENTS = "/api/configs"
Format = Literal["yaml", "json", "properties", "dotenv"]
Secrets = Literal["masked", "left-out", "revealed"]

Key = Annotated[str, typer.Argument(help="A dotted key, e.g. database.host.", metavar="KEY")]
SomeKey = Annotated[
    str | None, typer.Argument(help="Only this key instead of the document.", metavar="KEY")
]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; kept in the history.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Decrypt secrets; audited.")]
Defaults = Annotated[
    bool, typer.Option("--defaults", help="Also defaults of schemas, below all layers.")
]
Alone = Annotated[bool, typer.Option("--layer", help="Only the addressed layer, not merged.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many versions.")]
Version = Annotated[
    int | None, typer.Option("--if-version", min=0, help="Only if the layer has this version.")
]
Types = Annotated[
    bool, typer.Option("--types", help="Types and keys in comments (properties, dotenv).")
]
Out = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")]


@command(app)
def get(
    session: Session,
    key: Key,
    *,
    version: Annotated[
        int | None, typer.Option(min=1, help="The value in this version of the addressed layer.")
    ] = None,
    reveal: Reveal = False,
    defaults: Defaults = False,
    alone: Alone = False,
) -> None:
    """Print one value: text as it is, anything else as JSON."""
    query: dict[str, Any] = {
        "version": version,
        "reveal": reveal,
        "resolve": not alone,
        "defaults": defaults or None,
    }
    answer = session.api.get(f"{_KEYS}/{segment(key)}", **session.layer, **query).object()
    if session.output.as_json:
        return session.output.document(answer)
    if is_masked(answer["value"]):
        session.output.note(f"{key} is a secret; --reveal shows it")
    value = answer["value"]
    session.output.raw(f"{value}\n" if isinstance(value, str) else f"{display_text(value)}\n")
    return None


@command(app, "set")
def set_(
    session: Session,
    key: Key,
    value: Annotated[
        str | None,
        typer.Argument(
            help="JSON, else text. `-` reads standard input; prompts if omitted.", metavar="VALUE"
        ),
    ] = None,
    *,
    secret: Annotated[
        bool, typer.Option("--secret", help="Encrypt it; use `-` or the prompt.")
    ] = False,
    text: Annotated[
        bool, typer.Option("--text", help="Store it as text, even if it is JSON.")
    ] = False,
    comment: Comment = "",
    if_version: Version = None,
) -> None:
    """Set one key of the addressed layer; a section is merged, a secret stays encrypted."""
    if secret and value not in {None, STDIN}:
        session.output.note(
            "a secret in the command line stays in the shell's history; use `-` to read it"
        )
    given = read_argument(value, name="VALUE", is_secret=secret)
    body = {
        "set": {key: given if text else read(given)},
        "encrypt": [key] if secret else [],
        "comment": comment,
    }
    _print_written(
        session,
        _send_patch(session, body, if_version),
        f"{key} is set",
        f"{key} already had this value",
    )


@command(app)
def unset(
    session: Session,
    keys: Annotated[list[str], typer.Argument(help="Dotted keys or sections.", metavar="KEY...")],
    comment: Comment = "",
    if_version: Version = None,
) -> None:
    """Remove keys from the addressed layer, in one version; absent keys are ignored."""
    written = _send_patch(session, {"unset": keys, "comment": comment}, if_version)
    _print_written(session, written, f"{', '.join(keys)} removed", "there was nothing to remove")


def _send_patch(session: Session, body: dict[str, Any], version: int | None) -> dict[str, Any]:
    headers = {} if version is None else {"If-Match": f'"{version}"'}
    answer = session.api.send("PATCH", _KEYS, json=body, headers=headers, **session.layer)
    return answer.object()


def _print_written(session: Session, written: dict[str, Any], done: str, idle: str) -> None:
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
    page = session.api.page(_KEYS, **session.layer, **query)
    if session.output.as_json:
        return session.output.document(page)
    rows = [
        (
            item["key"],
            layer(item["source"]),
            item["version"],
            moment(item["updated_at"]),
            display_text(item["value"]),
        )
        for item in page["items"]
    ]
    session.output.table(("key", "from", "version", "changed", "value"), rows, ("cyan",))
    return None


@command(app)
def effective(
    session: Session,
    *,
    form: Annotated[
        Format | None, typer.Option("--format", help="Print a file in this format.")
    ] = None,
    reveal: Reveal = False,
    defaults: Defaults = False,
    output: Out = None,
) -> None:
    """Show what a service sees: all layers merged."""
    path = "/api/v1/effective"
    query = {**session.layer, "reveal": reveal, "defaults": defaults or None}
    if form not in {None, "json"} and not session.output.as_json:
        answer = session.api.get(path, headers={"Accept": FORMATS[str(form)]}, **query)
        return write_out(session, answer.body.decode(), output)
    configuration = session.api.get(path, **query).object()
    if session.output.as_json:
        return write_out(session, indented_json(configuration), output)
    if form == "json" or output is not None:
        return write_out(session, indented_json(configuration["data"]), output)
    rows = [
        (key, layer(configuration["sources"][key]), display_text(value))
        for key, value in leaves(configuration["data"])
    ]
    session.output.table(("key", "from", "value"), rows, ("cyan",))
    return None


command(app)(edit)


@command(app)
def history(session: Session, key: SomeKey = None, limit: Limit = 20) -> None:
    """List the versions of a key or of the whole document, newest first."""
    page = session.api.page(f"{_of(session, key)}/history", limit, **_layer_params(session, key))
    if session.output.as_json:
        return session.output.document(page)
    columns = ["version", "at", "action", "actor", "comment"]
    rows = [
        [item["version"], moment(item["at"]), item["action"], item["actor"], item["comment"]]
        for item in page["items"]
    ]
    if key is not None:
        columns.append("value")
        for row, item in zip(rows, page["items"], strict=True):
            row.append("(removed)" if item["removed"] else display_text(item["value"]))
    session.output.table(columns, rows)
    return None


@command(app)
def diff(
    session: Session,
    old: Annotated[int | None, typer.Argument(min=1, metavar="OLD")] = None,
    new: Annotated[int | None, typer.Argument(min=1, metavar="NEW")] = None,
) -> None:
    """Compare two versions of a document, by default the last two."""
    query = {"old_version": old, "new_version": new, **_layer_params(session, None)}
    answer = session.api.get(f"{_of(session, None)}/diff", **query).object()
    if session.output.as_json:
        return session.output.document(answer)
    session.output.say(f"{layer(answer)}: {answer['old_version']} -> {answer['new_version']}")
    session.output.changes(answer)
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
    answer = session.api.send("POST", path, json=body, **_layer_params(session, key)).object()
    if session.output.as_json:
        return session.output.document(answer)
    what = key or layer(answer)
    session.output.say(f"{what} is restored from version {to}: version {answer['version']}")
    return None


def _of(session: Session, key: str | None) -> str:
    return f"{_DOCUMENTS}/{segment(session.service)}" if key is None else f"{_KEYS}/{segment(key)}"


def _layer_params(session: Session, key: str | None) -> dict[str, Any]:
    """Return the layer as query parameters for a key or a document; raises Failure (usage)."""
    if key is not None:
        return session.layer
    if session.options.user is not None:
        raise usage("the layer of a user is addressed by key: name a KEY")
    return {"environment": session.environment}


@command(app, "import")
def import_(
    session: Session,
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Files or folders; `-` is standard input. Without --service a file's stem is "
            "the service; `application` is the shared layer.",
            metavar="FILE...",
        ),
    ],
    *,
    form: Annotated[
        Format | None, typer.Option("--format", help="Default: by the file's suffix.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change.")
    ] = False,
    types: Types = False,
    charset: Annotated[
        Literal["utf-8", "iso-8859-1"] | None,
        typer.Option("--charset", help="Charset of the files; properties may be ISO-8859-1."),
    ] = None,
    comment: Comment = "",
) -> None:
    """Merge files into their layers; keys that a file does not contain stay unchanged."""
    files, left_out = config_files(
        paths, form, session.profile.service, lambda: _known_names(session)
    )
    for name, reason in left_out:
        session.output.note(f"{name}: not imported: {reason}")
    documents: list[tuple[ConfigFile, dict[str, Any]]] = []
    notes: list[str] = []
    failures: list[Failure] = []
    with session.output.progress("importing", len(files)) as steps:
        for file in files:
            try:
                answer = _import_file(session, file, comment, charset, dry_run=dry_run, types=types)
            except Failure as refused:
                failures.append(refused.of_file(file.name))
            else:
                documents += [(file, document) for document in answer["documents"]]
                notes += [f"{file.name}: {note}" for note in answer.get("notes", ())]
            steps.done(file.name)
    _print_imported(session, documents, notes, dry_run=dry_run)
    for each in failures:
        session.output.print_failure(each)
    if failures:
        raise typer.Exit(failures[0].exit_code)
    if any(document["status"] == "failed" for _, document in documents):
        raise typer.Exit(ExitCode.FAILED)


def _known_names(session: Session) -> Known:
    """Return the environments and services with documents, to interpret file names."""
    try:
        items = session.api.page(_DOCUMENTS)["items"]
    except Failure:
        return Known()  # the import of each file reports it
    environments = {item["environment"] for item in items} - {"default"}
    return Known(environments, {item["service_name"] for item in items} - {"_shared"})


def _import_file(
    session: Session,
    file: ConfigFile,
    comment: str,
    charset: str | None,
    *,
    dry_run: bool,
    types: bool,
) -> dict[str, Any]:
    query = {
        **session.layer,
        "service_name": file.service,
        "format": file.form,
        "dry_run": dry_run,
        "types": types,
        "comment": comment or f"imported from {file.name}",
    }
    if file.environment is not None:
        query["environment"] = file.environment
    if charset is not None:
        query["charset"] = charset
    answer = session.api.send("POST", "/api/v1/import", content=file.content(), **query).object()
    for note in (file.note and f"taken for {file.note}", *answer.get("notes", ())):
        if note:
            session.output.note(f"{file.name}: {note}")
    return answer


def _print_imported(
    session: Session,
    documents: list[tuple[ConfigFile, dict[str, Any]]],
    notes: list[str],
    *,
    dry_run: bool,
) -> None:
    if session.output.as_json:
        results = [document for _, document in documents]
        answer = {"dry_run": dry_run, "documents": results, "notes": notes}
        return session.output.document(answer)
    rows = []
    for file, document in documents:
        counts = [len(document["changes"][kind]) for kind in ("added", "changed")]
        error = (document["error"] or {}).get("detail", "")
        state = (document["status"], document["version"])
        name = STDIN if file.path is None else file.path.name
        rows.append((layer(document), *state, *counts, name, error))
    session.output.table(("layer", "status", "version", "added", "changed", "file", ""), rows)
    if dry_run:
        session.output.note("nothing was written")
    return None


@command(app)
def export(
    session: Session,
    form: Annotated[Format, typer.Option("--format", help="The file's format.")] = "yaml",
    output: Out = None,
    secrets: Annotated[
        Secrets, typer.Option("--secrets", help="`revealed` is audited.")
    ] = "masked",
    *,
    types: Types = False,
) -> None:
    """Print one layer in a file format."""
    chosen = "json" if session.output.as_json else form
    query = {"format": chosen, "secrets": secrets, "types": types, **session.layer}
    answer = session.api.get("/api/v1/export", **query)
    write_out(session, answer.body.decode(), output)


@command(app)
def copy(
    session: Session,
    to: Annotated[
        str, typer.Argument(help="The target: ENVIRONMENT or ENVIRONMENT/SERVICE.", metavar="TO")
    ],
    keys: Annotated[
        list[str] | None, typer.Option("--key", "-k", help="Only this key or section. Repeatable.")
    ] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change.")
    ] = False,
    comment: Comment = "",
) -> None:
    """Merge the addressed layer into another one; the service encrypts secrets again."""
    environment, _, service = to.partition("/")
    target = {**session.layer, "environment": environment}
    if service:
        target["service_name"] = service
    body = {
        "from": session.layer,
        "to": target,
        "keys": keys or None,
        "dry_run": dry_run,
        "comment": comment,
    }
    answer = session.api.send("POST", "/api/v1/copy", json=body).object()
    if session.output.as_json:
        return session.output.document(answer)
    session.output.say(f"{layer(answer['to'])} is {answer['status']}: version {answer['version']}")
    session.output.changes(answer["changes"])
    if dry_run:
        session.output.note("nothing was written")
    return None


@command(app, "watch")
def watch_(
    session: Session,
    prefix: Annotated[str, typer.Argument(help="Only this section.", metavar="PREFIX")] = "",
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="End after this many changes.")
    ] = None,
) -> None:
    """Print each change of the merged configuration until Ctrl-C; with --json one line each."""
    watch(session, prefix, count)
