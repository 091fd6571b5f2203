"""The schemas that the service has for one configuration, by which the client judges as well."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilothouse.callbacks import WarnOnce
from pilothouse.errors import BadAnswer, NotFound, SchemaNotMet
from pilothouse.judging.findings import Finding
from pilothouse.judging.rules import RulesNotJudged, judge_rules
from pilothouse.transport import Transport
from pilothouse_core.trees import Tree

if TYPE_CHECKING:
    from pilothouse.judging.definitions import Definition

PATH = "/api/v1/schemas/for"
_MOST_NAMED = 5
_log = logging.getLogger("pilothouse")


class AppliedSchemas:
    """Reads the schemas for every configuration, and judges it.

    Needs the extra `schema`, or raises ImportError; rules between fields need the extra `rules`,
    and are else not judged, which is logged once.
    """

    def __init__(self, selection: Mapping[str, str], transport: Callable[[], Transport]) -> None:
        try:
            from pilothouse.judging import definitions  # noqa: PLC0415 - needs an extra
        except ImportError as error:
            raise ImportError(
                "schemas need jsonschema-rs: pip install 'pilothouse-client[schema]'"
            ) from error
        self._read_item = definitions.read_item
        self._judge_all = definitions.judge_all
        self._selection = dict(selection)
        self._transport = transport
        self._definitions: Sequence[Definition] = ()
        self._etag = ""
        self._met: Tree | None = None  # the last configuration that meets these schemas
        self._warnings = WarnOnce()

    async def check(self, tree: Tree, revision: int = 0) -> None:
        """Raise SchemaNotMet if an enforced schema is not met; log what others find.

        The schemas are at least as new as `revision`; an object that has met them is not judged
        again. Secrets that are masked count as present. A service without schemas has none. Raises
        PilothouseError if the schemas cannot be read: nothing is held that was not judged.
        """
        await self._refresh(revision)
        if not self._definitions or tree is self._met:
            return
        findings = await asyncio.to_thread(self._judge, tree)
        for finding in findings:
            if not finding.is_error:
                subject = (finding.schema, finding.version, finding.schema_pointer, finding.key)
                self._warnings.warn(subject, "a schema is not met: %s", finding)
        if errors := [finding for finding in findings if finding.is_error]:
            named = "; ".join(map(str, errors[:_MOST_NAMED]))
            more = f"; and {len(errors) - _MOST_NAMED} more" if len(errors) > _MOST_NAMED else ""
            facts = {"errors": [finding.facts for finding in errors]}
            raise SchemaNotMet(f"refused by a schema: {named}{more}", facts=facts)
        self._met = tree

    async def _refresh(self, revision: int) -> None:
        params = self._selection | ({"min_revision": str(revision)} if revision else {})
        headers = {"If-None-Match": self._etag} if self._etag else {}
        try:
            answer = await self._transport().get(PATH, params, headers, attempts=1)
        except NotFound:
            self._warnings.warn("route", "the service has no schemas: it is of an older version")
            return
        if answer.is_unchanged:
            return
        items = answer.object().get("items")
        if not isinstance(items, list):
            raise BadAnswer("an answer without `items`: these are not schemas")
        self._definitions = await asyncio.to_thread(self._compile, items)
        self._etag = answer.etag
        self._met = None

    def _compile(self, items: Sequence[Any]) -> list["Definition"]:
        definitions = []
        for item in items:
            try:
                definitions.append(self._read_item(item))
            except (ValueError, KeyError, TypeError) as error:
                name = item.get("name") if isinstance(item, Mapping) else None
                # The service has judged by it; a client that is too old must not stand still.
                self._warnings.warn(
                    ("schema", name, str(error)), "the schema %s is not judged: %s", name, error
                )
        return definitions

    def _judge(self, tree: Tree) -> list[Finding]:
        def evaluate(questions: Any) -> Any:
            try:
                return judge_rules(questions)
            except RulesNotJudged as error:
                self._warnings.warn("rules", "%s", error)
                return None

        return self._judge_all(self._definitions, tree, evaluate)
