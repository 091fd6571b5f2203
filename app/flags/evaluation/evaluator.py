"""Evaluations as JSON: each outcome of a flag is encoded once, and counted.

What differs from one request to the next (the bucket, the subject, the revision) is put between
pieces that are kept; both FastAPI's routes and the fast path answer with what is made here.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Any, NamedTuple, TypeVar

import msgspec

from app.flags.cache import SHORT_SECONDS, EnvironmentFlags, FlagCache
from app.flags.errors import ContextTooLarge, EvaluationTooLong
from app.workers import Slices, is_large_request, run_apart, run_in_worker
from pilothouse_core.conditions.model import MAX_TEXT
from pilothouse_core.contexts import SURELY_SMALL_BYTES, is_too_large
from pilothouse_core.evaluation import (
    FLAG_NOT_FOUND,
    TARGETING_KEY_MISSING,
    Evaluation,
    EvaluationPass,
    with_subject,
)
from pilothouse_core.explanation import explain_flag
from pilothouse_core.flags.metadata import metadata_of
from pilothouse_core.flags.model import Flag

Context = Mapping[str, Any]
T = TypeVar("T")
_SHORT = (",", ":")
_OWN_METADATA = frozenset(["flagVersion", "ruleId", "revision", "bucket"])
_DETAILS = {
    FLAG_NOT_FOUND: "there is no flag with this key",
    TARGETING_KEY_MISSING: "the flag is rolled out by targeting key, and the context has none",
    "PARSE_ERROR": "the definition of the flag cannot be read by this release",
}
_encode = msgspec.json.Encoder(order="sorted").encode
_LONGEST_SECONDS = 2.0  # that one request may have evaluated for it
_GRACE_SECONDS = 1.0  # to wait for a thread


@dataclass(slots=True)
class _EncodedOutcome:
    """One outcome of a flag, encoded except for what differs between requests."""

    flag: str
    version: int
    variant: str | None
    reason: str
    plain: str  # {...,"bucket":
    named: str  # "flag":{...,"bucket":
    ofrep: str  # {...,"metadata":{...,
    whole: str  # {...,"metadata":{...}}, or the refusal
    refused: str | None  # the OFREP error if there is no evaluation
    times: int = 0


class EvaluationCount(NamedTuple):
    environment: str
    flag: str
    variant: str | None
    reason: str
    times: int


class OfrepRefusal(NamedTuple):
    """Error code and details that OFREP returns instead of an evaluation."""

    code: str
    details: str


@dataclass(slots=True)
class FlagEvaluator:
    sets: FlagCache
    clock: Callable[[], float] = time
    _outcomes: dict[str, dict[tuple[Any, ...], _EncodedOutcome]] = field(default_factory=dict)

    def is_short(
        self, environment: EnvironmentFlags, flags: Sequence[str] | None, body_bytes: int
    ) -> bool:
        """Whether these flags, or all, are evaluated in a short time for a body of this size."""
        if flags is not None and len(flags) == 1:
            return environment.is_short(flags[0], body_bytes)
        return environment.cost(flags).seconds(body_bytes) <= SHORT_SECONDS

    def evaluate_flag(
        self, environment: str, flag: str, user: Any, context: Context, body_bytes: int
    ) -> bytes | None:
        """Evaluate one flag for a user; None if the flag does not exist. Raises ContextTooLarge.

        Like every method without `_apart` it does not yield: call it only if `is_short`.
        """
        flag_set = self.sets.environment(environment)
        context = with_subject(context, user)
        if body_bytes > SURELY_SMALL_BYTES:
            context = _check_size(context)
        return self._flag_json(flag_set, flag_set.evaluate(flag, context, self.clock()), user)

    async def evaluate_flag_apart(
        self, environment: str, flag: str, user: Any, context: Context
    ) -> bytes | None:
        """`evaluate_flag` at any cost; raises ContextTooLarge and EvaluationTooLong."""
        flag_set = self.sets.environment(environment)
        context = await _check_size_apart(with_subject(context, user))
        [evaluation] = await self._evaluate_apart(flag_set, [flag], context)
        return self._flag_json(flag_set, evaluation, user)

    def _flag_json(
        self, flag_set: EnvironmentFlags, evaluation: Evaluation, user: Any
    ) -> bytes | None:
        if evaluation.error_code == FLAG_NOT_FOUND:
            return None
        outcome, bucket = self._outcome(flag_set, evaluation), evaluation.bucket
        bucket_json = "null" if bucket is None else bucket
        return f"{outcome.plain}{bucket_json}{_tail(flag_set, user)}".encode()

    def evaluate_batch(
        self,
        environment: str,
        flags: Sequence[str] | None,
        user: Any,
        context: Context,
        body_bytes: int,
    ) -> bytes:
        """Evaluate these flags, or all; a missing or unreadable flag has an error in its place."""
        flag_set = self.sets.environment(environment)
        context = _check_size(with_subject(context, user), body_bytes)
        evaluations = self._evaluate_each(
            flag_set, None if flags is None else dict.fromkeys(flags), context
        )
        tail = _tail(flag_set, user)
        return _batch_json(
            flag_set,
            [_batch_entry(entry, tail) for entry in self._outcomes_of(flag_set, evaluations)],
        )

    async def evaluate_batch_apart(
        self, environment: str, flags: Sequence[str] | None, user: Any, context: Context
    ) -> bytes:
        """`evaluate_batch` at any cost; raises ContextTooLarge and EvaluationTooLong."""
        flag_set = self.sets.environment(environment)
        context = await _check_size_apart(with_subject(context, user))
        names = flag_set.names() if flags is None else dict.fromkeys(flags)
        tail = _tail(flag_set, user)
        evaluations = await self._evaluate_apart(flag_set, list(names), context)
        entries = await self._encode_in_slices(
            flag_set, evaluations, lambda one: _batch_entry(one, tail)
        )
        return _batch_json(flag_set, entries)

    async def explain(self, environment: str, flag: str, user: Any, context: Context) -> bytes:
        """Return the trace of an evaluation as JSON; raises as `evaluate_flag_apart`."""
        flag_set = self.sets.environment(environment)
        context, now = await _check_size_apart(with_subject(context, user)), self.clock()

        def explain(pause: Callable[[], None]) -> bytes:
            return json.dumps(
                explain_flag(EvaluationPass(flag_set.flags, pause), flag, context, now)
            ).encode()

        return await _run_in_time(explain)

    def evaluate_ofrep(
        self, environment: str, flag: str, context: Context, body_bytes: int
    ) -> bytes | OfrepRefusal:
        """Evaluate one flag, encoded for OFREP."""
        flag_set = self.sets.environment(environment)
        context = _check_size(_with_key(context), body_bytes)
        return self._ofrep(flag_set, flag_set.evaluate(flag, context, self.clock()))

    async def evaluate_ofrep_apart(
        self, environment: str, flag: str, context: Context
    ) -> bytes | OfrepRefusal:
        """`evaluate_ofrep` at any cost; raises ContextTooLarge and EvaluationTooLong."""
        flag_set = self.sets.environment(environment)
        context = await _check_size_apart(_with_key(context))
        [evaluation] = await self._evaluate_apart(flag_set, [flag], context)
        return self._ofrep(flag_set, evaluation)

    def _ofrep(self, flag_set: EnvironmentFlags, evaluation: Evaluation) -> bytes | OfrepRefusal:
        outcome, bucket = self._outcome(flag_set, evaluation), evaluation.bucket
        if outcome.refused is not None:
            return OfrepRefusal(outcome.refused, _DETAILS[outcome.refused])
        counted = "" if bucket is None else f'"bucket":{bucket},'
        return f'{outcome.ofrep}{counted}"revision":{flag_set.revision}}}}}'.encode()

    def evaluate_all_ofrep(self, environment: str, context: Context, body_bytes: int) -> bytes:
        """Evaluate every flag, encoded for OFREP: the members of a list.

        No member contains the revision: clients compare the answer for each flag with the one
        before, and would treat all flags as changed whenever one is.
        """
        flag_set = self.sets.environment(environment)
        evaluations = self._evaluate_each(
            flag_set, None, _check_size(_with_key(context), body_bytes)
        )
        return ",".join(
            [_ofrep_entry(one) for one in self._outcomes_of(flag_set, evaluations)]
        ).encode()

    async def evaluate_all_ofrep_apart(self, environment: str, context: Context) -> bytes:
        """`evaluate_all_ofrep` at any cost; raises ContextTooLarge and EvaluationTooLong."""
        flag_set = self.sets.environment(environment)
        context = await _check_size_apart(_with_key(context))
        evaluations = await self._evaluate_apart(flag_set, flag_set.names(), context)
        return ",".join(await self._encode_in_slices(flag_set, evaluations, _ofrep_entry)).encode()

    def _evaluate_each(
        self, flag_set: EnvironmentFlags, names: Iterable[str] | None, context: Context
    ) -> Iterator[Evaluation]:
        now, flags = self.clock(), flag_set.flags
        return (decide(context, now, flags) for decide in flag_set.evaluators_of(names))

    def _outcomes_of(
        self, flag_set: EnvironmentFlags, evaluations: Iterable[Evaluation]
    ) -> Iterator[tuple[_EncodedOutcome, int | None]]:
        """Yield each outcome with its bucket; repeats `_outcome` inline to save a call."""
        known = self._outcomes.get(flag_set.name, {})
        for evaluation in evaluations:
            name, version, variant, _, reason, rule, need, skipped, code, bucket = evaluation
            outcome = known.get((name, version, rule, variant, reason, need, skipped, code))
            if outcome is None:
                outcome = self._outcome(flag_set, evaluation)
            else:
                outcome.times += 1
            yield outcome, bucket

    async def _evaluate_apart(
        self, flag_set: EnvironmentFlags, names: Sequence[str], context: Context
    ) -> Sequence[Evaluation]:
        """Evaluate on one state of the set: at once if that is short work, else in a thread."""
        now = self.clock()
        if (
            flag_set.cost(names).seconds(max(map(_character_count, context.values()), default=0))
            <= SHORT_SECONDS
        ):
            return [flag_set.evaluate(name, context, now) for name in names]

        def evaluate(pause: Callable[[], None]) -> Sequence[Evaluation]:
            flags = EvaluationPass(flag_set.flags, pause)
            return [flag_set.evaluate(name, context, now, flags) for name in names]

        return await _run_in_time(evaluate)

    async def _encode_in_slices(
        self,
        flag_set: EnvironmentFlags,
        evaluations: Sequence[Evaluation],
        tell: Callable[[tuple[_EncodedOutcome, int | None]], str],
    ) -> Sequence[str]:
        """Encode many evaluations; other requests are served in between."""
        entries: list[str] = []
        slices = Slices()
        for outcome in self._outcomes_of(flag_set, evaluations):
            entries.append(tell(outcome))
            await slices.rest()
        return entries

    def evaluation_tag(self, environment: str, scope: str, context: Context) -> str:
        """Return a tag that changes whenever an evaluation for `context` changes.

        Made without evaluating anything: of the set's revision, the caller's scope, the context
        in one spelling, and how many moments have passed at which time alone changes answers.
        """
        flag_set = self.sets.environment(environment)
        passed, step = flag_set.flags.epoch(self.clock())
        head = f"{flag_set.revision} {passed} {step} {environment} {scope} ".encode()
        return hashlib.blake2b(head + _canonical(context), digest_size=16).hexdigest()

    def pop_counts(self) -> Iterator[EvaluationCount]:
        """Return the counts since the last call, and drop outcomes of former versions."""
        for name, outcomes in list(self._outcomes.items()):
            flags = self.sets.environment(name).flags.flags
            for key, outcome in list(outcomes.items()):
                present = flags.get(outcome.flag)
                if present is None or present.version != outcome.version:
                    outcomes.pop(key, None)
                # Before the yield: others may be counted, and collected, until it returns.
                times, outcome.times = outcome.times, 0
                if times:
                    yield EvaluationCount(
                        name, outcome.flag, outcome.variant, outcome.reason, times
                    )

    def _outcome(self, environment: EnvironmentFlags, evaluation: Evaluation) -> _EncodedOutcome:
        name, version, variant, _, reason, rule, prerequisite, skipped, code, _ = evaluation
        key = (name, version, rule, variant, reason, prerequisite, skipped, code)
        try:
            outcome = self._outcomes[environment.name][key]
        except KeyError:
            outcome = _encode_outcome(evaluation, environment.flag(name))
            # Of a flag that does not exist nothing is kept: a caller may request any name.
            if code != FLAG_NOT_FOUND:
                self._outcomes.setdefault(environment.name, {})[key] = outcome
        outcome.times += 1
        return outcome


def _character_count(value: object) -> int:
    """Return the length of a text attribute; for an object or a list, the longest allowed."""
    if type(value) is str:
        return len(value)
    return MAX_TEXT if isinstance(value, (dict, list)) else 0


def _batch_entry(entry: tuple[_EncodedOutcome, int | None], tail: str) -> str:
    outcome, bucket = entry
    return f"{outcome.named}{'null' if bucket is None else bucket}{tail}"


def _ofrep_entry(entry: tuple[_EncodedOutcome, int | None]) -> str:
    outcome, bucket = entry
    return outcome.whole if bucket is None else f'{outcome.ofrep}"bucket":{bucket}}}}}'


def _batch_json(flag_set: EnvironmentFlags, entries: Iterable[str]) -> bytes:
    return f'{{"evaluations":{{{",".join(entries)}}},"revision":{flag_set.revision}}}'.encode()


def _check_size(
    context: dict[str, Any], body_bytes: int = SURELY_SMALL_BYTES + 1
) -> dict[str, Any]:
    """Return the context; raises ContextTooLarge. Of a small body it cannot be."""
    if body_bytes > SURELY_SMALL_BYTES and is_too_large(context):
        raise ContextTooLarge
    return context


async def _check_size_apart(context: dict[str, Any]) -> dict[str, Any]:
    return await run_apart(is_large_request(), _check_size, context)


async def _run_in_time(work: Callable[[Callable[[], None]], T]) -> T:
    """Run `work` in a thread; the function passed to it raises when the time is up.

    Raises EvaluationTooLong.
    """
    start = monotonic()

    def work_in_time() -> T:
        until = min(monotonic(), start + _GRACE_SECONDS) + _LONGEST_SECONDS

        def pause() -> None:
            if monotonic() > until:
                raise EvaluationTooLong

        pause()
        return work(pause)

    return await run_in_worker(work_in_time)


def _is_on(flag: Flag | None, evaluation: Evaluation) -> bool:
    """Return the value of a boolean flag; for others, whether it is not the off variant."""
    if flag is None or evaluation.variant is None:
        return False
    if flag.type == "boolean":
        return evaluation.value is True
    return evaluation.variant != flag.off_variant


def _encode_outcome(evaluation: Evaluation, flag: Flag | None) -> _EncodedOutcome:
    plain = _json(_members(evaluation, _is_on(flag, evaluation)))[:-1] + ',"bucket":'
    ofrep, refused = _ofrep(evaluation, flag), _refusal_code(evaluation)
    whole = ofrep
    if refused is not None:
        members = {"key": evaluation.flag, "errorCode": refused, "errorDetails": _DETAILS[refused]}
        whole = _json(members)
    return _EncodedOutcome(
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


def _ofrep(evaluation: Evaluation, flag: Flag | None) -> str:
    members: dict[str, Any] = {"key": evaluation.flag}
    if evaluation.variant is not None:
        members["value"] = evaluation.value
    members |= {"reason": evaluation.reason, "variant": evaluation.variant}
    own = {} if flag is None else metadata_of(flag)
    metadata: dict[str, Any] = {
        **{name: value for name, value in own.items() if name not in _OWN_METADATA},
        "flagVersion": evaluation.version,
    }
    if evaluation.rule_id is not None:
        metadata["ruleId"] = evaluation.rule_id
    return _json({**members, "metadata": metadata})


def _refusal_code(evaluation: Evaluation) -> str | None:
    if evaluation.error_code is not None:
        return evaluation.error_code
    return TARGETING_KEY_MISSING if evaluation.lacks_targeting_key else None


def _with_key(context: Context) -> dict[str, Any]:
    key = context.get("targetingKey")
    return with_subject(context, key) if key is not None else dict(context)


def _tail(environment: EnvironmentFlags, user: Any) -> str:
    members = f'"environment":"{environment.name}","revision":{environment.revision}}}'
    return f',"user_id":{_encode(user).decode()},{members}'


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=_SHORT)
    return text.encode("utf-8", "replace").decode()  # no half of a surrogate pair is left


def _canonical(context: Context) -> bytes:
    try:
        return _encode(context)
    except (OverflowError, ValueError, TypeError):  # integers of more than 64 bits, for one
        return json.dumps(context, sort_keys=True).encode()
