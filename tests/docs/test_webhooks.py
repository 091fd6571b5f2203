"""The page on webhooks verifies what the service signs, and nothing else."""

import re
from time import time
from typing import Any

from app.webhooks.signing import create_secret, read_key, signature_headers
from tests.docs.generate import ROOT

SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_the_snippet_of_the_page_verifies_what_is_signed() -> None:
    (snippet,) = SNIPPET.findall((ROOT / "docs/webhooks.md").read_text())
    names: dict[str, Any] = {}
    exec(snippet, names)
    verify = names["verify"]
    secret, former, body = create_secret(), create_secret(), b'{"a": 1}'
    keys, now = [read_key(secret), read_key(former)], int(time())

    headers = signature_headers(keys, "m1", now, body)

    assert verify(secret, headers, body)
    assert verify(former, headers, body)
    assert not verify(create_secret(), headers, body)
    assert not verify(secret, headers, body + b" ")
    assert not verify(secret, {**headers, "webhook-id": "m2"}, body)
    assert not verify(secret, signature_headers(keys, "m1", now - 301, body), body)
