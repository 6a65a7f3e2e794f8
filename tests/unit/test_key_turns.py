"""Specifies for how long a refused key is passed over."""

import pytest

from llm_gateway.errors import UpstreamRejected, UpstreamUnavailable
from llm_gateway.pipeline.key_turns import reset_s, rest_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6m0s", 360), ("1s", 1), ("12ms", 0.012), ("1h2m3.5s", 3723.5), ("7.66s", 7.66), ("7", 7), ("2m", 120)],
)
def test_durations_of_reset_headers(text: str, seconds: float) -> None:
    assert reset_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "-1s", "1s2m", "²", "2026-01-01T00:00:00Z"])
def test_what_is_no_duration(text: str) -> None:
    assert reset_s(text) is None


RESETS = {
    "x-ratelimit-remaining-requests": "17",
    "x-ratelimit-reset-requests": "6m0s",
    "x-ratelimit-remaining-tokens": "0",
    "x-ratelimit-reset-tokens": "21s",
}


def test_a_rate_limit_lasts_as_long_as_the_provider_says() -> None:
    assert rest_s(UpstreamRejected("", status=429, retry_after=20), RESETS) == 20
    assert rest_s(UpstreamRejected("", status=429, retry_after=0), RESETS) == 0
    assert rest_s(UpstreamRejected("", status=429), RESETS) == 21, "only the limit that is used up counts"
    assert rest_s(UpstreamRejected("", status=429), {}) == 10
    assert rest_s(UpstreamRejected("", status=429, retry_after=1e9), {}) == 3600


def test_no_credit_is_not_mended_by_waiting() -> None:
    assert rest_s(UpstreamRejected("", status=402), {}) == 300
    assert rest_s(UpstreamRejected("", status=429, code="insufficient_quota", retry_after=1), {}) == 300
    assert rest_s(UpstreamRejected("", status=429, type="insufficient_quota"), RESETS) == 300


@pytest.mark.parametrize("status", [400, 403, 404, 413])
def test_what_is_not_the_keys_fault(status: int) -> None:
    assert rest_s(UpstreamRejected("", status=status), RESETS) is None
    assert rest_s(UpstreamUnavailable("", retry_after=5), RESETS) is None
