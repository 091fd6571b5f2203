"""The result of an evaluation for callers, and its error codes."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pilothouse_core.contexts import MAX_CONTEXT_BYTES
from pilothouse_core.evaluation import ERROR, FLAG_NOT_FOUND, TARGETING_KEY_MISSING, Evaluation

GENERAL: Final = "GENERAL"
INVALID_CONTEXT: Final = "INVALID_CONTEXT"
NOT_READY: Final = "PROVIDER_NOT_READY"
MESSAGES: Final[Mapping[str, str]] = {
    FLAG_NOT_FOUND: "there is no flag of this name",
    TARGETING_KEY_MISSING: "the flag is rolled out by targeting key, and there is none",
    "PARSE_ERROR": "the definition of the flag is not understood by this release",
    NOT_READY: "no flags have been read yet",
    INVALID_CONTEXT: f"the context has more than {MAX_CONTEXT_BYTES} bytes as JSON",
    GENERAL: "the evaluation failed",
}


class FlagDetails(NamedTuple):
    """An answer and why, in OpenFeature's words.

    `value` is the caller's default where no variant is served. `version` is the flag's, `revision`
    that of the whole set. `skipped` are rollouts that did not find the attribute they go by, as
    (rule, attribute). `error_code` and `error_message` are None unless `reason` is ERROR.
    """

    flag: str
    value: Any
    variant: str | None
    reason: str
    version: int
    revision: int
    rule_id: str | None
    bucket: int | None
    prerequisite: str | None
    skipped: tuple[tuple[str, str], ...]
    error_code: str | None
    error_message: str | None


def failed_evaluation(name: str, code: str) -> Evaluation:
    return Evaluation(name, 0, None, None, ERROR, error_code=code)


def details_of(evaluation: Evaluation, value: Any, revision: int) -> FlagDetails:
    code = evaluation.error_code
    return FlagDetails(
        evaluation.flag,
        value,
        evaluation.variant,
        evaluation.reason,
        evaluation.version,
        revision,
        evaluation.rule_id,
        evaluation.bucket,
        evaluation.prerequisite,
        evaluation.skipped,
        code,
        None if code is None else MESSAGES.get(code, code),
    )
