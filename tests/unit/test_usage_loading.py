"""What answers questions of usage is loaded by the first of them, and by no gateway that is never asked.

Nor does a gateway load what changes a configuration, what keeps conversations, or its page for people.
"""

import subprocess
import sys

LATE = (
    "usage_readings",
    "usage_queries",
    "usage_question",
    "dynamodb_totals",
    "dynamodb_requests",
    "totals",
    "listing",
    "csv",
    "audit",
    "registry_commit",
    "registry_edits",
    "registry_garbage",
    "chat_turn",
    "conversation",
    "conversations",
    "dynamodb_conversations",
    "front_page_answer",
)


def test_a_gateway_that_is_not_asked_loads_none_of_it() -> None:
    code = (
        "import sys; from llm_gateway.bootstrap import build_app; from llm_gateway.settings import Settings;"
        "from llm_gateway.upstream.credentials import AwsCredentials;"
        "build_app(Settings(), aws_credentials=AwsCredentials('a', 'b'));"
        f"print([m for m in sys.modules if m.startswith('llm_gateway') and m.split('.')[-1] in {LATE!r}])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "[]\n"
