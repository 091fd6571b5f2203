"""`python -m app audit verify | key | grants`: the commands of an auditor."""

import argparse
import asyncio
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.audit.head_signing import HeadEventUnreadable, parse_head_event
from app.audit.keys import (
    FILE,
    SigningKeyUnusable,
    key_id_of,
    load_public_key,
    load_signing_key,
    public_key_pem,
)
from app.audit.port import SignedHead
from app.audit.verification import (
    VerificationResult,
    open_embedded_snapshot,
    open_postgres_snapshot,
    verify,
)
from app.commands.settings import load_command_settings
from app.postgres.engine import FAILURES
from app.postgres.failures import explain_failure
from app.postgres.tables import (
    audit,
    audit_head,
    audit_heads,
    intent_numbers,
    metadata,
    revisions,
)
from app.settings import Settings

_BROKEN = 1
_REFUSED = 2


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    auditing = commands.add_parser("audit", help="verify the audit").add_subparsers(required=True)
    verifying = auditing.add_parser("verify", help="find the first row that was changed")
    verifying.add_argument(
        "--from-seq", type=int, default=1, metavar="N", help="trust the rows before this one"
    )
    verifying.add_argument(
        "--public-key",
        type=Path,
        action="append",
        metavar="FILE",
        help="a key that signed heads, in PEM; repeatable if it was replaced",
    )
    verifying.add_argument(
        "--heads", type=Path, metavar="FILE", help="events of signed heads from Kafka, one a line"
    )
    verifying.set_defaults(run=_verify_audit)
    auditing.add_parser("key", help="print the public key that verifies heads").set_defaults(
        run=_print_key
    )
    granting = auditing.add_parser("grants", help="print SQL for the service's role")
    granting.add_argument("role", metavar="ROLE")
    granting.set_defaults(run=_print_grants)


def _verify_audit(arguments: argparse.Namespace) -> int:
    settings = load_command_settings()
    try:
        keys = _public_keys(settings, arguments.public_key or ())
        heard = [] if arguments.heads is None else _read_heads(arguments.heads)
        began = perf_counter()
        report = asyncio.run(_verify_store(settings, max(arguments.from_seq, 1) - 1, keys, heard))
    except (HeadEventUnreadable, SigningKeyUnusable, sqlite3.Error) as error:
        print(f"the audit could not be read: {error}", file=sys.stderr)
        return _REFUSED
    except FAILURES as error:
        reason = error if settings.database_url is None else explain_failure(error)
        print(f"the audit could not be read: {reason}", file=sys.stderr)
        return _REFUSED
    if report.broken is not None:
        print(report.broken)
        return _BROKEN
    unchecked = "" if keys is not None else " (no key: signatures were not verified)"
    print(
        f"{report.rows} rows are as they were written, the last is {report.last.seq};"
        f" {report.heads} signed heads agree{unchecked}; {perf_counter() - began:.1f} s"
    )
    return 0


def _read_heads(file: Path) -> Sequence[SignedHead]:
    """Read heads that were stored elsewhere; raises OSError and EventUnreadable."""
    return [parse_head_event(line) for line in file.read_text().splitlines() if line.strip()]


async def _verify_store(
    settings: Settings,
    after: int,
    keys: Mapping[str, Ed25519PublicKey] | None,
    heard: Sequence[SignedHead],
) -> VerificationResult:
    url = settings.database_url
    opened = (
        open_embedded_snapshot(Path(settings.pilothouse_data_dir))
        if url is None
        else open_postgres_snapshot(url.get_secret_value())
    )
    async with opened as trail:
        return await verify(trail, after, keys, heard)


def _public_keys(
    settings: Settings, files: Sequence[Path]
) -> Mapping[str, Ed25519PublicKey] | None:
    """Return the keys by id: the given ones, else the service's own."""
    keys = [load_public_key(file) for file in files]
    if not keys and _has_key(settings):
        folder = Path(settings.pilothouse_data_dir)
        keys = [load_signing_key(settings.audit_signing_key_file, folder).public]
    return {key_id_of(key): key for key in keys} or None


def _has_key(settings: Settings) -> bool:
    """Tell whether a key exists; none is created."""
    made = Path(settings.pilothouse_data_dir) / FILE
    return settings.audit_signing_key_file is not None or made.exists()


def _print_key(_: argparse.Namespace) -> int:
    settings = load_command_settings()
    if not _has_key(settings):
        print("there is no key yet: AUDIT_SIGNING_KEY_FILE is not set", file=sys.stderr)
        return _REFUSED
    try:
        signer = load_signing_key(
            settings.audit_signing_key_file, Path(settings.pilothouse_data_dir)
        )
    except SigningKeyUnusable as error:
        print(error, file=sys.stderr)
        return _REFUSED
    print(public_key_pem(signer), end="")
    return 0


def _print_grants(arguments: argparse.Namespace) -> int:
    print("\n".join(grant_statements(arguments.role)))
    return 0


def grant_statements(role: str) -> Sequence[str]:
    """Return the SQL that lets a role run the service, and only append to and read the audit."""
    grown = {audit.name, audit_heads.name}
    others = [table.name for table in metadata.sorted_tables]
    written = [name for name in others if name not in {*grown, audit_head.name}]
    to = 'TO "' + role.replace('"', '""') + '";'
    return [
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(written)} {to}",
        f"GRANT SELECT, INSERT ON {', '.join(sorted(grown))} {to}",
        f"GRANT SELECT ON {audit_head.name}, alembic_version {to}",
        f"GRANT USAGE ON SEQUENCE {revisions.name}, {intent_numbers.name} {to}",
    ]
