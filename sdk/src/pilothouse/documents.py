"""Documents of the service: one layer at a time, read and written as they are stored."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pilothouse.background import RunOnLoop
from pilothouse.errors import BadAnswer
from pilothouse.transport import Answer, Transport


@dataclass(frozen=True, slots=True)
class ConfigUpdate:
    """A new version of a whole document, with a comment and the name of its author.

    The log names the holder of the token as the actor; `created_by` is only a remark.
    """

    config_data: Mapping[str, Any] = field(repr=False)  # may hold secrets
    comment: str = ""
    created_by: str | None = None

    def body(self) -> dict[str, Any]:
        """Return the body of the request."""
        body = {"config_data": dict(self.config_data), "comment": self.comment}
        return body if self.created_by is None else {**body, "created_by": self.created_by}


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it is stored; its secrets are masked."""

    service_name: str
    environment: str
    version: int
    config_data: Mapping[str, Any] = field(repr=False)
    comment: str
    created_by: str
    updated_by: str
    etag: str
    warnings: tuple[Mapping[str, Any], ...] = ()
    """After a write: credentials found in plain values."""


class AsyncDocuments:
    """The documents of an environment, by default the client's own."""

    def __init__(self, transport: Callable[[], Transport], environment: str) -> None:
        self._transport = transport
        self._environment = environment

    async def get(
        self, service: str, environment: str | None = None, *, version: int | None = None
    ) -> Document:
        """Return a document, of an earlier version if one is given. Raises NotFound."""
        params = self._params(environment)
        if version is not None:
            params["version"] = str(version)
        return _document(await self._transport().get(_path(service), params))

    async def create(
        self, service: str, update: ConfigUpdate, environment: str | None = None
    ) -> Document:
        """Write the first version of a document. Raises Conflict if it exists."""
        answer = await self._transport().request(
            "POST",
            _path(service),
            params=self._params(environment),
            headers={"Idempotency-Key": str(uuid.uuid4())},
            body=update.body(),
        )
        return _document(answer)

    async def update(
        self,
        service: str,
        update: ConfigUpdate,
        environment: str | None = None,
        *,
        expected: Document | None = None,
    ) -> Document:
        """Replace a document. Raises NotFound if it does not exist.

        With `expected` only if it is still this one; raises PreconditionFailed otherwise. Such a
        write is not retried: a retry would not know the version that the first attempt wrote.
        """
        answer = await self._transport().request(
            "PUT",
            _path(service),
            params=self._params(environment),
            headers={} if expected is None else {"If-Match": expected.etag},
            body=update.body(),
            attempts=None if expected is None else 1,
        )
        return _document(answer)

    async def copy(  # noqa: PLR0913 - two places, and how
        self,
        service: str,
        *,
        to_environment: str | None = None,
        to_service: str | None = None,
        environment: str | None = None,
        keys: Sequence[str] | None = None,
        comment: str = "",
        dry_run: bool = False,
    ) -> Mapping[str, Any]:
        """Merge a document, or some keys of it, into that of another environment or service.

        The service encrypts its secrets again there. Returns the service's report:
        `status`, `version`, `changes`, `warnings`. Raises NotFound, Forbidden, Conflict.
        """
        source = {"environment": environment or self._environment, "service_name": service}
        target = {
            "environment": to_environment or source["environment"],
            "service_name": to_service or service,
        }
        body = {
            "from": source,
            "to": target,
            "keys": None if keys is None else list(keys),
            "dry_run": dry_run,
            "comment": comment,
        }
        answer = await self._transport().request(
            "POST", "/api/v1/copy", headers={"Idempotency-Key": str(uuid.uuid4())}, body=body
        )
        return answer.object()

    def _params(self, environment: str | None) -> dict[str, str]:
        return {"environment": environment or self._environment}


class Documents:
    """As `AsyncDocuments`, for programs without an event loop."""

    def __init__(self, inner: AsyncDocuments, run: RunOnLoop) -> None:
        self.inner = inner
        self._run = run

    def get(
        self, service: str, environment: str | None = None, *, version: int | None = None
    ) -> Document:
        """Return a document, of an earlier version if one is given. Raises NotFound."""
        return self._run(self.inner.get(service, environment, version=version))

    def copy(  # noqa: PLR0913 - two places, and how
        self,
        service: str,
        *,
        to_environment: str | None = None,
        to_service: str | None = None,
        environment: str | None = None,
        keys: Sequence[str] | None = None,
        comment: str = "",
        dry_run: bool = False,
    ) -> Mapping[str, Any]:
        """Merge a document, or some keys of it, into that of another environment or service."""
        return self._run(
            self.inner.copy(
                service,
                to_environment=to_environment,
                to_service=to_service,
                environment=environment,
                keys=keys,
                comment=comment,
                dry_run=dry_run,
            )
        )

    def create(
        self, service: str, update: ConfigUpdate, environment: str | None = None
    ) -> Document:
        """Write the first version of a document. Raises Conflict if it exists."""
        return self._run(self.inner.create(service, update, environment))

    def update(
        self,
        service: str,
        update: ConfigUpdate,
        environment: str | None = None,
        *,
        expected: Document | None = None,
    ) -> Document:
        """Replace a document. Raises NotFound if it does not exist.

        With `expected` only if it is still this one; raises PreconditionFailed otherwise. Such a
        write is not retried: a retry would not know the version that the first attempt wrote.
        """
        return self._run(self.inner.update(service, update, environment, expected=expected))


def _path(service: str) -> str:
    return f"/api/configs/{quote(service, safe='')}"


def _document(answer: Answer) -> Document:
    body = answer.object()
    try:
        return Document(
            service_name=body["service_name"],
            environment=body["environment"],
            version=body["version"],
            config_data=body["config_data"],
            comment=body["comment"],
            created_by=body["created_by"],
            updated_by=body["updated_by"],
            etag=answer.etag,
            warnings=tuple(body.get("warnings", ())),
        )
    except KeyError as error:
        raise BadAnswer(f"an answer that is not a document: {error} is missing") from error
