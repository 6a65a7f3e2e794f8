"""What Google's credential file must be before its secret is used, or anything is sent where it says.

Such a file names its own token endpoints, and whoever writes it would choose where signed requests and access tokens
go. Only Google's own are taken; which request of AWS proves the gateway's role is no business of the file at all.

Sources: https://cloud.google.com/docs/authentication/external/externally-sourced-credentials (that files are to be
checked, and what for), https://developers.google.com/identity/protocols/oauth2/service-account#httprest (`token_uri`),
https://google.aip.dev/auth/4117 (`external_account`)
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

AWS_REQUEST: Final = "urn:ietf:params:aws:token-type:aws4_request"
_TOKEN_URIS: Final = frozenset({"https://oauth2.googleapis.com/token", "https://accounts.google.com/o/oauth2/token"})
# A region (us-east1) and no other word: names before `.googleapis.com` may be somebody's, as those of buckets are.
_HOST: Final = r"(?:\.[a-z]+-[a-z]+\d{1,2}(?:\.rep)?)?\.googleapis\.com"
_STS_URL: Final = re.compile(rf"https://sts{_HOST}/v1(?:beta)?/token")
_IMPERSONATION_URL: Final = re.compile(
    rf"https://iamcredentials{_HOST}/v1/projects/-/serviceAccounts/[A-Za-z0-9@._%-]+:generateAccessToken"
)
_LOOPBACK_URL: Final = re.compile(r"http://(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?/[!-~]*")
_PROJECT: Final = re.compile(r"[A-Za-z0-9.:_-]{1,128}")


NOT_A_TEAMS: Final = "federation proves the gateway's own AWS role, and is the stack's to have: use a service_account"


def is_federation(text: str) -> bool:
    """Whether the file makes the gateway's own AWS role prove itself."""
    document = _read(text)
    return document is not None and document.get("type") == "external_account"


def credential_file_fault(text: str, *, federation: bool = True, loopback: bool = False) -> str | None:
    """What is wrong with the file, quoting none of it; None for a good one.

    Without `federation`, one of that kind is a fault. With `loopback`, the endpoints may also be on this machine.
    """
    document = _read(text)
    if document is None:
        return "it is not JSON"
    match document.get("type"):
        case "service_account":
            fault = _service_account_fault(document, loopback)
        case "external_account" if federation:
            fault = _federation_fault(document, loopback)
        case "external_account":
            return NOT_A_TEAMS
        case _:
            return "its `type` must be service_account or external_account"
    project = document.get("quota_project_id")
    if fault is None and project and not (isinstance(project, str) and _PROJECT.fullmatch(project)):
        return "its `quota_project_id` is no project"
    return fault


def _read(text: str) -> dict[str, Any] | None:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _service_account_fault(document: Mapping[str, Any], loopback: bool) -> str | None:
    if missing := _missing(document, "client_email", "private_key", "token_uri"):
        return missing
    token_uri = document["token_uri"]
    if token_uri in _TOKEN_URIS or (loopback and _LOOPBACK_URL.fullmatch(token_uri)):
        return None
    return "its `token_uri` is not Google's"


def _federation_fault(document: Mapping[str, Any], loopback: bool) -> str | None:
    if document.get("subject_token_type") != AWS_REQUEST:
        return "only federation from AWS is possible here"
    if missing := _missing(document, "audience", "token_url"):
        return missing
    for name, ours in (("token_url", _STS_URL), ("service_account_impersonation_url", _IMPERSONATION_URL)):
        url = document.get(name)
        # Acting as a service account is optional; `token_url` was found above.
        if url and not (isinstance(url, str) and (ours.fullmatch(url) or (loopback and _LOOPBACK_URL.fullmatch(url)))):
            return f"its `{name}` is not Google's"
    return None


def _missing(document: Mapping[str, Any], *names: str) -> str | None:
    for name in names:
        if not isinstance(document.get(name), str) or not document[name]:
            return f"it has no `{name}`"
    return None
