"""Proposing changes from a program, reviewing and applying them."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

from pilothouse.errors import Unavailable
from pilothouse.timeouts import run_with_timeout
from pilothouse.transport import Transport

_PROPOSALS = "/api/v1/proposals"
# States from which the service itself moves a proposal on.
MOVING_STATES: Final = frozenset({"scheduled", "applying", "releasing"})
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0


class AsyncProposals:
    """Needs a token with the rights to propose, approve or apply. Raises PilothouseError.

    Every method returns the proposal as the service shows it, with `id`, `state` and `round`.
    """

    def __init__(self, transport: Callable[[], Transport]) -> None:
        self._transport = transport

    async def propose(
        self,
        title: str,
        items: Sequence[Mapping[str, Any]],
        *,
        description: str = "",
        on_failure: str = "stop",
    ) -> dict[str, Any]:
        """Make a proposal; items are those of the HTTP interface."""
        body = {
            "title": title,
            "description": description,
            "on_failure": on_failure,
            "items": [dict(item) for item in items],
        }
        headers = {"Idempotency-Key": uuid4().hex}
        answer = await self._transport().request("POST", _PROPOSALS, headers=headers, body=body)
        return answer.object()

    async def get(self, proposal_id: str) -> dict[str, Any]:
        return (await self._transport().get(_path(proposal_id))).object()

    async def approve(self, proposal_id: str, round_number: int, text: str = "") -> dict[str, Any]:
        """Approve a round that was read; raises Conflict if there is a newer one."""
        body = {"round": round_number, "verdict": "approve", "text": text}
        return await self._act(proposal_id, "reviews", body)

    async def apply(
        self,
        proposal_id: str,
        *,
        at: str | None = None,
        release: Mapping[str, Any] | None = None,
        comment: str = "",
    ) -> dict[str, Any]:
        """Begin to apply a proposal: now, at a time (RFC 3339), or as a release by a plan."""
        body: dict[str, Any] = {"comment": comment}
        if at is not None:
            body["at"] = at
        if release is not None:
            body["release"] = dict(release)
        return await self._act(proposal_id, "apply", body)

    async def wait(self, proposal_id: str, timeout: float | None = None) -> dict[str, Any]:
        """Return a proposal once the service moves it on no more; its `state` says how it ended.

        Waits for a service that is unavailable. Raises TimeoutError after `timeout` seconds.
        """
        if timeout is None:
            return await self._wait(proposal_id)
        return await run_with_timeout(timeout, self._wait(proposal_id))

    async def _wait(self, proposal_id: str) -> dict[str, Any]:
        pause = _SHORTEST_PAUSE_SECONDS
        while True:
            try:
                proposal = await self.get(proposal_id)
            except Unavailable:
                pass
            else:
                if proposal["state"] not in MOVING_STATES:
                    return proposal
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _act(self, proposal_id: str, action: str, body: Mapping[str, Any]) -> dict[str, Any]:
        path = f"{_path(proposal_id)}/{action}"
        return (await self._transport().request("POST", path, body=dict(body))).object()


def _path(proposal_id: str) -> str:
    return f"{_PROPOSALS}/{quote(proposal_id, safe='')}"


class Proposals:
    """`AsyncProposals` for programs without an event loop; the same arguments."""

    def __init__(
        self, proposals: AsyncProposals, run: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> None:
        self._proposals = proposals
        self._run = run

    def propose(
        self, title: str, items: Sequence[Mapping[str, Any]], **options: Any
    ) -> dict[str, Any]:
        return self._result_of(self._proposals.propose(title, items, **options))

    def get(self, proposal_id: str) -> dict[str, Any]:
        return self._result_of(self._proposals.get(proposal_id))

    def approve(self, proposal_id: str, round_number: int, text: str = "") -> dict[str, Any]:
        return self._result_of(self._proposals.approve(proposal_id, round_number, text))

    def apply(self, proposal_id: str, **options: Any) -> dict[str, Any]:
        return self._result_of(self._proposals.apply(proposal_id, **options))

    def wait(self, proposal_id: str, timeout: float | None = None) -> dict[str, Any]:
        return self._result_of(self._proposals.wait(proposal_id, timeout))

    def _result_of(self, call: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = self._run(call)
        return result
