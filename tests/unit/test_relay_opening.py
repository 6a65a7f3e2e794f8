"""Specifies what a stream must bring before anything of it goes out, and what is made of answers that are no streams."""

import asyncio
from collections.abc import Sequence

import pytest

from llm_gateway.dialects.dialect import Framing
from llm_gateway.dialects.loading import Dialects
from llm_gateway.domain.catalog import Dialect, Timeouts
from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamMalformed, UpstreamTimeout
from llm_gateway.pipeline import relay as relays
from llm_gateway.pipeline.relay import NotAStream, StreamRelay
from llm_gateway.schemas.openai_chat import read_chat_request
from llm_gateway.upstream.framings import FRAMINGS
from tests.fakes.bedrock_upstream import message
from tests.fakes.scripted_response import Coming, ScriptedResponse
from tests.fakes.virtual_time import in_virtual_time, virtual_clock

REQUEST = read_chat_request(b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}')
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
WORD = b'data: {"choices":[{"index":0,"delta":{"content":"word"}}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
PAGE = b"<!DOCTYPE html>\n\n<html><body><h1>502 Bad Gateway</h1></body></html>\n"
ERROR = b'{"error": {"message": "overloaded", "type": "server_error", "code": null}}'


def relay_of(
    response: ScriptedResponse,
    dialect: Dialect = "openai_chat",
    framing: Framing = "sse",
    timeouts: Timeouts | None = None,
) -> StreamRelay:
    clock = virtual_clock()
    splitter, split_events = FRAMINGS[framing]
    translator = Dialects()[dialect].translator(REQUEST, "m", split_events)
    timeouts = timeouts or Timeouts(first_token_s=10, idle_s=30)
    until = clock.now() + timeouts.total_s
    return StreamRelay(response, translator, splitter(), timeouts, began=clock.now(), total_until=until, clock=clock)


def script(*pieces: Coming, seconds: float = 1.0) -> ScriptedResponse:
    return ScriptedResponse([(at * seconds, piece) for at, piece in enumerate(pieces)])


async def rest_of(relay: StreamRelay) -> list[bytes]:
    return [block async for block in relay.stream()]


class TestHeldUntilContent:
    @in_virtual_time
    async def test_what_came_before_content_goes_out_with_it(self) -> None:
        relay = relay_of(script(b": hello\n\n", ROLE, WORD, FINISH + DONE))
        await relay.open()
        assert await rest_of(relay) == [b": hello\n\n" + ROLE + WORD, FINISH, DONE]

    @pytest.mark.parametrize("torn", [1, 3, 20])
    @in_virtual_time
    async def test_however_it_is_torn(self, torn: int) -> None:
        whole = b"\n" + ROLE + WORD + FINISH + DONE
        pieces = [whole[at : at + torn] for at in range(0, len(whole), torn)]
        relay = relay_of(script(*pieces, None, seconds=0.001))
        await relay.open()
        assert b"".join(await rest_of(relay)).endswith(ROLE + WORD + FINISH + DONE)


class TestHeldToItsEnd:
    @in_virtual_time
    async def test_it_comes_in_one_piece(self) -> None:
        relay = relay_of(script(ROLE, WORD, WORD, FINISH, DONE))
        await relay.open(whole=True)
        loop = asyncio.get_running_loop()
        assert relay.first_content_at == loop.time() - 3
        assert await rest_of(relay) == [ROLE + WORD + WORD + FINISH + DONE]

    @pytest.mark.parametrize(
        ("failure", "kind"),
        [
            ((None,), UpstreamCut),
            ((UpstreamCut("cut"),), UpstreamCut),
            ((), UpstreamTimeout),
            ((b"data: {oops}\n\n", WORD), UpstreamMalformed),
            ((b'data: {"error":{"message":"x"}}\n\n',), UpstreamError),
        ],
        ids=["end", "cut", "silence", "no JSON", "error"],
    )
    @in_virtual_time
    async def test_whatever_fails_fails_before_anything_is_out(
        self, failure: Sequence[Coming], kind: type[UpstreamError]
    ) -> None:
        response = script(ROLE, WORD, WORD, *failure)
        relay = relay_of(response)
        with pytest.raises(kind):
            await relay.open(whole=True)
        await relay.close()
        assert response.closed

    @in_virtual_time
    async def test_what_nobody_could_hold_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(relays, "LONGEST_HELD", 10 * len(WORD))
        relay = relay_of(script(*[WORD] * 11, FINISH, DONE))
        with pytest.raises(UpstreamMalformed, match="longer than"):
            await relay.open(whole=True)
        await relay.close()


