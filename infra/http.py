"""/metrics, /healthz and /readyz for the processes that serve nothing else."""

import threading
from collections.abc import Callable, Iterable
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Check = Callable[[], None]  # raises with the reason when a dependency is not reached


class Health:
    """Serves in a thread of its own. `checks` by name; each raises OSError or RuntimeError when not ready."""

    def __init__(self, checks: dict[str, Check], *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._checks = checks
        self._server: WSGIServer = make_server(host, port, self._app, handler_class=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, kind, body = self._answer(environ["PATH_INFO"])
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    def _answer(self, path: str) -> tuple[str, str, bytes]:
        if path == "/metrics":
            return "200 OK", CONTENT_TYPE_LATEST, generate_latest()
        if path == "/healthz":
            return "200 OK", "text/plain", b"ok\n"
        if path == "/readyz":
            failed = failures(self._checks)
            return (
                ("503 Service Unavailable" if failed else "200 OK"),
                "text/plain",
                ("\n".join(failed) or "ok").encode(),
            )
        return "404 Not Found", "text/plain", b"see /metrics, /healthz, /readyz\n"


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Probes are no news."""


def failures(checks: dict[str, Check]) -> list[str]:
    """One line for each check that fails."""
    failed = []
    for name, check in checks.items():
        try:
            check()
        except (OSError, RuntimeError) as error:
            failed.append(f"{name}: {error}")
    return failed
