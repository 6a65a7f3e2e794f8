"""Specifies docs/providers.md: what is generated, claims nothing that no golden shows, links to what exists."""

import json
import re
from pathlib import Path

import pytest

from scripts.generate_providers_page import GOLDENS, PAGE, main, page

FEATURES = ("streaming", "tools", "images", "JSON schema", "embeddings")


def row_of(text: str, provider: str) -> dict[str, str]:
    """A provider's row of the table of features, by column."""
    table = text.partition("## What reaches them")[2].partition("## Quirks")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    found = next(cells for cells in rows if cells[0] == f"`{provider}`")
    return dict(zip(rows[0], found, strict=True))


def test_the_page_is_what_is_generated() -> None:
    assert PAGE.read_text() == page(), "run scripts/generate_providers_page.py"


def test_every_link_to_a_golden_leads_somewhere() -> None:
    links = set(re.findall(r"\]\((\.\./[^)]+)\)", page()))
    assert len(links) > 20
    assert [link for link in sorted(links) if not (PAGE.parent / link).is_dir()] == []


def test_without_goldens_nothing_is_claimed(tmp_path: Path) -> None:
    text = page(tmp_path)
    for provider in ("openai", "anthropic", "bedrock", "deepseek"):
        row = row_of(text, provider)
        assert {row[feature] for feature in FEATURES} == {"no"}


def test_a_feature_is_claimed_where_one_golden_shows_it(tmp_path: Path) -> None:
    folder = tmp_path / "anthropic_messages" / "an_image"
    folder.mkdir(parents=True)
    parts = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    (folder / "request.json").write_text(json.dumps({"messages": [{"role": "user", "content": parts}]}))
    (folder / "response.json").write_text(json.dumps({"choices": [{"message": {"content": "x"}}]}))
    (folder / "expect.json").write_text(json.dumps({"usage": {"input_tokens": 1}}))
    row = row_of(page(tmp_path), "anthropic_vertex")
    assert row["images"] == "[yes](../tests/golden/anthropic_messages/an_image/)"
    assert row["documents"] == row["tools"] == row["streaming"] == "no"
    assert row_of(page(tmp_path), "gemini")["images"] == "no"


def test_a_vendors_own_transcript_comes_before_the_wires() -> None:
    row = row_of(page(GOLDENS), "deepseek")
    assert row["reasoning"] == "[passes](../tests/golden/openai_chat/deepseek_reasoning_streamed/)"
    assert row["images"] == "[may pass](../tests/golden/openai_chat/media/)"


def test_what_a_row_refuses_is_not_claimed() -> None:
    assert row_of(page(), "cohere")["`dimensions`"] == "no"
    assert row_of(page(), "mistral")["`dimensions`"].startswith("[passes]")


@pytest.mark.parametrize("text", [None, "stale"])
def test_the_check_fails_until_the_page_is_written(
    tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "providers.md"
    if text is not None:
        file.write_text(text)
    assert main(["--check"], file) == 1
    assert "providers.md" in capsys.readouterr().err
    assert main([], file) == 0
    assert main(["--check"], file) == 0
