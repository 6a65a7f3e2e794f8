"""`GET /`: a page for people that loads nothing and runs nothing but its own script; JSON for programs."""

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from llm_gateway.api.front_page_answer import prefers_html, root_of
from tests.fakes.gateway_app import KEY, GatewayApp

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.fixture(scope="module")
def app() -> Iterator[GatewayApp]:
    with GatewayApp('default_model = "echo:demo"', docs=True) as running:
        yield running


class Page(HTMLParser):
    """What stands in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            tag, attributes = self.tags[-1]
            name = attributes.get("id") if tag == self.open[-1] else None
            self.texts[name or tag] = self.texts.get(name or tag, "") + data


def page_of(app: GatewayApp, **headers: str) -> tuple[httpx.Response, Page]:
    answer = httpx.get(app.root, headers={"accept": BROWSER, **headers})
    assert answer.status_code == 200
    return answer, Page(answer.text)


def test_a_program_gets_json(app: GatewayApp) -> None:
    for accept in ("*/*", "application/json", "application/json, text/html;q=0.5", ""):
        answer = httpx.get(app.root, headers={"accept": accept})
        assert answer.headers["content-type"] == "application/json"
        told = answer.json()
        assert told["base_url"] == app.base_url
        for name, link in told["links"].items():
            assert link.startswith(app.root)
            status = httpx.get(link, headers=app.auth).status_code
            assert status == (405 if name.startswith("chat") else 200), link


def test_a_person_gets_a_page(app: GatewayApp) -> None:
    answer, page = page_of(app)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["vary"] == "Accept"
    assert answer.headers["cache-control"] == "no-store"
    assert page.texts["url"] == app.base_url
    assert [attributes["lang"] for tag, attributes in page.tags if tag == "html"] == ["en"]
    copied = {attributes["data-copies"] for tag, attributes in page.tags if tag == "button"}
    assert copied == {"url", "python", "curl"} <= set(page.texts)
    links = [attributes["href"] or "" for tag, attributes in page.tags if tag == "a"]
    assert {app.root + "/docs", app.root + "/health/ready"} == set(links)
    assert all(httpx.get(link).status_code == 200 for link in links)


def test_the_page_loads_nothing_and_its_policy_lets_nothing_in(app: GatewayApp) -> None:
    answer, page = page_of(app)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    for tag, attributes in page.tags:
        assert "src" not in attributes
        assert not any(name == "style" or name.startswith("on") for name in attributes), "the policy would refuse it"
        if tag == "link":
            assert attributes["href"] == "data:,"


def test_the_example_on_the_page_runs(app: GatewayApp, capsys: pytest.CaptureFixture[str]) -> None:
    _, page = page_of(app)
    exec(compile(page.texts["python"].replace("YOUR_KEY", KEY), "page", "exec"), {})  # noqa: S102 - it is ours
    assert "Hello!" in capsys.readouterr().out
    assert page.texts["curl"].startswith(f"curl {app.root}/api/chat ")


def test_the_one_line_needs_no_default_model() -> None:
    with GatewayApp("") as plain:
        page = Page(httpx.get(plain.root, headers={"accept": BROWSER}).text)
        body = page.texts["curl"].partition("-d '")[2].removesuffix("'")
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        answer = httpx.post(f"{plain.root}/api/chat", content=body, headers=headers)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("host", ['"><script>alert(1)</script>', "evil.example/path", "a b", "", "x" * 3 + "<"])
def test_a_host_that_is_none_is_not_part_of_the_page(app: GatewayApp, host: str) -> None:
    _, page = page_of(app, host=host)
    assert page.texts["url"] == "/v1"
    assert [tag for tag, _ in page.tags].count("script") == 1


def test_without_docs_there_is_no_link_to_them() -> None:
    with GatewayApp() as app:
        _, page = page_of(app)
        assert not any((attributes.get("href") or "").endswith("/docs") for _, attributes in page.tags)
        assert httpx.get(app.root).json()["links"]["docs"] is None


@pytest.mark.parametrize(
    ("scope", "root"),
    [
        ({}, "https://abc.example"),
        ({"root_path": "/llm"}, "https://abc.example/llm"),
        ({"aws.event": {"requestContext": {"path": "/prod/"}}}, "https://abc.example/prod"),
        ({"aws.event": {"requestContext": {"path": "/"}}}, "https://abc.example"),
        ({"aws.event": {"requestContext": {"http": {"path": "/dev"}}}}, "https://abc.example/dev"),
        ({"aws.event": {"requestContext": {"path": '/"<b>'}}}, "https://abc.example"),
    ],
)
def test_the_address_is_the_callers(scope: dict[str, Any], root: str) -> None:
    assert root_of({"scheme": "https", "headers": [(b"host", b"abc.example")], **scope}) == root


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("TEXT/HTML;q=0.3", True),
        ("text/html;q=0", False),
        ("text/html;q=x", False),
        ("application/json, text/html", True),
        ("application/json, text/html;q=0.9", False),
        ("*/*", False),
        ("", False),
        (";;,,q=", False),
    ],
)
def test_who_gets_the_page(accept: str, wanted: bool) -> None:
    assert prefers_html(accept) is wanted
