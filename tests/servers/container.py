"""A server in a container, where a Docker engine answers."""

import gc
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.servers.choice import NotProvided
from tests.servers.process import reserve_port, wait_until

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

# Stand in an image's environment for where clients will find it.
HOST, PORT = "{host}", "{port}"


@dataclass(frozen=True, slots=True)
class Image:
    name: str
    port: int
    command: str
    environment: Mapping[str, str] = field(default_factory=dict)


def _complaint() -> str | None:
    # Imported late: nobody who has no Docker should wait for it or need it.
    try:
        from docker.errors import DockerException  # type: ignore[import-untyped]  # noqa: PLC0415
        from testcontainers.core.docker_client import DockerClient  # noqa: PLC0415
    except ImportError as error:
        return f"the package {error.name} is not installed"
    try:
        client = DockerClient(timeout=2).client
        client.ping()
        client.close()
    except (DockerException, OSError) as error:
        return f"none answers: {error}"
    return None


def require_engine() -> None:
    """Raise NotProvided unless a Docker engine answers within two seconds."""
    with warnings.catch_warnings():
        # The client forgets to close its socket when nobody answers: let that be found here and
        # not in a later test. So the error may not hold on to it either.
        warnings.simplefilter("ignore", ResourceWarning)
        complaint = _complaint()
        gc.collect()
    if complaint is not None:
        raise NotProvided(complaint)


def _start_container(image: Image) -> "DockerContainer":
    from docker.errors import DockerException  # noqa: PLC0415
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415

    # Engines give a restarted container another port unless it asks for a certain one.
    with reserve_port() as holder:
        port = holder.getsockname()[1]
    container = DockerContainer(image.name, command=image.command)
    host = container.get_docker_client().host()
    for name, value in image.environment.items():
        container.with_env(name, value.replace(HOST, host).replace(PORT, str(port)))
    try:
        return container.with_bind_ports(image.port, port).start()
    except DockerException as error:
        container.stop()
        raise NotProvided(f"{image.name} does not start: {error}") from error


class RunningContainer:
    """A container that keeps its port and its data through `kill` and `restart`."""

    def __init__(self, image: Image) -> None:
        require_engine()
        self._container = _start_container(image)
        self._ready: Callable[[], bool] = lambda: True
        self.host = self._container.get_container_host_ip()
        self.port = self._container.get_exposed_port(image.port)

    def wait_until_ready(self, ready: Callable[[], bool]) -> None:
        """Wait for it now and after each restart."""
        self._ready = ready
        try:
            wait_until(ready, "the container is ready", within=60)
        except TimeoutError as late:
            out, err = self._container.get_logs()
            late.add_note((out + err)[-4000:].decode(errors="replace"))
            raise

    def _status(self) -> str:
        self._container.reload()
        return self._container.status

    def freeze(self) -> None:
        self._container.get_wrapped_container().pause()

    def thaw(self) -> None:
        if self._status() == "paused":
            self._container.get_wrapped_container().unpause()

    def execute(self, command: str) -> None:
        """Run a command in it; raises RuntimeError where that fails."""
        code, output = self._container.exec(["sh", "-c", command])
        if code != 0:
            raise RuntimeError(f"{command!r} fails: {output!r}")

    def kill(self) -> None:
        self.thaw()
        if self._status() == "running":
            self._container.get_wrapped_container().kill()
            self._container.wait()

    def stop(self) -> None:
        self.thaw()
        self._container.get_wrapped_container().stop(timeout=10)

    def restart(self) -> None:
        self.stop()
        self._container.get_wrapped_container().start()
        self.wait_until_ready(self._ready)

    def close(self) -> None:
        self._container.stop()
