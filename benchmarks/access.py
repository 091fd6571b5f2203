"""What access control costs: the same requests with open access and with a token, in turns."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.configurations import READ_PATHS, fill
from benchmarks.flags import fill as fill_flags
from benchmarks.wrk import run
from tests.servers.service import ServiceProcess

_ROUNDS = 5
_SERVICE = {
    "name": "benchmark",
    "class": "service",
    "environments": ["production"],
    "services": ["bench"],
}
_ONE = {"flag_name": "flag7", "user_id": "user-12345", "environment": "production"}
_ASKED: Mapping[str, tuple[str, str | None]] = {
    "read a key": (READ_PATHS["read a key"], None),
    "evaluate one flag": ("/api/v1/feature-flags/evaluate", json.dumps(_ONE)),
}


def guarded(environment: dict[str, str], argv: Sequence[str]) -> str:
    """Tell the rate with a service's token as a share of the one with open access.

    The median of pairs that ran one after the other: the machine's own noise from one minute to the
    next is larger than what is measured.
    """
    shares: defaultdict[str, list[float]] = defaultdict(list)
    with ServiceProcess(environment, argv) as service:
        fill(service)
        fill_flags(service)
        token = service.request("POST", "/api/v1/tokens", _SERVICE).json()["token"]
        for _ in range(_ROUNDS):
            opened = _rates(service, "open", [])
            required = _rates(service, "required", [f"Authorization: Bearer {token}"])
            for name, rate in opened.items():
                shares[name].append(required[name] / rate)
    return "\n".join(
        f"{name} with a token: {median(found):.3f} of the rate with open access"
        f" (median of {_ROUNDS} pairs, {min(found):.3f} to {max(found):.3f})"
        for name, found in shares.items()
    )


def _rates(service: ServiceProcess, access: str, headers: list[str]) -> Mapping[str, float]:
    service.restart({"PILOTHOUSE_ACCESS": access})
    return {
        name: run(service.url + path, headers=headers, body=body, seconds=3).rate
        for name, (path, body) in _ASKED.items()
    }
