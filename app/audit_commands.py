"""`python -m app audit verify | key | grants`: what an auditor types."""

import argparse
import asyncio
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.access.auditing import SignedHead
from app.access.sealing import EventUnreadable, head_of
from app.access.signing import FILE, KeyUnusable, id_of, public_of, public_text, signer_of
from app.database import FAILURES, audit, audit_head, audit_heads, metadata, revisions
from app.settings import Settings
from app.verifying import Verified, embedded_trail, postgres_trail, verify

_BROKEN = 1
_REFUSED = 2


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    auditing = commands.add_parser("audit", help="verify the audit").add_subparsers(required=True)
    verifying = auditing.add_parser("verify", help="find the first row that was tampered with")
    verifying.add_argument(
        "--from-seq", type=int, default=1, metavar="N", help="trust the rows before this one"
    )
    verifying.add_argument(
        "--public-key",
        type=Path,
        action="append",
        metavar="FILE",
        help="a key that signed heads, in PEM; several if it was exchanged",
    )
    verifying.add_argument(
        "--heads", type=Path, metavar="FILE", help="events of heads as heard on Kafka, one a line"
    )
    verifying.set_defaults(run=_verify)
    auditing.add_parser("key", help="print the public key that verifies heads").set_defaults(
        run=_key
    )
    granting = auditing.add_parser("grants", help="print SQL for the role that the service has")
    granting.add_argument("role", metavar="ROLE")
    granting.set_defaults(run=_grants)


def _verify(arguments: argparse.Namespace) -> int:
    settings = Settings()
    try:
        keys = _keys(settings, arguments.public_key or ())
        heard = [] if arguments.heads is None else _heard(arguments.heads)
        began = perf_counter()
        found = asyncio.run(_verified(settings, max(arguments.from_seq, 1) - 1, keys, heard))
    except (EventUnreadable, KeyUnusable, sqlite3.Error, *FAILURES) as error:
        print(f"the audit could not be read: {error}", file=sys.stderr)
        return _REFUSED
    if found.broken is not None:
        print(found.broken)
        return _BROKEN
    unchecked = "" if keys is not None else " (no key is known: signatures were not looked at)"
    print(
        f"{found.rows} rows are as they were written, the last is {found.last.seq};"
        f" {found.heads} signed heads agree{unchecked}; {perf_counter() - began:.1f} s"
    )
    return 0


def _heard(file: Path) -> Sequence[SignedHead]:
    """Read heads that were kept elsewhere; raises OSError and EventUnreadable."""
    return [head_of(line) for line in file.read_text().splitlines() if line.strip()]


async def _verified(
    settings: Settings,
    after: int,
    keys: Mapping[str, Ed25519PublicKey] | None,
    heard: Sequence[SignedHead],
) -> Verified:
    url = settings.database_url
    opened = (
        embedded_trail(Path(settings.pilothouse_data_dir))
        if url is None
        else postgres_trail(url.get_secret_value())
    )
    async with opened as trail:
        return await verify(trail, after, keys, heard)


def _keys(settings: Settings, files: Sequence[Path]) -> Mapping[str, Ed25519PublicKey] | None:
    """Return the keys by their ids: those that are named, else the service's own."""
    keys = [public_of(file) for file in files]
    if not keys and _has_key(settings):
        folder = Path(settings.pilothouse_data_dir)
        keys = [signer_of(settings.audit_signing_key_file, folder).public]
    return {id_of(key): key for key in keys} or None


def _has_key(settings: Settings) -> bool:
    """Tell whether there is a key: none is made here."""
    made = Path(settings.pilothouse_data_dir) / FILE
    return settings.audit_signing_key_file is not None or made.exists()


def _key(_: argparse.Namespace) -> int:
    settings = Settings()
    if not _has_key(settings):
        print("there is no key yet: AUDIT_SIGNING_KEY_FILE is not set", file=sys.stderr)
        return _REFUSED
    try:
        signer = signer_of(settings.audit_signing_key_file, Path(settings.pilothouse_data_dir))
    except KeyUnusable as error:
        print(error, file=sys.stderr)
        return _REFUSED
    print(public_text(signer), end="")
    return 0


def _grants(arguments: argparse.Namespace) -> int:
    print("\n".join(grants(arguments.role)))
    return 0


def grants(role: str) -> Sequence[str]:
    """Return what lets a role run the service and, of the audit, append and read only."""
    grown = {audit.name, audit_heads.name}
    others = [table.name for table in metadata.sorted_tables]
    written = [name for name in others if name not in {*grown, audit_head.name}]
    to = 'TO "' + role.replace('"', '""') + '";'
    return [
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(written)} {to}",
        f"GRANT SELECT, INSERT ON {', '.join(sorted(grown))} {to}",
        f"GRANT SELECT ON {audit_head.name}, alembic_version {to}",
        f"GRANT USAGE ON SEQUENCE {revisions.name} {to}",
    ]
