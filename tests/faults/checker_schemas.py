"""Whether what several layers make together met its schema at every revision of the log. Pure.

The schemas of these tests have one rule: `config.base <= config.low && config.low <= config.high`,
with 0 for a `base` that no layer has.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# Statuses after which nothing may be written, and nothing may be written later.
REFUSALS = frozenset({400, 404, 409, 412, 422, 503})
ACKNOWLEDGED = frozenset({200, 201})
UNCHANGED = "unchanged"


class Layer(NamedTuple):
    environment: str
    service: str


@dataclass(frozen=True, slots=True)
class LayerAnswer:
    """What one attempt at a write was answered; `comment` is that of the write and no other's.

    Without a status there was no answer; `code` is `unchanged` where there was nothing to write.
    """

    comment: str
    layer: Layer
    status: int | None
    revision: int | None = None
    code: str | None = None
    retry_after: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class StoredLayer:
    data: Mapping[str, Any]
    comment: str


@dataclass(frozen=True, slots=True)
class LayerTruth:
    """The log, each stored version by (environment, service, version), and the schemas by revision.

    A schema is the configurations that it judges, none if it is deleted or only warns.
    """

    changes: Sequence[Mapping[str, Any]]
    stored: Mapping[tuple[str, str, int], StoredLayer | None]
    schemas: Mapping[int, frozenset[Layer]] = field(default_factory=dict)


def check_layers(truth: LayerTruth, answers: Sequence[LayerAnswer]) -> list[str]:
    """Say what must not be: no sentence, no flaw."""
    return [*_flaws_of_revisions(truth), *_flaws_of_answers(truth, answers)]


def _flaws_of_revisions(truth: LayerTruth) -> Iterator[str]:
    layers: dict[Layer, Mapping[str, Any]] = {}
    schemas: dict[str, frozenset[Layer]] = {}
    broken: set[Layer] = set()
    for row in truth.changes:
        if row["kind"] == "schema":
            schemas[row["name"]] = truth.schemas[row["revision"]]
        elif row["kind"] == "config":
            layer = Layer(row["environment"], row["name"])
            version = truth.stored[(*layer, row["version"])]
            layers[layer] = {} if row["deleted"] or version is None else version.data
        judged = frozenset().union(*schemas.values())
        now = {pair for pair in judged if not is_met(merge_layers(layers, pair))}
        for pair in sorted(now - broken):
            shown = dict(merge_layers(layers, pair))
            yield (
                f"from revision {row['revision']} ({row['kind']} {row['environment']}/"
                f"{row['name']}) on, {pair.environment}/{pair.service} breaks its rule: {shown}"
            )
        broken = now


def merge_layers(layers: Mapping[Layer, Mapping[str, Any]], pair: Layer) -> Mapping[str, Any]:
    environment, service = pair
    lowest_first = (
        Layer("default", "_shared"),
        Layer("default", service),
        Layer(environment, "_shared"),
        Layer(environment, service),
    )
    return {key: value for layer in lowest_first for key, value in layers.get(layer, {}).items()}


def is_met(config: Mapping[str, Any]) -> bool:
    """Tell whether the rule is met; one that gives no answer is not."""
    if "low" not in config or "high" not in config:
        return False
    return bool(config.get("base", 0) <= config["low"] <= config["high"])


def _flaws_of_answers(truth: LayerTruth, answers: Sequence[LayerAnswer]) -> Iterator[str]:
    written = Counter(each.comment for each in truth.stored.values() if each is not None)
    revisions = _revisions_by_comment(truth)
    by_write: defaultdict[str, list[LayerAnswer]] = defaultdict(list)
    for answer in answers:
        by_write[answer.comment].append(answer)
        if answer.status == 503 and answer.retry_after is None:
            yield f"{answer.comment} was answered 503 {answer.code} without Retry-After"
    for comment, of_write in by_write.items():
        statuses = [each.status for each in of_write]
        acknowledged = [
            each for each in of_write if each.status in ACKNOWLEDGED and each.code != UNCHANGED
        ]
        if written[comment] > 1:
            yield f"{comment} was written {written[comment]} times"
        if set(statuses) <= REFUSALS and written[comment]:
            yield f"{comment} was answered {statuses} and is in the store"
        for each in acknowledged:
            if each.revision not in revisions[comment]:
                yield f"{comment} was answered with revision {each.revision}, where it is not"


def _revisions_by_comment(truth: LayerTruth) -> Mapping[str, set[int]]:
    found: defaultdict[str, set[int]] = defaultdict(set)
    for row in truth.changes:
        version = truth.stored.get((row["environment"], row["name"], row["version"]))
        if row["kind"] == "config" and version is not None:
            found[version.comment].add(row["revision"])
    return found
