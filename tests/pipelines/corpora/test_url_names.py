"""What pictures are called by their URLs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlmill.pipelines.corpora.url_names import Prefix, fault_of

ONE, TWO = "https://host.example/photos/a/1.jpg", "https://host.example/photos/b/2.jpg"


def names(*urls: str) -> list[str]:
    """What the URLs of a list are called."""
    prefix = Prefix()
    for url in urls:
        prefix.add(url)
    return [prefix.name(url) for url in urls]


@pytest.mark.parametrize(
    ("urls", "called"),
    [
        ([ONE, TWO], ["a/1.jpg", "b/2.jpg"]),
        ([ONE], ["1.jpg"]),
        ([ONE, ONE.replace("host", "other")], ["host.example/photos/a/1.jpg", "other.example/photos/a/1.jpg"]),
        (
            [ONE, ONE.replace("https", "http")],
            ["https/host.example/photos/a/1.jpg", "http/host.example/photos/a/1.jpg"],
        ),
        ([ONE, f"{ONE}?size=2"], ["1.jpg", "1.jpg?size=2"]),
        (["https://h/photos/1.jpg", "https://h/photos-2/1.jpg"], ["photos/1.jpg", "photos-2/1.jpg"]),
        (["https://h/?id=1", "https://h/?id=2"], ["?id=1", "?id=2"]),
        (["https://h/a/", "https://h/a/1.jpg", "https://h/a"], ["a/", "a/1.jpg", "a"]),
        (["https://h/a/", "https://h/a/1.jpg"], ["./", "1.jpg"]),
        (["HTTPS://H:443/a/x/../1.jpg#top", "https://user:secret@h/a/./2.jpg"], ["1.jpg", "2.jpg"]),
        (["https://h/my%20photo%C3%BC%41.jpg", "https://h/a%2Fb%3F%23.jpg"], ["my photoüA.jpg", "a%2Fb%3F%23.jpg"]),
        (["https://h:1/1.jpg", "https://h:2/1.jpg"], ["h:1/1.jpg", "h:2/1.jpg"]),
    ],
)
def test_a_picture_is_called_by_what_its_url_has_of_its_own(urls: list[str], called: list[str]) -> None:
    assert names(*urls) == called


PART = st.text("ab.%20?#/:", max_size=6)


@given(
    st.lists(st.tuples(st.sampled_from(["http", "https"]), st.sampled_from(["h", "g:1"]), PART), min_size=2, max_size=6)
)
def test_two_urls_have_one_name_only_where_they_mean_the_same(found: list[tuple[str, str, str]]) -> None:
    """Without escapes and dots, which have several spellings, no two are called the same."""
    urls = [url for scheme, host, path in found if not fault_of(url := f"{scheme}://{host}/{path}")]
    called = dict(zip(urls, names(*urls), strict=True))
    plain_ones = [url for url in called if not set("%.#") & set(url)]
    assert all(called.values())
    assert len({called[url] for url in plain_ones}) == len(plain_ones)
    assert all(
        not {".", ".."} & set(name.partition("?")[0].split("/")[:-1]) or name == "./" for name in called.values()
    )


@pytest.mark.parametrize(
    "text",
    [
        *("", "a.jpg", "file:///etc/passwd", "ftp://h/a", "http:///a", "http://h\\@g/", "http://h/a\nb"),
        *("http://h /a", "javascript:alert(1)", "data:image/png;base64,AA", "http://h/\udcff", "http://h/\x7f"),
        "http://h/" + "a" * 9000,
    ],
)
def test_what_is_no_url_is_known_as_such(text: str) -> None:
    assert fault_of(text)
