"""As much of Vault's command line as docker-compose.yml uses, by Vault's HTTP interface.

Its exit codes are Vault's: 2 for `operator init -status` on a Vault that is not initialised, 1 for
one that cannot be asked. `KILL=WORDS` has the calling script killed when a command that begins with
these words has done its work: `KILL=operator init`, and after it ` unheard` before anything is
printed.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tests.servers.answer import Answer, request


def call(method: str, path: str, body: Any = None) -> Answer:
    token = os.environ.get("VAULT_TOKEN")
    headers = {"X-Vault-Token": token} if token else {}
    url = f"{os.environ['VAULT_ADDR']}/v1/{path}"
    return request(method, url, json=body, headers=headers, timeout=30)


def main(words: Sequence[str]) -> int:
    options = dict(word.lstrip("-").split("=", 1) for word in words if "=" in word)
    match [word for word in words if not (word.startswith("-") and "=" in word)]:
        case ["operator", "init", "-status"]:
            return 0 if call("GET", "sys/init").json()["initialized"] else 2
        case ["operator", "init"]:
            shares = {"secret_shares": 1, "secret_threshold": 1}
            made = _require_success(call("PUT", "sys/init", shares)).json()
            _die_if_told("operator init unheard")
            print(f"Unseal Key 1: {made['keys_base64'][0]}\n")
            print(f"Initial Root Token: {made['root_token']}", flush=True)
        case ["operator", "unseal", key]:
            _require_success(call("PUT", "sys/unseal", {"key": key}))
        case ["secrets", "list"]:
            for mount in _require_success(call("GET", "sys/mounts")).json()["data"]:
                print(f"{mount}    kind")
        case ["secrets", "enable", kind]:
            version = {"version": options["version"]} if "version" in options else {}
            where = options.get("path", kind)
            _require_success(
                call("POST", f"sys/mounts/{where}", {"type": kind, "options": version})
            )
        case ["policy", "write", name, file]:
            policy = Path(file).read_text(encoding="utf-8")
            _require_success(call("PUT", f"sys/policies/acl/{name}", {"policy": policy}))
        case ["token", "lookup", token]:
            return 0 if call("POST", "auth/token/lookup", {"token": token}).status == 200 else 2
        case ["token", "create", "-orphan"]:
            facts = {"id": options["id"], "policies": [options["policy"]], "no_parent": True}
            _require_success(
                call("POST", "auth/token/create", {**facts, "period": options["period"]})
            )
        case other:
            raise SystemExit(f"there is no {other} here")
    return 0


def _require_success(answer: Answer) -> Answer:
    if answer.status >= 300:
        raise SystemExit(json.dumps({"status": answer.status, "body": answer.body.decode()}))
    return answer


def _die_if_told(point: str, environment: Mapping[str, str] = os.environ) -> None:
    if environment.get("KILL") == point:
        os.kill(os.getppid(), signal.SIGKILL)
        raise SystemExit(1)


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except (OSError, HTTPException) as error:
        raise SystemExit(str(error)) from error
    _die_if_told(" ".join(sys.argv[1:3]))
    sys.exit(code)
