"""Apache Curator's discovery in a Java program, compiled as it starts: asked as JSON lines."""

import os
from collections.abc import Mapping

from tests.servers.choice import first_provided
from tests.servers.jars import QUICK, jars, java
from tests.servers.program import INTEROP, Program

SOURCE = INTEROP / "curator" / "Discovery.java"
LOG = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"


def start_curator(environment: Mapping[str, str] = os.environ) -> Program:
    """Raise ServerMissing, naming what is missing, when it cannot be run."""
    return first_provided(
        "Curator",
        {
            "install a JDK and Maven, which fetches the jars of tests/interop/curator": (
                lambda: _fetch_curator(environment)
            )
        },
    )


def _fetch_curator(environment: Mapping[str, str]) -> Program:
    words = (java(environment), "-Xmx128m", *QUICK, LOG)
    packages = jars("curator", SOURCE.with_name("pom.xml"), environment)
    return Program((*words, "-cp", f"{packages}/*", SOURCE))
