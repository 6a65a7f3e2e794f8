"""The Bedrock runtime on loopback: `OpenAIUpstream`'s server with Bedrock's paths, framing and signatures.

    with BedrockUpstream() as up:
        up.script("amazon.nova-lite-v1:0", Reply(ANSWER), exception(429, "ThrottlingException", "Too many requests"))
        up.script("eu.anthropic.claude", MessageStream([("messageStart", {"role": "assistant"}), …]))

Every request must be signed (checked with botocore's own `SigV4Auth`) by `ACCESS_KEY`/`SECRET_KEY`, or carry `BEARER`.
Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote
from zlib import crc32

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.fakes.openai_upstream import OpenAIUpstream, Recorded, Reply, Stream
from tests.fakes.openai_wire import Scenario

ACCESS_KEY, SECRET_KEY, SESSION_TOKEN, BEARER = "ASIAFAKE", "made/up+secret", "made//up+token==", "bedrock-api-key-fake"
ACTIONS = {"converse", "converse-stream", "invoke"}
Kind = Literal["event", "exception", "error"]


def message(name: str, payload: Mapping[str, Any] | bytes, kind: Kind = "event") -> bytes:
    """One event-stream message as Bedrock frames it: headers of strings, the payload, both checksums."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload, separators=(",", ":")).encode()
    type_header = {"event": ":event-type", "exception": ":exception-type", "error": ":error-code"}[kind]
    headers = {type_header: name, ":content-type": "application/json", ":message-type": kind}
    return frame(b"".join(string_header(key, value) for key, value in headers.items()), body)


def string_header(name: str, value: str) -> bytes:
    return struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value.encode())) + value.encode()


def frame(headers: bytes, payload: bytes) -> bytes:
    prelude = struct.pack("!II", len(headers) + len(payload) + 16, len(headers))
    whole = prelude + struct.pack("!I", crc32(prelude)) + headers + payload
    return whole + struct.pack("!I", crc32(whole))


def messages(events: Iterable[tuple[str, Mapping[str, Any]]]) -> list[bytes]:
    """Events by name; one that ends with `Exception` is framed as an exception."""
    return [message(name, payload, "exception" if name.endswith("Exception") else "event") for name, payload in events]


@dataclass
class MessageStream(Stream):
    """`events` are encoded messages (`messages([...])`)."""

    content_type: str = "application/vnd.amazon.eventstream"

    def blocks(self, request: Mapping[str, Any]) -> Iterator[bytes]:
        for event in self.events:
            assert isinstance(event, bytes)
            yield event


def exception(status: int, kind: str, text: str, headers: Mapping[str, str] | None = None) -> Reply:
    """An error as AWS sends it over HTTP."""
    address = f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/"
    return Reply({"message": text}, status=status, headers={"x-amzn-ErrorType": address, **(headers or {})})


class BedrockUpstream(OpenAIUpstream):
    """Scenarios are by model id, which stands in the path. `signed_in` is the Region that signatures must name."""

    def __init__(self, signed_in: str = "us-east-1") -> None:
        super().__init__()
        self._region = signed_in

    @property
    def base_url(self) -> str:
        return super().base_url.removesuffix("/v1")

    def choose(self, request: Recorded) -> Scenario:
        with self._lock:
            self.requests.append(request)
            parts = request.path.split("/")
            if request.method != "POST" or len(parts) != 4 or parts[1] != "model" or parts[3] not in ACTIONS:
                return exception(404, "UnknownOperationException", f"No such operation: {request.path}")
            if refusal := self._refusal(request):
                return refusal
            script = self._scripts.get(unquote(parts[2]))
            if not script:
                return exception(400, "ValidationException", "The provided model identifier is invalid.")
            return script.popleft() if len(script) > 1 else script[0]

    def _refusal(self, request: Recorded) -> Reply | None:
        given = request.headers.get("authorization", "")
        if given == f"Bearer {BEARER}":
            return None
        if not given.startswith("AWS4-HMAC-SHA256 "):
            return exception(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
        if request.headers.get("x-amz-security-token") != SESSION_TOKEN:
            return exception(
                403, "UnrecognizedClientException", "The security token included in the request is invalid."
            )
        return (
            None
            if signature_of(request, self._region) in given
            else exception(
                403,
                "InvalidSignatureException",
                "The request signature we calculated does not match the one you provided.",
            )
        )


def signature_of(request: Recorded, region: str) -> str:
    """`Credential=…, SignedHeaders=…, Signature=…` as botocore makes it for what came."""
    given = dict(part.split("=", 1) for part in request.headers["authorization"].partition(" ")[2].split(", "))
    names = given["SignedHeaders"].split(";")
    url = f"http://{request.headers['host']}{request.target}"
    headers = {name: request.headers[name] for name in names if name != "host"}
    received = AWSRequest(method=request.method, url=url, headers=headers, data=request.body)
    received.context["timestamp"] = request.headers["x-amz-date"]
    auth = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY, SESSION_TOKEN), "bedrock", region)
    signature = auth.signature(auth.string_to_sign(received, auth.canonical_request(received)), received)
    assert {"host", "x-amz-date", "x-amz-security-token"} <= set(names)
    return f"Credential={auth.scope(received)}, SignedHeaders={';'.join(names)}, Signature={signature}"
