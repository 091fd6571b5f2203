"""`python -m tests.faults.direct HOSTS FOLDER COUNT SECONDS`: instances by a session of their own.

They stand in the folder until this process ends and its session of so many seconds is over.
"""

import json
import signal
import sys

from kazoo.client import KazooClient

_PARTS = ("scheme", "://", "address", ":", "port")


def _data(service: str, id_: str) -> bytes:
    """Return an instance as Curator writes it."""
    parts = [{"value": part, "variable": part.isalpha()} for part in _PARTS]
    facts = {"name": service, "id": id_, "address": "10.0.0.1", "port": 80, "sslPort": None}
    kind = {"payload": None, "registrationTimeUTC": 0, "serviceType": "DYNAMIC"}
    return json.dumps({**facts, **kind, "uriSpec": {"parts": parts}}).encode()


def main(hosts: str, folder: str, count: str, seconds: str) -> None:
    client = KazooClient(hosts, timeout=float(seconds))
    client.start()
    service = folder.rpartition("/")[2]
    for number in range(int(count)):
        path = f"{folder}/direct-{number}"
        client.create(path, _data(service, f"direct-{number}"), ephemeral=True, makepath=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
