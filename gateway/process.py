"""The gateway's process, from its settings to its last answer: SIGTERM lets those under way finish, then it ends."""

import gc
import signal
import socket
import sys

import uvicorn

from gateway.app import make_app
from infra.database.schema import SchemaMismatch, await_schema
from infra.logs import configure_logging
from infra.ports import Ports
from infra.processes import announce
from infra.settings import SettingsError, load_settings

NAME = "gateway"
BACKLOG = 2048
KEEPALIVE_S = 75  # clients drop idle connections after 5 s (httpx): who drops first must not be the server
USAGE = 2  # the exit code for what only a person can mend


def run() -> int:
    """Until SIGTERM; the exit code."""
    try:
        ports = Ports(load_settings())
        await_schema(ports.database)
        listener = listen(ports.settings.gateway.host, ports.settings.gateway.port)
    except (SettingsError, SchemaMismatch, OSError) as error:
        sys.stderr.write(f"gateway: {error}\n")
        return USAGE
    configure_logging(ports.settings.infra, process=NAME)
    try:
        serve(ports, listener)
    finally:
        ports.close()
    return 0


def listen(host: str, port: int) -> socket.socket:
    """Raises OSError naming the address where it is taken."""
    try:
        return socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from None


def serve(ports: Ports, listener: socket.socket) -> None:
    """Until SIGTERM or SIGINT."""
    host, port = listener.getsockname()[:2]
    address = f"http://{host}:{port}"
    config = uvicorn.Config(
        make_app(ports, address),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEPALIVE_S,
        timeout_graceful_shutdown=int(ports.settings.gateway.drain_timeout_s),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # uvicorn handles both, and raises them again once it has drained
    gc.freeze()  # what the imports made lives as long as the process
    gc.enable()
    announce(ports.home, NAME, address)
    uvicorn.Server(config).run(sockets=[listener])
