"""Specifies whom the upstream client trusts: a certificate of a known authority for the very address it called."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from llm_gateway.errors import UpstreamUnreachable
from llm_gateway.upstream.client import UpstreamClient, open_client
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, Reply, chat
from tests.integration import upstream_calls
from tests.integration.upstream_calls import read_all, request_for

client, up, provider = upstream_calls.client, upstream_calls.up, upstream_calls.provider


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[ssl.SSLContext, ssl.SSLContext]]:
    """Makes a server's and a client's context: a self-signed certificate for one address, and who trusts it."""

    def make(address: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        folder: Path = tmp_path_factory.mktemp("tls")
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
        now = dt.datetime.now(dt.UTC)
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(alternative, critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
        plain = serialization.NoEncryption()
        (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        return server, ssl.create_default_context(cafile=str(folder / "cert.pem"))

    return make


Contexts = Callable[[str], tuple[ssl.SSLContext, ssl.SSLContext]]


class TestTls:
    async def test_a_trusted_certificate(self, authority: Contexts) -> None:
        server, trusting = authority("127.0.0.1")
        with OpenAIUpstream(tls=server) as up:
            client = open_client(tls=trusting)
            up.script("m", chat("Hi"), ChatStream(text="a b", tear=3), Reply(b"x" * 3_000_000))
            assert b"Hi" in await read_all(client, request_for(up))
            assert (await read_all(client, request_for(up, stream=True))).endswith(b"[DONE]\n\n")
            assert len(await read_all(client, request_for(up))) == 3_000_000
            assert up.connections == 1
            up.queue(ChatStream(gate_after=1))
            response = await client.send(request_for(up, stream=True))
            await anext(response.chunks())
            await response.close()
            assert await asyncio.to_thread(up.last().wait_left)
            await client.close()

    @pytest.mark.parametrize(("address", "trusted"), [("127.0.0.1", False), ("127.0.0.2", True)])
    async def test_any_other_is_refused(self, authority: Contexts, address: str, trusted: bool) -> None:
        server, trusting = authority(address)
        with OpenAIUpstream(tls=server) as up:
            client = open_client(tls=trusting if trusted else None)
            with pytest.raises(UpstreamUnreachable, match="certificate is not trusted"):
                await client.send(request_for(up))
            assert up.requests == []
            await client.close()

    async def test_plain_http_at_an_https_url(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        with pytest.raises(UpstreamUnreachable, match="TLS failed"):
            await client.send(request_for(up.base_url.replace("http:", "https:")))
