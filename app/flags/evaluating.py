"""Evaluations as JSON: each way a flag can come out is encoded once, and counted.

What differs from one request to the next (the bucket, the subject, the revision) is put between
pieces that are kept; both doors, FastAPI's and the hot one, answer with what is made here.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import time
from typing import Any, NamedTuple

import msgspec

from app.flags.sets import Environment, FlagSets
from pilothouse_core.evaluation import (
    FLAG_NOT_FOUND,
    TARGETING_KEY_MISSING,
    Decide,
    Evaluation,
    with_subject,
)
from pilothouse_core.explaining import explained
from pilothouse_core.flags import Flag

Context = Mapping[str, Any]
_SHORT = (",", ":")
_DETAILS = {
    FLAG_NOT_FOUND: "there is no flag of this key",
    TARGETING_KEY_MISSING: "the flag is rolled out by targeting key, and there is none",
    "PARSE_ERROR": "the definition of the flag cannot be read by this release",
}
_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(slots=True)
class _Outcome:
    """One way a flag can come out, as far as it is the same for everybody."""

    flag: str
    version: int
    variant: str | None
    reason: str
    plain: str  # {...,"bucket":
    named: str  # "flag":{...,"bucket":
    ofrep: str  # {...,"metadata":{...,
    whole: str  # {...,"metadata":{...}}, or the refusal
    refused: str | None  # why OFREP is told that there is no evaluation
    times: int = 0


class Counted(NamedTuple):
    environment: str
    flag: str
    variant: str | None
    reason: str
    times: int


class Refusal(NamedTuple):
    """What OFREP is told where there is no evaluation."""

    code: str
    details: str


@dataclass(slots=True)
class Evaluator:
    sets: FlagSets
    clock: Callable[[], float] = time
    _outcomes: dict[str, dict[tuple[Any, ...], _Outcome]] = field(default_factory=dict)

    def one(self, environment: str, flag: str, user: Any, context: Context) -> bytes | None:
        """Evaluate one flag for a user; None if there is no such flag."""
        found = self.sets.environment(environment)
        evaluation = found.evaluate(flag, with_subject(context, user), self.clock())
        if evaluation.error_code == FLAG_NOT_FOUND:
            return None
        outcome, bucket = self._outcome(found, evaluation), evaluation.bucket
        told = "null" if bucket is None else bucket
        return f"{outcome.plain}{told}{_tail(found, user)}".encode()

    def many(
        self, environment: str, flags: Sequence[str] | None, user: Any, context: Context
    ) -> bytes:
        """Evaluate these flags, or all; a flag that is not there or bad is told in its place."""
        found = self.sets.environment(environment)
        context, now = with_subject(context, user), self.clock()
        tail = _tail(found, user)
        decides = found.deciding(None if flags is None else dict.fromkeys(flags))
        told = ",".join(
            [
                f"{outcome.named}{'null' if bucket is None else bucket}{tail}"
                for outcome, bucket in self._each(found, decides, context, now)
            ]
        )
        return f'{{"evaluations":{{{told}}},"revision":{found.revision}}}'.encode()

    def explained(self, environment: str, flag: str, user: Any, context: Context) -> Any:
        """Return the trace of an evaluation."""
        found = self.sets.environment(environment)
        return explained(found.flags, flag, with_subject(context, user), self.clock())

    def ofrep(self, environment: str, flag: str, context: Context) -> bytes | Refusal:
        """Evaluate one flag as OFREP answers it."""
        found = self.sets.environment(environment)
        evaluation = found.evaluate(flag, _with_key(context), self.clock())
        outcome, bucket = self._outcome(found, evaluation), evaluation.bucket
        if outcome.refused is not None:
            return Refusal(outcome.refused, _DETAILS[outcome.refused])
        counted = "" if bucket is None else f'"bucket":{bucket},'
        return f'{outcome.ofrep}{counted}"revision":{found.revision}}}}}'.encode()

    def ofrep_all(self, environment: str, context: Context) -> bytes:
        """Evaluate every flag as OFREP answers it: the members of a list.

        None tells the revision: clients compare what they are told of each flag with what they
        were told before, and would take all of them for changed whenever one is.
        """
        found = self.sets.environment(environment)
        context, now = _with_key(context), self.clock()
        return ",".join(
            [
                outcome.whole if bucket is None else f'{outcome.ofrep}"bucket":{bucket}}}}}'
                for outcome, bucket in self._each(found, found.deciding(), context, now)
            ]
        ).encode()

    def _each(
        self, found: Environment, decides: Iterable[Decide], context: Context, now: float
    ) -> Iterator[tuple[_Outcome, int | None]]:
        """Evaluate many flags; what `_outcome` does stands here again, without a call for each."""
        known, flags = self._outcomes.get(found.name, {}), found.flags
        for decide in decides:
            evaluation = decide(context, now, flags)
            name, version, variant, _, reason, rule, need, skipped, code, bucket = evaluation
            outcome = known.get((name, version, rule, variant, reason, need, skipped, code))
            if outcome is None:
                outcome = self._outcome(found, evaluation)
            else:
                outcome.times += 1
            yield outcome, bucket

    def tag(self, environment: str, scope: str, context: Context) -> str:
        """Return what is the same only as long as every evaluation for `context` is.

        Made without evaluating anything: of the set's revision, the caller's scope, the context
        in one spelling, and how many moments have passed at which time alone changes answers.
        """
        found = self.sets.environment(environment)
        passed, step = found.flags.epoch(self.clock())
        head = f"{found.revision} {passed} {step} {environment} {scope} ".encode()
        return hashlib.blake2b(head + _canonical(context), digest_size=16).hexdigest()

    def drained(self) -> Iterator[Counted]:
        """Return what was counted since the last call, and forget what no flag can be any more."""
        for name, outcomes in self._outcomes.items():
            flags = self.sets.environment(name).flags.flags
            gone = []
            for key, outcome in outcomes.items():
                if outcome.times:
                    yield Counted(
                        name, outcome.flag, outcome.variant, outcome.reason, outcome.times
                    )
                    outcome.times = 0
                present = flags.get(outcome.flag)
                if present is None or present.version != outcome.version:
                    gone.append(key)
            for key in gone:
                del outcomes[key]

    def _outcome(self, environment: Environment, evaluation: Evaluation) -> _Outcome:
        name, version, variant, _, reason, rule, prerequisite, skipped, code, _ = evaluation
        key = (name, version, rule, variant, reason, prerequisite, skipped, code)
        try:
            outcome = self._outcomes[environment.name][key]
        except KeyError:
            outcome = _made(evaluation, _is_on(environment.flag(name), evaluation))
            # What does not exist is not kept: anybody may ask for any name.
            if code != FLAG_NOT_FOUND:
                self._outcomes.setdefault(environment.name, {})[key] = outcome
        outcome.times += 1
        return outcome


def _is_on(flag: Flag | None, evaluation: Evaluation) -> bool:
    """Tell the value of a boolean flag, of others whether they serve a variant that is not off."""
    if flag is None or evaluation.variant is None:
        return False
    if flag.type == "boolean":
        return evaluation.value is True
    return evaluation.variant != flag.off_variant


def _made(evaluation: Evaluation, is_on: bool) -> _Outcome:  # noqa: FBT001
    plain = _json(_members(evaluation, is_on))[:-1] + ',"bucket":'
    ofrep, refused = _ofrep(evaluation), _refused(evaluation)
    whole = ofrep
    if refused is not None:
        members = {"key": evaluation.flag, "errorCode": refused, "errorDetails": _DETAILS[refused]}
        whole = _json(members)
    return _Outcome(
        evaluation.flag,
        evaluation.version,
        evaluation.variant,
        evaluation.reason,
        plain=plain,
        named=_json(evaluation.flag) + ":" + plain,
        ofrep=ofrep[:-2] + ",",
        whole=whole,
        refused=refused,
    )


def _members(evaluation: Evaluation, is_on: bool) -> dict[str, Any]:  # noqa: FBT001
    members = {
        "flag_name": evaluation.flag,
        "enabled": is_on,
        "variant": evaluation.variant,
        "value": evaluation.value,
        "reason": evaluation.reason,
        "rule_id": evaluation.rule_id,
        "flag_version": evaluation.version,
    }
    if evaluation.prerequisite is not None:
        members["prerequisite"] = evaluation.prerequisite
    if evaluation.skipped:
        members["skipped"] = [
            {"rule": rule, "why": f"no {attribute}"} for rule, attribute in evaluation.skipped
        ]
    if evaluation.error_code is not None:
        members["error_code"] = evaluation.error_code
    return members


def _ofrep(evaluation: Evaluation) -> str:
    members: dict[str, Any] = {"key": evaluation.flag}
    if evaluation.variant is not None:
        members["value"] = evaluation.value
    members |= {"reason": evaluation.reason, "variant": evaluation.variant}
    metadata: dict[str, Any] = {"flagVersion": evaluation.version}
    if evaluation.rule_id is not None:
        metadata["ruleId"] = evaluation.rule_id
    return _json({**members, "metadata": metadata})


def _refused(evaluation: Evaluation) -> str | None:
    if evaluation.error_code is not None:
        return evaluation.error_code
    return TARGETING_KEY_MISSING if evaluation.lacks_targeting_key else None


def _with_key(context: Context) -> dict[str, Any]:
    key = context.get("targetingKey")
    return with_subject(context, key) if key is not None else dict(context)


def _tail(environment: Environment, user: Any) -> str:
    told = f'"environment":"{environment.name}","revision":{environment.revision}}}'
    return f',"user_id":{_encode(user).decode()},{told}'


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=_SHORT)
    return text.encode("utf-8", "replace").decode()  # no half of a surrogate pair is left


def _canonical(context: Context) -> bytes:
    try:
        return _encode(context)
    except (OverflowError, ValueError, TypeError):  # integers of more than 64 bits, for one
        return json.dumps(context, sort_keys=True).encode()
