"""What importing the library brings along, and what it costs; in processes of its own."""

import json
import subprocess
import sys

import pytest

from tests.bench.library_import import BASELINE, LIBRARY, cpu_ms

FOREIGN = [
    "fastapi",
    "starlette",
    "boto3",
    "botocore",
    "aws_lambda_powertools",
    "httpx",
    "mangum",
    "openai",
    "pydantic",
]
USED = """
import asyncio
from llm_gateway import Gateway
async def main():
    async with Gateway() as gateway:
        messages = [{"role": "user", "content": "Hello"}]
        assert (await gateway.chat_completion("t", messages, provider="echo", model="x")).content
        async for _ in await gateway.chat_completion("t", messages, model="echo:x", stream=True):
            pass
        assert (await gateway.embeddings("t", "Hello", model="echo:x")).vectors
asyncio.run(main())
"""


CLIENT = """
from llm_gateway import InterventionContext, LLMConfig, LLMGatewayClient, LLMRequest, ProviderFactory
with LLMGatewayClient(None, ProviderFactory()) as client:
    request = LLMRequest("Hello", LLMConfig(model_identifier="echo:x"), InterventionContext(session_id="s"))
    assert client.generate_sync(request).generated_content
"""


@pytest.mark.parametrize("code", [LIBRARY, USED, CLIENT], ids=["imported", "used", "client"])
def test_neither_aws_nor_a_framework_is_imported(code: str, bare_environ: dict[str, str]) -> None:
    script = f"{code}\nimport json, sys\nprint(json.dumps([name for name in {FOREIGN!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], env=bare_environ, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == []


def test_the_package_itself_imports_nothing(bare_environ: dict[str, str]) -> None:
    script = (
        "import sys; import typing; before = set(sys.modules); import llm_gateway;"
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", script], env=bare_environ, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "['llm_gateway']"


def test_importing_it_costs_at_most_twice_pydantic_and_the_client() -> None:
    assert min(cpu_ms(LIBRARY, 5)) <= 2 * min(cpu_ms(BASELINE, 5))
