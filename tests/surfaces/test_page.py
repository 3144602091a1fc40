from __future__ import annotations

from html.parser import HTMLParser

import pytest

from probe.surfaces import page
from tests.surfaces.snapshots import EVERYTHING, HOSTILE, HOSTILE_NAMES, Served, snapshot


class Seen(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag and what it would load."""
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "srcset", "data")]

    def handle_data(self, data: str) -> None:
        """Note the text."""
        self.text += data


def test_the_page_shows_gates_findings_and_models() -> None:
    """Everything that a person looks for first is in the text of the page."""
    seen = Seen(page.render(EVERYTHING.status))

    for each in (
        "readyz",
        "failing",
        "StubDead",
        "stub 101 of resnet_0_1 ended 3.2 s ago.",
        "bert",
        "2 of 2",
    ):
        assert each in seen.text


def test_names_are_text_and_never_markup() -> None:
    """Names from a model repository add no element to the page."""
    hostile = Seen(page.render(HOSTILE.status))

    assert "script" not in hostile.tags
    assert HOSTILE_NAMES[3] in hostile.text


def test_the_page_loads_nothing() -> None:
    """No script, image, font or style comes from anywhere."""
    seen = Seen(page.render(EVERYTHING.status))

    assert seen.loads == []
    assert not {"script", "link", "img", "iframe"} & set(seen.tags)


def test_an_empty_status_says_none() -> None:
    """Tables without rows say so instead of showing nothing."""
    assert page.render(snapshot().status).count(">none<") == 2


@pytest.mark.parametrize("directive", ["default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"])
def test_the_page_forbids_what_it_does_not_need(served: Served, directive: str) -> None:
    """The policy that the browser enforces allows the page's own style and nothing else."""
    response, _ = served.ask("/")

    assert directive in response.headers["content-security-policy"]
