"""Reads what a receiver of webhooks got, and names what was lost, overtaken or not the same."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from standardwebhooks import Webhook, WebhookVerificationError

from tests.servers.receiver import Arrival

SUCCESS = range(200, 300)


def find_violations(
    arrivals: Iterable[Arrival], final: Mapping[str, int], secret: str
) -> Iterator[str]:
    """Yield every violation; `final` has the last version of each entity by its name.

    Each version is accepted, for the first time after the one before it, and each request about it
    has the same id. Every request is signed.
    """
    verifier = Webhook(secret)
    first_accepted: defaultdict[str, list[int]] = defaultdict(list)
    ids: dict[tuple[str, int], str] = {}
    for arrival in arrivals:
        try:
            verifier.verify(arrival.body, dict(arrival.headers))
        except WebhookVerificationError as error:
            yield f"{arrival.id} is not signed: {error}"
        data = arrival.event()["data"]
        name, version = data["name"], data["version"]
        if ids.setdefault((name, version), arrival.id) != arrival.id:
            yield f"{name} {version} has two ids"
        if arrival.status in SUCCESS and version not in first_accepted[name]:
            first_accepted[name].append(version)
    for name, last in final.items():
        if sorted(first_accepted[name]) != list(range(1, last + 1)):
            yield f"{name} lacks {set(range(1, last + 1)) - set(first_accepted[name])}"
        if first_accepted[name] != sorted(first_accepted[name]):
            yield f"{name} is out of order: {first_accepted[name]}"