class TestWhatIsNoStream:
    @pytest.mark.parametrize(
        "body",
        [PAGE, ERROR, b"[1]", b"null", b'"no"', b"\r\n \r\n" + ERROR],
        ids=["page", "error", "list", "null", "text", "blank"],
    )
    @pytest.mark.parametrize("torn", [1, 7, 1000])
    @in_virtual_time
    async def test_a_body_is_handed_over_whole(self, body: bytes, torn: int) -> None:
        pieces = [body[at : at + torn] for at in range(0, len(body), torn)]
        relay = relay_of(script(*pieces, None, seconds=0.01))
        with pytest.raises(NotAStream) as caught:
            await relay.open()
        assert caught.value.body.strip() == body.strip()
        assert (caught.value.http_status, caught.value.error_code) == (502, "upstream_malformed")

    @in_virtual_time
    async def test_one_that_does_not_end_is_late(self) -> None:
        relay = relay_of(script(*[b"<p>" for _ in range(30)]))
        with pytest.raises(UpstreamTimeout, match="no content within 10 s"):
            await relay.open()
        await relay.close()

    @in_virtual_time
    async def test_an_endless_one_is_read_so_far_and_no_farther(self) -> None:
        relay = relay_of(script(*[b"<" + b"x" * 100_000] * 30, seconds=0.001))
        with pytest.raises(NotAStream) as caught:
            await relay.open()
        assert 1 << 20 <= len(caught.value.body) < 1.2 * (1 << 20)

    @in_virtual_time
    async def test_an_empty_body_is_a_cut(self) -> None:
        relay = relay_of(script(None))
        with pytest.raises(UpstreamCut):
            await relay.open()


class TestAwsEventStream:
    """The same with a framing that has checksums."""

    START = message("messageStart", {"role": "assistant"})
    TEXT = message("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "word"}})
    STOP = message("messageStop", {"stopReason": "end_turn"})
    COUNTS = message("metadata", {"usage": {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8}})

    def relay(self, response: ScriptedResponse) -> StreamRelay:
        return relay_of(response, "bedrock_converse", "aws_event_stream")

    @in_virtual_time
    async def test_a_whole_one(self) -> None:
        relay = self.relay(script(self.START, self.TEXT, self.STOP, self.COUNTS, None))
        await relay.open()
        assert (await rest_of(relay))[-1].endswith(DONE)

    @in_virtual_time
    async def test_a_wrong_checksum_before_the_end_is_no_success(self) -> None:
        wrong = self.TEXT[:-1] + bytes([self.TEXT[-1] ^ 1])
        relay = self.relay(script(self.START + self.TEXT + self.TEXT + wrong, self.STOP, self.COUNTS, None))
        await relay.open()
        stream = relay.stream()
        assert (await anext(stream)).count(b"word") == 2
        with pytest.raises(UpstreamMalformed, match="checksum"):
            await anext(stream)
        await relay.close()

    @in_virtual_time
    async def test_a_wrong_checksum_behind_the_answer_costs_the_counts_alone(self) -> None:
        wrong = self.COUNTS[:-1] + bytes([self.COUNTS[-1] ^ 1])
        relay = self.relay(script(self.START, self.TEXT, self.STOP, wrong, None))
        await relay.open()
        assert (await rest_of(relay))[-1].endswith(DONE)

    @in_virtual_time
    async def test_a_whole_answer_that_is_left_open(self) -> None:
        relay = self.relay(script(self.START, self.TEXT, self.STOP))
        await relay.open()
        began = asyncio.get_running_loop().time()
        assert (await rest_of(relay))[-1].endswith(DONE)
        assert asyncio.get_running_loop().time() - began == pytest.approx(3.0)
