"""Writes docs/providers.md, provider by feature, from the catalog and the golden transcripts.

    python scripts/generate_providers_page.py            # writes the page
    python scripts/generate_providers_page.py --check    # exits 1 when the page is not what they give

A feature is claimed only where a golden shows it: what a caller asked for, and what came of it, is read from the files.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_gateway.catalog import capabilities
from llm_gateway.catalog.providers import ProviderRow, provider_rows

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "providers.md"
GOLDENS = ROOT / "tests" / "golden"
CAPABILITIES = Path(capabilities.__file__).with_name("capabilities")
UNLISTED = {"echo"}
"""The built-in provider is nobody's."""

PROSE = """\
<!-- Written by scripts/generate_providers_page.py from the catalog and the goldens: `make check` compares. -->
# Providers

Callers speak Chat Completions and embeddings, whoever answers. The first table says what a provider needs to be
called, the second what reaches it, the third how vendors differ from OpenAI.

## How each is reached

The secret is `<stack>/provider/<name>` in Secrets Manager; locally it is seeded from the first of the variables that is
set. A base URL in `gateway.toml` wins over the variable, which wins over the one shown. `{region}` is `AWS_REGION`.

"""

FEATURES_PROSE = """
## What reaches them

- **yes**: translated into the provider's own wire and back, as the linked golden transcript shows.
- **passes**: the provider speaks this wire, so the bytes go through unread, as the linked transcript shows (one of this
  vendor where there is one). Whether a model takes it is for the vendor to say: its error comes back with its status,
  code and words.
- **may pass**: the bytes go through as well, but the transcript is OpenAI's: not every compatible vendor offers this,
  and one that does not says so itself.
- **no**: no transcript shows it. What a provider cannot take is refused with a 400, or left out with an
  `x-gateway-warning`.

"""

QUIRKS_PROSE = """
## Quirks

Where a compatible vendor's documentation lacks a member of OpenAI's request, the gateway does one of three things, and
is never silently wrong:

1. **Renamed**: it is there under another name (`max_completion_tokens` as `max_tokens`). The value is not touched.
   Where a request has both, OpenAI's name counts, and the other is left out, with a warning if it says otherwise.
2. **Left out**, and told in `x-gateway-warning`: the answer is as good without it (`store`), or nearly (`seed`).
3. **Refused** with a 400 and the member's name as `param`: without it the answer would be another (`logprobs`, `n`,
   `logit_bias`).

A member that asks for what happens anyway (`n: 1`, `logprobs: false`, a penalty of 0, null) is left out without a word.
Vendors whose messages are closed too (those with something left out of messages) also get none of the nulls that a
client's model leaves in an assistant's message (`refusal`, `audio`, `function_call`), so that an answer can be sent
back as it came; `user.name` is a member of users' messages alone.

What a vendor refuses in its own clear words is no quirk: its error passes. An operator adds to a row's quirks in
[`gateway.toml`](configuration.md).

"""

MODELS_PROSE = """
## What a model is known not to take

Refused with a 400 before the provider would, since its documentation says so. Nothing is refused of a model that is not
listed, however little is known of it: the provider judges. Compatible vendors' models are never refused here.

"""


@dataclass(frozen=True, slots=True)
class Golden:
    """One transcript, as far as it shows a feature."""

    folder: str
    provider: str | None
    request: Mapping[str, Any]
    answer: Mapping[str, Any]
    streamed: bool
    usage: Mapping[str, int] | None
    warnings: tuple[str, ...]

    def parts(self, kind: str) -> bool:
        contents = [message.get("content") for message in self.request.get("messages", ())]
        lists = [content for content in contents if isinstance(content, list)]
        return any(isinstance(part, dict) and part.get("type") == kind for parts in lists for part in parts)

    def asks(self, member: str) -> bool:
        return bool(self.request.get(member)) and not any(each.startswith(member) for each in self.warnings)

    def counted(self, *names: str) -> bool:
        return any((self.usage or {}).get(name) for name in names)


@dataclass(frozen=True, slots=True)
class Feature:
    """`shown`: whether a golden shows it. `member`: what a quirk would have to name to take it away.

    `hint` is in the name of a transcript that is about it, which is then the one to link.
    """

    title: str
    hint: str
    member: str
    shown: Callable[[Golden], bool]


