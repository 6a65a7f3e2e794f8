"""Provider keys in AWS Secrets Manager.

Source: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
"""

from base64 import b64decode
from typing import Any

import orjson

from llm_gateway.adapters.aws_json import AwsError, AwsJsonClient


class SecretsManagerStore:
    """`ports.SecretStore`: the current version (AWSCURRENT) of the secret with that very name.

    A secret is the key as it is, or JSON with the key under `api_key`; other JSON (a service account) is given
    whole. No secret is in any exception or repr.
    """

    def __init__(self, aws: AwsJsonClient) -> None:
        self._aws = aws

    async def get_secret(self, name: str) -> str | None:
        """None where there is none, an empty one, or one that waits for its deletion. Raises `errors.Unavailable`."""
        try:
            answer = await self._aws.call("GetSecretValue", {"SecretId": name, "VersionStage": "AWSCURRENT"})
        except AwsError as error:
            if error.aws_code == "ResourceNotFoundException" or is_being_deleted(error):
                return None
            raise
        return key_in_answer(answer)


def is_being_deleted(error: AwsError) -> bool:
    # The code alone may mean other things. AWS says "marked for deletion" or "scheduled for deletion", moto "deleted".
    return error.aws_code == "InvalidRequestException" and "delet" in error.aws_message


def key_in_answer(answer: dict[str, Any]) -> str | None:
    """The key in an answer of `GetSecretValue`; None for an empty one."""
    return _key_in(_text(answer))


def _text(answer: dict[str, Any]) -> str:
    text = answer.get("SecretString")
    if text is None:
        text = b64decode(answer.get("SecretBinary") or "").decode("utf-8", errors="replace")
    return str(text)


def _key_in(text: str) -> str | None:
    """The key, without the line end that came along when it was pasted: it would break the header it goes into."""
    text = text.strip()
    if text.startswith("{"):
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
        if isinstance(document.get("api_key"), str):
            text = document["api_key"].strip()
    return text or None
