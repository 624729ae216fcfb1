"""A server of S3's protocol on this machine, and its bucket."""

from __future__ import annotations

import hashlib
import io
import logging
import re
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.helpers import end_kept, scene

REQUEST = re.compile(r"(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP")
COLOURS = re.compile(r"\x1b\[\d+m")


class Bucket(logging.Handler):
    """A bucket, and the requests that its server was sent: (method, what for)."""

    def __init__(self) -> None:
        super().__init__()
        self.files: Any = None
        self.requests: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        found = REQUEST.search(COLOURS.sub("", record.getMessage()))
        if found:
            self.requests.append((found[1], found[2]))

    def counts(self, since: int) -> Counter[str]:
        """Requests by method; those that list a folder are ``LIST``."""
        return Counter("LIST" if "list-type" in path else method for method, path in self.requests[since:])

    def put(self, folder: str, count: int) -> str:
        """Pictures in a folder of the bucket; its address."""
        for number in range(count):
            data = io.BytesIO()
            scene(number).save(data, "png")
            self.files.pipe_file(f"bucket/{folder}/{number:03d}.png", data.getvalue())
        return f"s3://bucket/{folder}"

    def digests(self, folder: str) -> dict[str, str]:
        """sha256 of every file below a folder."""
        self.files.invalidate_cache()
        names = self.files.find(f"bucket/{folder}")
        return {name.split("/", 2)[2]: hashlib.sha256(self.files.cat_file(name)).hexdigest() for name in names}


def one_at_a_time(respond: Callable[..., Any]) -> Callable[..., Any]:
    """A store looks whether a file is there and creates it at once; moto (5.2.5) does one after the other."""
    lock = threading.Lock()

    def locked(*given: Any, **named: Any) -> Any:
        with lock:
            return respond(*given, **named)

    return locked


@contextmanager
def bucket_on_this_machine() -> Iterator[Bucket]:
    """The bucket of a server that ends with the context; within it the environment names it, for jobs too."""
    import s3fs
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    urllib.request.urlopen(f"http://{host}:{port}/moto-api/reset", b"").close()  # its buckets are of the process
    made, log = Bucket(), logging.getLogger("werkzeug")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setattr(log, "handlers", [made])
        patch.setattr(log, "propagate", False)
        patch.setattr(log, "level", logging.INFO)
        patch.setattr(S3Response, "_key_response", one_at_a_time(S3Response._key_response))
        s3fs.S3FileSystem.clear_instance_cache()
        end_kept()  # its processes have another environment
        made.files = s3fs.S3FileSystem()
        made.files.mkdir("bucket")
        yield made
        end_kept()
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()