def _has_schema(golden: Golden) -> bool:
    wanted = golden.request.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") == "json_schema" and golden.asks("response_format")


CHAT = (
    Feature("streaming", "/plain_streamed", "stream", lambda golden: golden.streamed),
    Feature("tools", "tools", "tools", lambda golden: golden.asks("tools") and golden.answer["calls"] > 0),
    Feature("parallel tools", "parallel", "tools", lambda golden: golden.asks("tools") and golden.answer["calls"] > 1),
    Feature("images", "image", "", lambda golden: golden.parts("image_url")),
    Feature("documents", "document", "", lambda golden: golden.parts("file")),
    Feature("audio", "media", "", lambda golden: golden.parts("input_audio")),
    Feature("JSON schema", "json_schema", "response_format", _has_schema),
    Feature("reasoning", "reasoning", "reasoning_effort", lambda golden: golden.answer["reasoning"]),
    Feature("prompt cache", "cache", "", lambda golden: golden.counted("cached_tokens", "cache_write_tokens")),
    Feature("usage in streams", "/usage", "", lambda golden: golden.streamed and golden.usage is not None),
)
OF_THE_WIRE = {"streaming", "tools", "parallel tools", "usage in streams"}
"""What a vendor has that speaks Chat Completions at all."""
EMBEDDINGS = (
    Feature("embeddings", "", "input", lambda golden: "input" in golden.request),
    Feature("`base64`", "", "encoding_format", lambda golden: golden.request.get("encoding_format") == "base64"),
    Feature("`dimensions`", "", "dimensions", lambda golden: golden.asks("dimensions")),
    Feature("batches", "", "", lambda golden: isinstance(golden.request.get("input"), list)),
)


def read_goldens(folder: Path) -> Iterator[Golden]:
    """The transcripts of one wire that came to an answer. Empty where there is no such folder."""
    for scenario in sorted(folder.iterdir()) if folder.is_dir() else ():
        answers = [scenario / name for name in ("response.sse", "response.json", "upstream_response.json")]
        found = next((path for path in answers if path.is_file()), None)
        if found is None or not (scenario / "request.json").is_file() or not (scenario / "expect.json").is_file():
            continue
        expect = json.loads((scenario / "expect.json").read_bytes())
        yield Golden(
            f"../tests/golden/{folder.name}/{scenario.name}/",
            expect.get("provider"),
            json.loads((scenario / "request.json").read_bytes()),
            _answer(found),
            found.suffix == ".sse",
            expect.get("usage"),
            tuple(expect.get("warnings", ())),
        )


def _answer(path: Path) -> dict[str, Any]:
    """`calls`: how many tools were called; `reasoning`: whether thoughts came back."""
    if path.suffix == ".sse":
        # Not splitlines: a chunk's text may hold U+2028.
        events = [line[6:] for line in path.read_text().split("\n") if line.startswith("data: {")]
        said = [choice.get("delta", {}) for event in events for choice in json.loads(event).get("choices") or ()]
    else:
        said = [choice.get("message", {}) for choice in json.loads(path.read_bytes()).get("choices") or ()]
    told = "index" if path.suffix == ".sse" else "id"
    calls = {call.get(told) for each in said for call in each.get("tool_calls") or ()}
    thoughts = any(each.get("reasoning_content") or each.get("reasoning") for each in said)
    return {"calls": len(calls), "reasoning": thoughts}


def page(goldens: Path = GOLDENS) -> str:
    """The whole page."""
    rows = [row for row in provider_rows().values() if row.name not in UNLISTED]
    parts = [PROSE, *_table(REACHED_HEAD, map(_reached, rows)), FEATURES_PROSE]
    parts += _table(["provider", *(feature.title for feature in (*CHAT, *EMBEDDINGS))], _features(rows, goldens))
    parts += [QUIRKS_PROSE, *_table(QUIRKS_HEAD, filter(None, map(_quirks, rows)))]
    parts += [MODELS_PROSE, *_table(["wire", "models", "takes no"], _unfit(CAPABILITIES))]
    return "".join(parts)


def _table(head: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cells)} |\n"


