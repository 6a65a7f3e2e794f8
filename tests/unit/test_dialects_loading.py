"""The dialects are there by name, and imported only when they are needed."""

import subprocess
import sys
from typing import get_args

from llm_gateway.dialects.loading import Dialects
from llm_gateway.domain.catalog import Dialect


def test_every_dialect_that_a_provider_may_name_is_there_once() -> None:
    dialects = Dialects()
    assert set(dialects) == set(get_args(Dialect))
    for name in dialects:
        assert dialects[name].name == name
        assert dialects[name] is dialects[name]
    assert "smoke_signals" not in dialects


def test_starting_up_imports_the_passthrough_alone() -> None:
    code = (
        "import sys, llm_gateway.bootstrap;"
        "print([m for m in sys.modules if m.split('.')[-1].startswith(('anthropic', 'gemini', 'bedrock', 'boto3', 'cryptography'))])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "[]\n"
