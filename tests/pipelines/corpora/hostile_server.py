"""An HTTP server on loopback, in a thread of the test, that answers as each path of it is told to."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Looks up the path's answer. ``waiting`` ends when the server does, so that no answer outlives its test."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        with self.server.lock:
            self.server.requests[path] += 1
            self.server.headers.append(dict(self.headers))
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        try:
            self.server.answers.get(path, plain(404))(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with self.server.lock:
                self.server.now -= 1

    def send(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """A whole answer, as it is told."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    """``requests`` counts by path, ``most`` were answered at a time, ``ended`` is set when the test is over."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, answers: Mapping[str, Answer]) -> None:
        super().__init__((host, 0), Handler)
        self.answers = dict(answers)
        self.requests: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are expected."""


@contextlib.contextmanager
def serving(answers: Mapping[str, Answer], host: str = "127.0.0.1") -> Iterator[Server]:
    """A server with an answer for each path; 404 for others."""
    server = Server(host, answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        socketserver.TCPServer.server_close(server)  # the threading one waits for its threads
        thread.join()


def plain(status: int = 200, body: bytes = b"", **headers: str) -> Answer:
    """A whole answer; ``_`` in a header's name is a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.send(status, {"Content-Length": str(len(body)), **named}, body)


def redirect(location: str, **headers: str) -> Answer:
    """A redirect."""
    return plain(302, Location=location, **headers)


def in_turn(*answers: Answer) -> Answer:
    """One answer after another; the last one from then on."""
    left = iter(answers)
    lock = threading.Lock()

    def answer(handler: Handler) -> None:
        with lock:
            now = next(left, answers[-1])
        now(handler)

    return answer


def silent(handler: Handler) -> None:
    """Nothing, until who asked goes away."""
    handler.connection.settimeout(60)
    with contextlib.suppress(OSError):
        handler.connection.recv(1)
    handler.close_connection = True


def dripping(data: bytes, seconds: float) -> Answer:
    """A header line or a byte now and then, for ever."""

    def answer(handler: Handler) -> None:
        for number in range(10_000):
            handler.wfile.write(data if number else b"HTTP/1.1 200 OK\r\n")
            if handler.server.ended.wait(seconds):
                break
        handler.close_connection = True

    return answer


def slow_body(head: bytes, length: int, seconds: float) -> Answer:
    """A picture that begins at once and comes byte by byte."""

    def answer(handler: Handler) -> None:
        handler.send(200, {"Content-Length": str(length)}, head)
        while not handler.server.ended.wait(seconds):
            handler.wfile.write(b"x")
        handler.close_connection = True

    return answer


def cut(body: bytes, claimed: int) -> Answer:
    """A body that ends before its length."""

    def answer(handler: Handler) -> None:
        handler.send(200, {"Content-Length": str(claimed)}, body)
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_WR)

    return answer


def chunked(head: bytes, chunks: int, chunk: bytes, sent: list[int], **headers: str) -> Answer:
    """A body in chunks, without a length; ``sent`` is told how many bytes of it were."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(handler: Handler) -> None:
        handler.send(200, {"Transfer-Encoding": "chunked", **named})
        handler.close_connection = True
        for number in range(chunks):
            data = chunk if number else head + chunk
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            sent.append(len(data))
        handler.wfile.write(b"0\r\n\r\n")

    return answer
