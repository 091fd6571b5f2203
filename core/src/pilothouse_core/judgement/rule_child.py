"""The process that evaluates rules: one JSON text a line in, one line for each result out.

It holds nothing: no setting, no connection, no secret. It limits itself, so that a hostile rule
ends this process and nothing else: its memory by the system, the processor time of one request by a
timer whose signal is not caught, since the library does not return to Python while it works.
"""

import json
import re
import resource
import signal
import sys
from functools import lru_cache
from typing import IO, Any

MOST_BYTES = 512 * 1024 * 1024
MOST_SECONDS = 0.5  # of processor time, for all rules of one request
_POSITION = re.compile(r"<input>:\d+:(\d+): (.+)")
_MOST_REASON_CHARACTERS = 300


def main() -> None:
    """Answer requests until the input ends."""
    from cel_expr_python import cel  # noqa: PLC0415 - nothing else of the service loads it

    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service ends this process itself
    environment = cel.NewEnv(variables={"config": cel.Type.DYN})
    compiled = lru_cache(maxsize=2000)(environment.compile)
    requests, results = sys.stdin.buffer, sys.stdout.buffer
    _write(results, "ready")
    for line in requests:
        request = json.loads(line, parse_int=_number)
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        for expression in request.get("compile", ()):
            _write(results, _flaw(compiled, expression))
        for question in request.get("judge", ()):
            for expression in question["expressions"]:
                _write(results, _verdict(compiled, expression, question["config"]))
        signal.setitimer(signal.ITIMER_PROF, 0)


def _number(digits: str) -> int | float:
    """Return an integer as CEL has it, of 64 bits, else the nearest double."""
    number = int(digits)
    return number if -(2**63) <= number < 2**63 else float(number)


def _flaw(compiled: Any, expression: str) -> Any:
    try:
        compiled(expression)
    except Exception as error:  # noqa: BLE001 - the library has no errors of its own
        match = _POSITION.search(str(error))
        if match is None:
            return {"reason": "the expression does not compile", "column": 0}
        return {"reason": match[2][:_MOST_REASON_CHARACTERS], "column": int(match[1])}
    return None


def _verdict(compiled: Any, expression: str, config: Any) -> str:
    try:
        value = compiled(expression).eval(data={"config": config}).value()
    except Exception:  # noqa: BLE001 - the library has no errors of its own
        return "undecided"
    return {True: "met", False: "broken"}[value] if isinstance(value, bool) else "undecided"


def _write(results: IO[bytes], result: Any) -> None:
    """Write each result at once: if the process ends, the missing results show at which rule."""
    results.write(json.dumps(result).encode() + b"\n")
    results.flush()


if __name__ == "__main__":
    main()
