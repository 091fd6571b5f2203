"""Builds the test servers that take minutes to build, before any test waits for one.

A test may take ten minutes at most; the first build of Vault takes four on two quiet cores and
longer than that on a slow or busy machine. Later runs find the program in the cache.
"""

import sys
from contextlib import closing
from time import perf_counter

from tests.servers.choice import ServerMissing
from tests.servers.vault import start_vault


def main() -> int:
    began = perf_counter()
    try:
        with closing(start_vault()):
            seconds = perf_counter() - began
    except ServerMissing as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"Vault is ready after {seconds:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
