"""How fast the gateway is: requests/s and latency in front of an engine that answers at once.

`python tests/bench/gateway_bench.py [--seconds 5] [--stream] [--json]`. Engine, gateway and client are a process each,
so the gateway has a core of its own; the engine and the client do as little as HTTP allows.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

import uvloop

from tests.support.stack import Stack, make_stack

TOKENS = 32
CONCURRENCY = (1, 8)
WARM_UP_S = 1.0


@dataclass(frozen=True)
class Result:
    """`direct_p50_ms` is the same request without the gateway: what the engine and the client take themselves."""

    stream: bool
    concurrency: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    direct_p50_ms: float
    events_stored: bool


def main() -> int:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as home:
        stack = make_stack(Path(home), infra={"log_level": "warning"})
        here, there = multiprocessing.Pipe()
        engine = multiprocessing.Process(target=serve_engine, args=(there,), daemon=True)
        engine.start()
        address = f"http://127.0.0.1:{here.recv()}"
        stack.publish(engines=[address])
        with stack.gateway_process() as gateway:
            gateway.wait_until_ready()
            results = measure(stack, gateway.url, address, arguments.seconds, arguments.stream)
        engine.kill()
        stack.ports.close()
    sys.stdout.write(json.dumps([asdict(r) for r in results], indent=1) + "\n" if arguments.json else table(results))
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(stack: Stack, url: str, engine: str, seconds: float, stream: bool) -> list[Result]:
    results, asked = [], 0
    for concurrency in CONCURRENCY:
        direct = load(engine, "engine", concurrency, min(seconds, 2.0), stream)
        load(url, stack.client_key, concurrency, WARM_UP_S, stream)
        took = load(url, stack.client_key, concurrency, seconds, stream)
        asked += len(took)
        results.append(
            Result(
                stream=stream,
                concurrency=concurrency,
                requests_per_s=round(len(took) / seconds, 1),
                p50_ms=round(statistics.median(took) * 1000, 3),
                p99_ms=round(statistics.quantiles(took, n=100)[98] * 1000, 3),
                direct_p50_ms=round(statistics.median(direct) * 1000, 3),
                events_stored=False,
            )
        )
    time.sleep(1.0)
    stored = len(stack.inference_events()) >= asked
    return [Result(**{**asdict(result), "events_stored": stored}) for result in results]


def table(results: list[Result]) -> str:
    lines = ["clients  requests/s   p50 ms   p99 ms  without gateway, p50 ms"]
    lines += [
        f"{r.concurrency:7}  {r.requests_per_s:10.0f}  {r.p50_ms:7.2f}  {r.p99_ms:7.2f}  {r.direct_p50_ms:7.2f}"
        for r in results
    ]
    return "\n".join([*lines, f"every event in the log: {all(r.events_stored for r in results)}", ""])


def load(url: str, key: str, concurrency: int, seconds: float, stream: bool) -> list[float]:
    """Seconds that each answer took."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps(
        {"model": "assistant", "messages": [{"role": "user", "content": "hi"}], "user": "u", "stream": stream}
    )
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return uvloop.run(_clients(host, int(port), (head + body).encode(), concurrency, seconds))


async def _clients(host: str, port: int, request: bytes, concurrency: int, seconds: float) -> list[float]:
    until = time.perf_counter() + seconds
    took = await asyncio.gather(*(_client(host, port, request, until) for _ in range(concurrency)))
    return [one for each in took for one in each]


async def _client(host: str, port: int, request: bytes, until: float) -> list[float]:
    reader, writer = await asyncio.open_connection(host, port)
    took = []
    while (started := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        if b"chunked" in head:
            await reader.readuntil(b"0\r\n\r\n")
        else:
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
        took.append(time.perf_counter() - started)
    writer.close()
    return took


def serve_engine(parent: Connection) -> None:
    """Answers every request with the same bytes."""
    uvloop.run(_serve_engine(parent))


async def _serve_engine(parent: Connection) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Engine(), "127.0.0.1", 0)
    parent.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


class _Engine(asyncio.Protocol):
    """Just enough HTTP: one whole request per connection at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._received = cast(asyncio.Transport, transport), b""
        self._whole, self._stream = _whole_answer(), _streamed_answer()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            streamed = b'"stream":true' in body.replace(b" ", b"")
            self._received = b""
            self._transport.write(self._stream if streamed else self._whole)


def _whole_answer() -> bytes:
    logprobs = [{"token": f"t{at}", "logprob": -0.5, "bytes": [116], "top_logprobs": []} for at in range(TOKENS)]
    choice = {
        "index": 0, "message": {"role": "assistant", "content": "token " * TOKENS}, "finish_reason": "stop",
        "logprobs": {"content": logprobs}, "token_ids": list(range(TOKENS)),
    }  # fmt: skip
    body = json.dumps(
        {**_named("chat.completion"), "choices": [choice], "prompt_token_ids": list(range(16)), "usage": _usage()}
    )
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def _streamed_answer() -> bytes:
    chunks = [{**_named("chat.completion.chunk"), "choices": [_piece(at)]} for at in range(TOKENS)]
    chunks.append({**_named("chat.completion.chunk"), "choices": [], "usage": _usage()})
    events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"]
    pieces = "".join(f"{len(event):x}\r\n{event}\r\n" for event in events) + "0\r\n\r\n"
    return (
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces
    ).encode()


def _piece(at: int) -> dict[str, object]:
    return {
        "index": 0, "delta": {"content": "token "}, "token_ids": [at],
        "finish_reason": "stop" if at == TOKENS - 1 else None,
        "logprobs": {"content": [{"token": "t", "logprob": -0.5, "bytes": [116], "top_logprobs": []}]},
    }  # fmt: skip


def _named(kind: str) -> dict[str, object]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "base"}


def _usage() -> dict[str, int]:
    return {"prompt_tokens": 16, "completion_tokens": TOKENS, "total_tokens": 16 + TOKENS}


if __name__ == "__main__":
    sys.exit(main())