REACHED_HEAD = ["provider", "", "dialect", "credential", "secret", "key from (locally)", "base URL"]


def _reached(row: ProviderRow) -> list[str]:
    credential = f"header `{row.credential_header}`" if row.credential_header else row.credential
    secret = "none" if row.credential == "none" else f"`{row.secret or row.name}`"
    if row.credential == "sigv4":
        credential, secret = "sigv4, or a Bedrock API key", secret + " (optional)"
    urls = [f"`{row.base_url}`" if row.base_url else "you give it"]
    if row.base_url_env:
        urls.append(_code(row.base_url_env))
    if row.api_version_env:
        urls.append(f"version: {_code(row.api_version_env)}")
    name = f"[{row.display_name}]({row.docs})"
    return [f"`{row.name}`", name, f"`{row.dialect}`", credential, secret, _code(row.api_key_env), "; ".join(urls)]


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _features(rows: Iterable[ProviderRow], goldens: Path) -> Iterator[list[str]]:
    embeddings = list(read_goldens(goldens / "embeddings"))
    dialect_of = {name: row.dialect for name, row in provider_rows().items()}
    for row in rows:
        chats = list(read_goldens(goldens / row.dialect))
        vectors = [golden for golden in embeddings if dialect_of.get(golden.provider or "") == row.dialect]
        cells = [_cell(row, feature, chats) for feature in CHAT]
        yield [f"`{row.name}`", *cells, *(_cell(row, feature, vectors) for feature in EMBEDDINGS)]


def _cell(row: ProviderRow, feature: Feature, goldens: Iterable[Golden]) -> str:
    """A transcript of this vendor, else of the wire; one that is about the feature before one that merely has it."""
    if feature.member in (*row.quirks.refuse, *row.quirks.drop):
        return "no"
    best = min(
        (each for each in goldens if feature.shown(each) and each.provider in (row.name, None, "openai")),
        key=lambda each: (each.provider != row.name, feature.hint not in each.folder, len(each.folder), each.folder),
        default=None,
    )
    if best is None:
        return "no"
    if row.dialect != "openai_chat":
        return f"[yes]({best.folder})"
    shown = row.name in ("openai", best.provider) or feature.title in OF_THE_WIRE
    return f"[{'passes' if shown else 'may pass'}]({best.folder})"


QUIRKS_HEAD = ["provider", "renamed", "left out, with a warning", "refused", "more"]


def _quirks(row: ProviderRow) -> list[str] | None:
    quirks = row.quirks
    if row.dialect != "openai_chat":
        return None
    more = []
    if not quirks.developer_role:
        more.append("`developer` goes as `system`")
    if quirks.drop_from_messages:
        more.append(f"left out of messages: {_code(quirks.drop_from_messages)}")
    if quirks.tool_call_ids:
        more.append("ids of tool calls from elsewhere go as nine letters and digits")
    if quirks.stream_usage == "always":
        more.append("usage in streams comes unasked")
    if row.base_url_style == "azure":
        more.append("a dated API version means deployments in the path; before 2024-09 no usage in streams")
    if quirks.tells_cost:
        more.append("its `usage.cost` is what is billed")
    if row.headers:
        more.append(f"sends {_code(row.headers)}")
    renamed = ", ".join(f"`{name}` as `{new}`" for name, new in quirks.rename.items()) or "none"
    if not (more or quirks.rename or quirks.drop or quirks.refuse):
        return None
    return [f"`{row.name}`", renamed, _code(quirks.drop), _code(quirks.refuse), "; ".join(more) or "none"]


def _unfit(folder: Path) -> Iterator[list[str]]:
    for path in sorted(folder.glob("*.toml")):
        for model in tomllib.loads(path.read_text())["models"]:
            if "takes_no" in model:
                yield [path.stem, _code(model["match"]), ", ".join(model["takes_no"])]


def main(arguments: list[str] | None = None, file: Path = PAGE) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="only compare, and exit 1 where the page differs")
    wanted = page()
    if parser.parse_args(arguments).check:
        if file.is_file() and file.read_text() == wanted:
            return 0
        print(f"{file.name} is not what the catalog and the goldens give: run {Path(__file__).name}", file=sys.stderr)
        return 1
    file.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
