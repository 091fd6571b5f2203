"""An OpenID Connect issuer of the tests: a real HTTP server with keys of its own."""

import json
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self

from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

AUDIENCE = "pilothouse"


class Issuer:
    """Serves its discovery document and its public keys, as long as `is_there`."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {
            "rsa": RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"}),
            "ec": ECKey.generate_key("P-256", {"kid": "ec"}),
            "ed": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
        }
        self.is_there = True
        self.instead: bytes | None = None  # of its document of keys
        self.reads = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                document = issuer._document(self.path)
                self.send_response(404 if document is None else 200)
                body = json.dumps(document).encode()
                if issuer.instead is not None and self.path.endswith("/keys"):
                    body = issuer.instead
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/realm"
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,))

    def _document(self, path: str) -> Any:
        if not self.is_there:
            return None
        if path == "/realm/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        if path == "/realm/keys":
            self.reads += 1
            return {"keys": [key.as_dict(private=False) for key in self.keys.values()]}
        return None

    def claims(self, **others: Any) -> dict[str, Any]:
        """Return claims that are let in; those given as None are left out."""
        now = int(time.time())
        usual = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "ana",
            "iat": now,
            "exp": now + 300,
            "groups": ["platform"],
        }
        return {name: claim for name, claim in {**usual, **others}.items() if claim is not None}

    def token(self, key: str = "rsa", algorithm: str = "RS256", **claims: Any) -> str:
        header = {"alg": algorithm, "kid": key}
        return self.sign_token(header, self.claims(**claims), self.keys[key])

    @staticmethod
    def sign_token(header: Mapping[str, Any], claims: Mapping[str, Any], key: Key) -> str:
        return jwt.encode(dict(header), dict(claims), key, algorithms=[header["alg"]])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
