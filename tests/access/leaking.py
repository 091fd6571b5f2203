"""`python -m tests.access.leaking LEAK serve`: the service with a seeded leak."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog

from app.__main__ import main
from app.configs.documents.composer import VersionComposer
from app.configs.documents.writer import DocumentWriter
from app.feed import router, scope


def _into_the_log() -> None:
    sealed = VersionComposer._seal_secrets  # noqa: SLF001 - where the values still are

    async def seal_and_log(self: Any, document: Any, data: Any, places: Any) -> Any:
        structlog.get_logger().info("sealed", values=[leaf.value for _, _, leaf in places])
        return await sealed(self, document, data, places)

    VersionComposer._seal_secrets = seal_and_log  # type: ignore[method-assign]  # noqa: SLF001


def _into_the_change_log() -> None:
    """Comment a change with the request that it was made by."""
    write = DocumentWriter.write

    async def write_with_comment(self: Any, request: Any) -> Any:
        if request.idempotency is not None:
            request = replace(request, comment=request.idempotency.request[:900])
        return await write(self, request)

    DocumentWriter.write = write_with_comment  # type: ignore[method-assign, assignment]


def _how_much_there_is() -> None:
    """Let a page of changes end at the last one that was looked at, and count for everybody."""
    may_see = scope.may_see

    def may_see_more(caller: Any, entity: Any) -> bool:
        return entity.environment == "production" or may_see(caller, entity)

    vars(router)["may_see"] = may_see_more


LEAKS: dict[str, Callable[[], None]] = {
    "the log": _into_the_log,
    "the change log": _into_the_change_log,
    "how much there is": _how_much_there_is,
}

if __name__ == "__main__":
    LEAKS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
