"""The library's examples in the README and in docs/library.md, run as they stand, against a provider of the test's own."""

import asyncio
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from llm_gateway import Gateway
from tests.fakes.openai_upstream import OpenAIUpstream

ROOT = Path(__file__).resolve().parents[2]
ALIAS = '[models.fast]\ndeployments = [{ provider = "openai", model = "m" }]\n'
HELLO = [{"role": "user", "content": "Hello"}]


def blocks(file: str, words: str) -> list[str]:
    """The Python blocks of a page that hold `words`."""
    found = re.findall(r"```python\n(.*?)```", (ROOT / file).read_text(encoding="utf-8"), re.DOTALL)
    return [block for block in found if words in block]


def test_the_readmes_example(bare_environ: dict[str, str], tmp_path: Path) -> None:
    (example,) = blocks("README.md", "from llm_gateway import Gateway")
    script = tmp_path / "example.py"
    script.write_text(example, encoding="utf-8")
    with OpenAIUpstream() as upstream:
        upstream.require_key("sk-example")
        environ = {**bare_environ, "OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "sk-example"}
        command = [sys.executable, "-W", "error", str(script)]
        done = subprocess.run(
            command, check=False, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told: list[str] = []
    prices: list[str] = []
    for line in done.stdout.splitlines():
        (told if line.startswith(("start", "stop")) else prices).append(line)
    assert [line.split()[0] for line in told] == ["start", "stop", "start"], "the last stop comes in the stream's line"
    assert prices[0] == "Hello from the provider. 4 0.0000072"
    assert prices[-1] == "0.0000072", "streamed and buffered cost the same"
    assert [sent.json["model"] for sent in upstream.requests] == ["gpt-4.1-mini"] * 2


def test_the_clients_example(bare_environ: dict[str, str], tmp_path: Path) -> None:
    (example,) = blocks("docs/library.md", "LLMGatewayClient")
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    (tmp_path / "gateway.toml").write_text(ALIAS, encoding="utf-8")
    with OpenAIUpstream() as upstream:
        environ = {**bare_environ, "OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "k"}
        command = [sys.executable, "-X", "dev", "-W", "error", "example.py"]
        done = subprocess.run(
            command, check=False, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Hello from the provider. stop 4 None\n"
    assert [message["role"] for message in upstream.requests[1].json["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]


@pytest.mark.parametrize("at", range(4))
async def test_the_pages_examples(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = blocks("docs/library.md", "await gateway")
    assert len(examples) == 4
    (tmp_path / "gateway.toml").write_text(ALIAS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with OpenAIUpstream() as upstream:
        for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
            monkeypatch.setitem(os.environ, name, upstream.base_url if name.endswith("URL") else "k")
        code = examples[at].replace("https://my-resource.openai.azure.com", upstream.base_url.removesuffix("/v1"))
        async with Gateway() as gateway:
            names: dict[str, Any] = {"Gateway": Gateway, "gateway": gateway, "messages": HELLO, "key": "k"}
            exec("async def example():\n" + textwrap.indent(code, "    ") + "    return locals()", names)  # noqa: S102 - our page
            made = await asyncio.wait_for(names["example"](), 20)
        if "answer" in made:
            assert made["answer"].content in {"Hello from the provider.", "42"}
        assert len(upstream.requests) == (0 if "Oracle" in code else 1)
