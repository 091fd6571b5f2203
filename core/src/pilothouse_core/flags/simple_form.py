"""The simple form of a flag: boolean, some users by name, and a percentage of all others."""

from dataclasses import dataclass
from typing import Any

from pilothouse_core.bucketing import DEFAULT_HASH, HASHES, percent
from pilothouse_core.conditions.attributes import subject_of
from pilothouse_core.conditions.model import DEFAULT_BY, Comparison
from pilothouse_core.conditions.reading import MAX_VALUES, read_percent
from pilothouse_core.definitions import Place
from pilothouse_core.flags.model import Fixed, Flag, Rollout, Rule, rollouts_of

TARGETED_RULE, ROLLOUT_RULE = "targeted-users", "rollout"  # the rules of the simple form
USER_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class SimpleForm:
    rollout_percentage: float
    target_users: tuple[str, ...]


SIMPLE_MEMBERS = ("rollout_percentage", "target_users")


def read_simple_form(place: Place) -> SimpleForm:
    """Read both members of the simple form; each may be absent."""
    share = place.at("rollout_percentage")
    users = place.at("target_users")
    percentage = 0.0 if share.value is None else read_percent(share, HASHES[DEFAULT_HASH])
    return SimpleForm(
        rollout_percentage=percentage,
        target_users=() if users.value is None else _read_users(users),
    )


def _read_users(users: Place) -> tuple[str, ...]:
    """Read ids as rollouts take subjects: an integer by its decimals."""
    values = users.values(MAX_VALUES)
    read = [
        str(user) if type(user) is int and subject_of(user) is not None else user for user in values
    ]
    for number, user in enumerate(read):
        if type(user) is not str or len(user) > USER_LENGTH:
            Place(user, users.item(number).pointer).text(USER_LENGTH)
    return tuple(read)


def simple_rules(name: str, simple: SimpleForm, before: Flag | None = None) -> list[dict[str, Any]]:
    """Return the rules of a simple flag; its rollout keeps the salt it had."""
    former = rollouts_of(before).get(ROLLOUT_RULE)
    rules: list[dict[str, Any]] = []
    if simple.target_users:
        when = {"attribute": DEFAULT_BY, "op": "in", "values": list(simple.target_users)}
        rules.append({"id": TARGETED_RULE, "when": when, "serve": {"variant": "on"}})
    share = simple.rollout_percentage
    rest = percent(HASHES[DEFAULT_HASH].share(100) - HASHES[DEFAULT_HASH].share(share), 100_000)
    rollout = {
        "by": DEFAULT_BY,
        "salt": former.salt if former else name,
        "hash": DEFAULT_HASH,
        "weights": {"on": share, "off": rest},
    }
    rules.append({"id": ROLLOUT_RULE, "when": None, "serve": {"rollout": rollout}})
    return rules


def simple_form_of(flag: Flag) -> SimpleForm | None:
    """Return the simple form of a flag that has one."""
    if dict(flag.variants) != {"on": True, "off": False} or flag.type != "boolean":
        return None
    *targeted, last = flag.rules or (None,)
    if last is None or (last.id, last.when, last.active) != (ROLLOUT_RULE, None, None):
        return None
    serve = last.serve
    if not isinstance(serve, Rollout) or (serve.by, serve.hash) != (DEFAULT_BY, DEFAULT_HASH):
        return None
    users: tuple[str, ...] = ()
    if targeted:
        target_users = _target_users_of(targeted)
        if target_users is None:
            return None
        users = target_users
    return SimpleForm(float(serve.weights.get("on", 0)), users)


def _target_users_of(rules: list[Any]) -> tuple[str, ...] | None:
    if len(rules) != 1:
        return None
    (rule,) = rules
    match rule:
        case Rule(
            id=rule_id,
            when=Comparison(attribute=by, op="in", values=values, case_insensitive=False),
            serve=Fixed("on"),
            active=None,
        ) if rule_id == TARGETED_RULE and by == DEFAULT_BY:
            users = tuple(value for value in values if isinstance(value, str))
            return users if len(users) == len(values) else None
        case _:
            return None
