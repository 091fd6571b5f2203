"""How often a validator may have to apply subschemas, by how deep a value is.

A schema that leads to itself by two ways at one place, such as two branches of `anyOf`, doubles the
work with each level of a value: twenty levels take minutes. A long list of values to compare with
costs as much at every place that has none of them.
"""

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush

from pilothouse_core.schema_index import BadSchema, SchemaIndex, in_place, join_pointer

MAX_APPLIED = 1000  # subschemas for one place of a value
_DEEPEST = 128  # deeper than any document
_COMPARED = 50  # values of an `enum` or `const`, which cost as much as a subschema
_ALL = ("additionalProperties", "unevaluatedProperties")
_ITEMS = ("items", "additionalItems", "contains", "unevaluatedItems", "prefixItems")
_Counts = dict[str, int]


def judging_costs(index: SchemaIndex) -> tuple[int, ...]:
    """Return how many subschemas are applied to one place, at most, for each level of a value.

    One that compares with many values counts as several.

    The first number is of the value itself. Below the last level the work would grow without a
    bound. Raises BadSchema for a schema that is too costly for any value, or applies to itself,
    and TooCostly for one that takes too long to look at.
    """
    index.steps.restart()
    rank = {pointer: number for number, pointer in enumerate(_in_place_order(index))}
    weights = {pointer: _weight(index.members(pointer)) for pointer in index.at}
    level = [_with_in_place(index, rank, {"": 1})]
    seen = {frozenset(counts.items()) for counts in level}
    costs: list[int] = []
    while level and len(costs) < _DEEPEST:
        applied = (sum(weights[each] * count for each, count in counts.items()) for counts in level)
        costs.append(max(0, *costs, *applied))
        if costs[-1] > MAX_APPLIED:
            if len(costs) == 1:
                raise BadSchema("", f"more than {MAX_APPLIED} subschemas apply to one value")
            return tuple(costs[:-1])
        after: list[_Counts] = []
        for counts in level:
            for inner in _next_levels(index, rank, counts):
                state = frozenset(inner.items())
                if state not in seen:
                    seen.add(state)
                    after.append(inner)
        level = after
    return (*costs, *([costs[-1]] * (_DEEPEST - len(costs))))


def _weight(schema: Mapping[str, object]) -> int:
    """Return how many subschemas it costs as much as, with all that it compares a value with."""
    compared = 0
    level = [schema[keyword] for keyword in ("enum", "const") if keyword in schema]
    while level:
        compared += len(level)
        level = [
            inner
            for value in level
            if isinstance(value, (dict, list))
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    return 1 + compared // _COMPARED


def _same_value(index: SchemaIndex, pointer: str) -> Iterator[str]:
    yield from index.targets[pointer]
    schema = index.members(pointer)
    yield from (inner for inner, _ in in_place(pointer, schema))
    if "not" in schema:
        yield join_pointer(pointer, "not")


def _in_place_order(index: SchemaIndex) -> list[str]:
    """Return all pointers, each before those of subschemas that apply to the same value."""
    order: list[str] = []
    done: set[str] = set()
    for start in index.at:
        path = [(start, _same_value(index, start))] if start not in done else []
        on_path = {start}
        while path:
            pointer, inner = path[-1]
            after = next((each for each in inner if each not in done), None)
            if after is None:
                path.pop()
                on_path.discard(pointer)
                done.add(pointer)
                order.append(pointer)
            elif after in on_path:
                raise BadSchema(pointer, "the schema applies to itself without an end")
            else:
                on_path.add(after)
                path.append((after, _same_value(index, after)))
    return order[::-1]


def _with_in_place(index: SchemaIndex, rank: Mapping[str, int], counts: _Counts) -> _Counts:
    """Return how often each subschema is applied, if these are applied to one value."""
    result = dict(counts)
    waiting = [(rank[pointer], pointer) for pointer in counts]
    heapify(waiting)
    while waiting:
        _, pointer = heappop(waiting)
        for inner in _same_value(index, pointer):
            if inner not in result:
                heappush(waiting, (rank[inner], inner))
            result[inner] = min(result.get(inner, 0) + result[pointer], MAX_APPLIED + 1)
    index.steps.add(len(result))
    return result


def _next_levels(index: SchemaIndex, rank: Mapping[str, int], counts: _Counts) -> Iterator[_Counts]:
    """Yield how often each subschema is applied to an item, and to a member of each name."""
    named: dict[str, _Counts] = {}
    others: _Counts = {}
    items: _Counts = {}
    for pointer, count in counts.items():
        schema = index.members(pointer)
        for name in _names(schema, "properties"):
            _add(named.setdefault(name, {}), join_pointer(pointer, "properties", name), count)
        for pattern in _names(schema, "patternProperties"):
            _add(others, join_pointer(pointer, "patternProperties", pattern), count)
        for keyword in _ALL:
            if keyword in schema:
                _add(others, join_pointer(pointer, keyword), count)
        for inner in _item_schemas(pointer, schema):
            _add(items, inner, count)
    for level in (items, others, *({**level, **others} for level in named.values())):
        if level:
            yield _with_in_place(index, rank, level)


def _item_schemas(pointer: str, schema: Mapping[str, object]) -> Iterator[str]:
    for keyword in _ITEMS:
        value = schema.get(keyword)
        if isinstance(value, list):
            yield from (join_pointer(pointer, keyword, number) for number in range(len(value)))
        elif value is not None:
            yield join_pointer(pointer, keyword)


def _names(schema: Mapping[str, object], keyword: str) -> Mapping[str, object]:
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}


def _add(counts: _Counts, pointer: str, count: int) -> None:
    counts[pointer] = counts.get(pointer, 0) + count
