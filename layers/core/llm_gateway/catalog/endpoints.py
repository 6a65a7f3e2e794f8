"""Base URLs: what may be one, and how the forms people are used to become the one the gateway needs."""

from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

BaseUrlStyle = Literal["as_given", "v1", "azure"]
"""How a base URL that somebody gives is completed. `v1`: a bare host gets `/v1`; `azure`: see `azure_endpoint`."""

ECHO_URL = "echo://local"

_UNVERSIONED = {"", "v1", "preview", "latest"}


def base_url_fault(url: str) -> str | None:  # noqa: PLR0911 - one return a rule
    """Why `url` cannot be a provider's base URL, or None where it can."""
    if url == ECHO_URL:
        return None
    if any(ord(character) <= 0x20 or ord(character) == 0x7F for character in url):
        return "holds a space or a control character"
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError as error:
        return f"is not a URL: {error}"
    if parts.scheme not in {"http", "https"}:
        return f"must begin with https:// or http:// (or be {ECHO_URL})"
    if not parts.hostname or not port_is_valid:
        return "names no host" if port_is_valid else "has port 0"
    if parts.username is not None or parts.password is not None:
        return "holds credentials: a key belongs in the provider's secret"
    if parts.query or parts.fragment:
        return "has a query or a fragment: use quirks.query"
    return None


def complete_base_url(url: str, style: BaseUrlStyle) -> str:
    """`url` without a slash at its end, and with `/v1` where `style` says so and the URL has no path.

    >>> complete_base_url("http://localhost:11434/", "v1")
    'http://localhost:11434/v1'
    """
    trimmed = url.rstrip("/")
    return f"{trimmed}/v1" if style == "v1" and not urlsplit(trimmed).path else trimmed


def azure_endpoint(url: str, api_version: str | None) -> tuple[str, bool, Mapping[str, str]]:
    """Base URL, `model_in_path` and query for an Azure OpenAI resource, however its address is spelled.

    A dated `api_version` (`2024-10-21`) means the classic deployments: `{resource}/openai/deployments/{model}/…`.
    Anything else means the v1 API, `{resource}/openai/v1`, where `api-version` is optional and `v1` by default.

    Source: https://learn.microsoft.com/en-us/azure/foundry/openai/api-version-lifecycle
    """
    resource = url.rstrip("/").removesuffix("/v1").removesuffix("/openai")
    version = api_version or ""
    if version not in _UNVERSIONED:
        return resource, True, {"api-version": version}
    return f"{resource}/openai/v1", False, {"api-version": version} if version not in {"", "v1"} else {}


def azure_streams_usage(api_version: str | None) -> bool:
    """Whether that version knows `stream_options`, which the dated ones before September 2024 refuse.

    Sources: https://github.com/Azure/azure-sdk-for-java/issues/40998 (from 2024-09-01-preview),
    https://github.com/griptape-ai/griptape/issues/1640 (2024-10-21)
    """
    version = api_version or ""
    return version in _UNVERSIONED or version >= "2024-09-01"
