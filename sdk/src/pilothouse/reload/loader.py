"""One load of one source: its content, decrypted and checked against its rules."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilothouse.reload.encryption import decrypt_tree
from pilothouse.reload.errors import BadConfig, InvalidConfig, ReloadError, SourceUnavailable
from pilothouse.reload.members import Member
from pilothouse.reload.sources.port import ConfigSource, Validating
from pilothouse.reload.validation import Rules
from pilothouse_core.trees import Tree


@dataclass(frozen=True, slots=True)
class Loaded:
    """The outcome of a load: `data`, or `error`."""

    member: Member
    data: Tree | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()
    is_unavailable: bool = False  # the source could not be read; its content may be valid


async def load(member: Member, keys: Sequence[bytes]) -> Loaded:
    """Load a source; the result has whatever fails."""
    try:
        config = await member.source.load_config()
        data = await asyncio.to_thread(_decrypt_and_validate, member.source, config, keys)
    except SourceUnavailable as error:
        return Loaded(member, error=str(error), is_unavailable=True)
    except ReloadError as error:
        return Loaded(member, error=str(error))
    except Exception as error:  # noqa: BLE001 - a source may be code of the program
        return Loaded(member, error=f"{type(error).__name__}: {error}")
    warnings = getattr(member.source, "warnings", ())
    return Loaded(member, data, warnings=tuple(f"{member.name}: {one}" for one in warnings))


def errors_at_start(outcomes: Sequence[Loaded]) -> dict[str, str]:
    """Return, by the names of their sources, the errors that keep a manager from starting."""
    return {
        one.member.name: one.error
        for one in outcomes
        if one.error is not None and not one.member.optional and not _has_backup(one, outcomes)
    }


def _has_backup(failed: Loaded, outcomes: Sequence[Loaded]) -> bool:
    """Tell whether a remote source is unavailable while another one, of any kind, has content."""
    return (
        failed.is_unavailable
        and failed.member.is_remote
        and failed.member.optional is None
        and any(one.error is None and (one.data or one.member.is_remote) for one in outcomes)
    )


def _decrypt_and_validate(source: ConfigSource, config: Any, keys: Sequence[bytes]) -> Tree:
    if not isinstance(config, Mapping):
        raise BadConfig(f"returned {type(config).__name__} where a mapping is expected")
    data = dict(decrypt_tree(config, keys))
    rules = getattr(source, "rules", None)
    flaws = []
    if isinstance(rules, Rules):
        flaws = rules.flaws(data)
    elif isinstance(source, Validating):
        flaws = [flaw for flaw in source.validate_config(data) if flaw.kind != "credential"]
    if flaws:
        raise InvalidConfig(flaws)
    return data
