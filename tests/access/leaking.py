"""`python -m tests.access.leaking LEAK serve`: the service with a seeded leak."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog

from app.__main__ import main
from app.configs.secrets import to_seal
from app.configs.writing import Writer


def _into_the_log() -> None:
    sealed = Writer._sealed  # noqa: SLF001 - where the values still are

    async def told(self: Any, document: Any, data: Any) -> Any:
        structlog.get_logger().info("sealed", values=[leaf.value for _, leaf in to_seal(data)])
        return await sealed(self, document, data)

    Writer._sealed = told  # type: ignore[method-assign]  # noqa: SLF001


def _into_the_change_log() -> None:
    """Comment a change with the request that it was made by."""
    write = Writer.write

    async def told(self: Any, asked: Any) -> Any:
        if asked.idempotency is not None:
            asked = replace(asked, comment=asked.idempotency.request[:900])
        return await write(self, asked)

    Writer.write = told  # type: ignore[method-assign, assignment]


LEAKS: dict[str, Callable[[], None]] = {
    "the log": _into_the_log,
    "the change log": _into_the_change_log,
}

if __name__ == "__main__":
    LEAKS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
