"""What a cluster's page may answer, and not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controlmill.pipelines.engine.translators.page import read_json
from controlmill.schemas.errors import MillError
from tests.pipelines.engine.translators.pages import serving


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving({"/json": '{"slots": 2}', "/": "<html>"}) as url:
        yield url


def test_a_page_is_read_whatever_proxy_the_environment_names(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert read_json(f"{server}/json", "the cluster", 5) == {"slots": 2}


def test_what_is_no_such_page_is_named(server: str) -> None:
    with pytest.raises(MillError, match=r"the cluster answers http://.* with 404 Not Found"):
        read_json(f"{server}/nothing", "the cluster", 5)
    with pytest.raises(MillError, match="is not the cluster: it sends no JSON"):
        read_json(server, "the cluster", 5)
    with pytest.raises(MillError, match=r"the cluster does not answer at http://127.0.0.1:1 \(ConnectionRefused"):
        read_json("http://127.0.0.1:1", "the cluster", 5)
