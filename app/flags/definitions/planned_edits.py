"""What a plan commits: the edits that lead from an environment to the planned one. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from app.flags.cache import EnvironmentFlags
from app.flags.definitions.planned_change import (
    Definition,
    PlanFacts,
    PlannedChange,
    PlannedDefinition,
)
from app.flags.definitions.plans import Plan, item_key
from app.flags.definitions.representations import definition_text
from app.flags.errors import BadDefinition, FlagArchived, FlagInUse, FlagStale
from app.flags.model import Edit, Kind
from app.web.conditional import ANY_VERSION, IfMatch
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.flags.model import Flag
from pilothouse_core.references import BrokenReference, StillNeeded, check_references

EXPORT = "export"  # GET .../export: no flag can be read there


def planned_edits(
    environment: EnvironmentFlags, plan: Plan, facts: PlanFacts, expected: IfMatch = ANY_VERSION
) -> Sequence[Edit]:
    """Apply a plan, check the planned environment, and return the edits that lead to it.

    `expected` is for the current version of the flag or segment that the plan is about. Raises
    what the plan raises, FlagStale, BadDefinition and FlagInUse.
    """
    try:
        _check_version(environment, plan, expected)
        change = plan.apply(environment, facts)
        edits = [
            edit
            for (kind, name), definition in change.items()
            if (edit := _edit_of(environment, kind, name, definition)) is not None
        ]
        if edits:
            _check_result(environment, change)
    except DefinitionError as error:
        raise BadDefinition.of(error) from error
    return edits


def _check_version(environment: EnvironmentFlags, plan: Plan, expected: IfMatch) -> None:
    if (key := item_key(plan)) is None:
        return
    item = environment.live_item(*key) or environment.archived_item(*key)
    version = 0 if item is None else item.version
    if not expected.allows(version):
        raise FlagStale(version)


def _edit_of(
    environment: EnvironmentFlags,
    kind: Kind,
    name: str,
    definition: Definition | PlannedDefinition | None,
) -> Edit | None:
    present, archived = environment.live_item(kind, name), environment.archived_item(kind, name)
    if definition is None:
        return None if present is None and archived is None else Edit(kind, name, "", "deleted")
    if present is None and archived is None:
        _refuse_reserved(kind, name)
    if not isinstance(definition, PlannedDefinition):
        if archived is not None:
            raise FlagArchived(name, environment.name)
        definition = PlannedDefinition(definition)
    text = definition_text(definition.definition)
    former = archived if definition.is_archived else present
    if former is not None and former.definition == text:
        return None
    if definition.is_archived:
        return Edit(kind, name, text, "deleted")
    action = definition.action or ("created" if present is None else "updated")
    facts = None if definition.reason is None else {"reason": definition.reason}
    return Edit(kind, name, text, action, facts)


def _check_result(environment: EnvironmentFlags, change: PlannedChange) -> None:
    flags = {name: compiled.flag for name, compiled in environment.flags.flags.items()}
    segments = dict(environment.flags.segment_definitions)
    for (kind, name), outcome in change.items():
        definition = _live_definition(outcome)
        _set_or_remove(flags if kind == "flag" else segments, name, definition)  # type: ignore[arg-type]
    for outcome in change.values():
        if isinstance(flag := _live_definition(outcome), Flag):
            _refuse_archived_prerequisites(environment, flag, flags)
    try:
        check_references(flags, segments, _names(change, "flag"), _names(change, "segment"))
    except BrokenReference as error:
        facts = {"name": error.of} if len(change) > 1 else {}
        raise BadDefinition(error.pointer, error.detail, error.code, **facts) from error
    except StillNeeded as error:
        raise FlagInUse(str(error), error.users) from error


def _live_definition(outcome: Definition | PlannedDefinition | None) -> Definition | None:
    """Return the definition that will be evaluated, None if it is archived or deleted."""
    if isinstance(outcome, PlannedDefinition):
        return None if outcome.is_archived else outcome.definition
    return outcome


def _refuse_archived_prerequisites(
    environment: EnvironmentFlags, flag: Flag, flags: Mapping[str, Flag]
) -> None:
    for number, need in enumerate(flag.prerequisites):
        if need.flag not in flags and environment.archived_item("flag", need.flag) is not None:
            raise BadDefinition(
                f"/prerequisites/{number}/flag",
                f"names the flag {need.flag!r}, which is archived",
                "archived_flag",
                name=flag.name,
            )


def _refuse_reserved(kind: Kind, name: str) -> None:
    if kind == "flag" and name == EXPORT:
        raise BadDefinition("/name", "is what the address of the export is called", "reserved")


def _set_or_remove(into: dict[str, Definition], name: str, definition: Definition | None) -> None:
    if definition is None:
        into.pop(name, None)
    else:
        into[name] = definition


def _names(change: PlannedChange, kind: Kind) -> Iterable[str]:
    return [name for edited, name in change if edited == kind]
