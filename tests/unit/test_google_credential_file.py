"""Specifies which of Google's credential files are taken: none may say where tokens and signed requests go."""

import json
from typing import Any

import pytest

from llm_gateway.upstream.google_credential_file import credential_file_fault, is_federation

ACCOUNT = {
    "type": "service_account",
    "client_email": "a@b.iam.gserviceaccount.com",
    "private_key": "-----BEGIN PRIVATE KEY-----",
    "token_uri": "https://oauth2.googleapis.com/token",
}
FEDERATED = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/aws",
    "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
    "token_url": "https://sts.googleapis.com/v1/token",
    "service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
    "a@b.iam.gserviceaccount.com:generateAccessToken",
}
ELSEWHERE = (
    "https://evil.example/v1/token",
    "http://sts.googleapis.com/v1/token",
    "https://sts.googleapis.com.evil.example/v1/token",
    "https://sts.googleapis.com@evil.example/v1/token",
    "https://evil.example#.sts.googleapis.com/v1/token",
    "https://evilsts.googleapis.com/v1/token",
    "https://sts.storage.googleapis.com/v1/token",
    "https://sts.evil.example.googleapis.com/v1/token",
    "https://sts.googleapis.com:8443/v1/token",
    "https://sts.googleapis.com/v1/token?x=1",
    "https://sts.googleapis.com/v1/token\n",
    "https://sts\u2024googleapis.com/v1/token",
    "http://127.0.0.1:9001/2018-06-01/runtime/invocation/next",
    "http://localhost/",
    "http://169.254.169.254/latest/meta-data",
    "https://[",
    7,
    ["https://sts.googleapis.com/v1/token"],
)


def fault(document: Any, **how: bool) -> str | None:
    return credential_file_fault(json.dumps(document), **how)


@pytest.mark.parametrize(
    "document",
    [
        ACCOUNT,
        {**ACCOUNT, "token_uri": "https://accounts.google.com/o/oauth2/token", "quota_project_id": "example.com:p-1"},
        FEDERATED,
        {**FEDERATED, "service_account_impersonation_url": None, "quota_project_id": ""},
        {**FEDERATED, "token_url": "https://sts.us-east1.rep.googleapis.com/v1/token"},
        {**FEDERATED, "token_url": "https://sts.europe-west12.googleapis.com/v1/token"},
    ],
)
def test_googles_own(document: Any) -> None:
    assert fault(document) is None


@pytest.mark.parametrize("url", ELSEWHERE)
@pytest.mark.parametrize(
    ("file", "member"),
    [(ACCOUNT, "token_uri"), (FEDERATED, "token_url"), (FEDERATED, "service_account_impersonation_url")],
)
def test_tokens_are_asked_for_at_google_alone(file: dict[str, Any], member: str, url: Any) -> None:
    found = fault({**file, member: url})
    assert found in (f"its `{member}` is not Google's", f"it has no `{member}`")
    assert "evil" not in found


def test_this_machine_is_for_tests_that_say_so() -> None:
    document = {**ACCOUNT, "token_uri": "http://127.0.0.1:4000/token"}
    assert fault(document) == "its `token_uri` is not Google's"
    assert fault(document, loopback=True) is None
    for url in ("http://127.0.0.1.evil.example/", "http://127.0.0.1@evil.example/", "http://evil.example/"):
        assert fault({**document, "token_uri": url}, loopback=True) == "its `token_uri` is not Google's"


@pytest.mark.parametrize("project", [5, "a\r\nx-other: 1", "a b", "\u00fc", ["p"]])
def test_a_project_is_what_a_header_can_carry(project: Any) -> None:
    assert fault({**ACCOUNT, "quota_project_id": project}) == "its `quota_project_id` is no project"


def test_federation_is_not_for_everybody() -> None:
    assert fault(ACCOUNT, federation=False) is None
    assert "proves the gateway's own AWS role" in str(fault(FEDERATED, federation=False))
    assert is_federation(json.dumps(FEDERATED))
    assert not is_federation(json.dumps(ACCOUNT))
    assert not is_federation("ya29.token")
    assert not is_federation("[1]")


@pytest.mark.parametrize("text", ["sk-x", "[]", "{", "", "[" * 5000])
def test_what_is_no_json_object(text: str) -> None:
    assert credential_file_fault(text) == "it is not JSON"
