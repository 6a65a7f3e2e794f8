"""A provider whose bills are random, within what it was told is the most."""

from random import Random
from typing import Any

from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, Recorded, chat
from tests.fakes.openai_wire import Scenario

INPUT_USD, OUTPUT_USD = "2", "8"
"""Per million tokens."""


class RandomBiller(OpenAIUpstream):
    """Answers any chat after 0 to `slowest_s` seconds with 0 to `max_tokens` tokens, and says so in the usage."""

    def __init__(self, seed: int, slowest_s: float = 0.6) -> None:
        super().__init__()
        self._random = Random(seed)  # noqa: S311 - a run is to be repeatable, not secret
        self._slowest_s = slowest_s

    def choose(self, request: Recorded) -> Scenario:
        self.requests.append(request)
        body: dict[str, Any] = request.json
        most = body.get("max_completion_tokens") or body.get("max_tokens")
        assert isinstance(most, int), "under a hard budget the provider is always told a maximum"
        # A prompt of one byte a token at the very most; words are fewer.
        prompt = self._random.randrange(1, len(body["messages"][0]["content"]))
        answer = self._random.randrange(most + 1)
        counts = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        delay_s = self._random.random() * self._slowest_s
        if body.get("stream"):
            return ChatStream(counts=counts, delay_s=delay_s / 2, pause_s=delay_s / 10)
        return chat(request=body, usage=counts, delay_s=delay_s)
