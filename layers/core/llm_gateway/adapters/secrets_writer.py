"""Provider keys in AWS Secrets Manager, as whoever sets them sees them.

A replacement is a version with the label AWSPENDING until it has been tried out, and AWSCURRENT moves to it:
https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotating-secrets_how.html,
https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html and
https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_UpdateSecretVersionStage.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from llm_gateway.adapters.aws_json import AwsError, AwsJsonClient
from llm_gateway.adapters.secret_words import NO_SECRET, NOT_STAGED
from llm_gateway.adapters.secrets_manager import is_being_deleted, key_in_answer
from llm_gateway.domain.ports import SecretNote
from llm_gateway.errors import NotFound

ROTATE_AFTER: Final = "llm-gateway:rotate-after"
"""A tag: Unix seconds."""
_CURRENT: Final = "AWSCURRENT"
_PENDING: Final = "AWSPENDING"
_NOT_FOUND: Final = "ResourceNotFoundException"
_RECOVERY_DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class _Described:
    answer: Mapping[str, Any]
    current: str
    staged: str | None


class SecretsManagerWriter:
    """`ports.SecretWriter`. No text is in any exception or repr."""

    def __init__(self, aws: AwsJsonClient, *, tags: Mapping[str, str] | None = None) -> None:
        """`tags` are given to secrets that are made here."""
        self._aws = aws
        self._tags = [{"Key": name, "Value": value} for name, value in (tags or {}).items()]

    async def put_secret(self, name: str, text: str) -> str:
        version = str(uuid4())
        content = {"ClientRequestToken": version, "SecretString": text}
        answer = await self._answer(name)
        if answer is None:
            await self._create(name, content)
            return version
        if answer.get("DeletedDate"):
            await self._aws.call("RestoreSecret", {"SecretId": name})
        await self._aws.call("PutSecretValue", {"SecretId": name, **content})
        staged = _version_with(_PENDING, answer)
        if staged is not None:
            await self._move(name, _PENDING, to=None, of=staged)
        return version

    async def stage(self, name: str, text: str) -> str:
        if await self._describe(name) is None:
            raise NotFound(NO_SECRET)
        version = str(uuid4())
        # The label moves here from a version that was staged before, which nobody can be given then.
        content = {"ClientRequestToken": version, "SecretString": text, "VersionStages": [_PENDING]}
        await self._aws.call("PutSecretValue", {"SecretId": name, **content})
        return version

    async def read_staged(self, name: str, version: str) -> str | None:
        described = await self._describe(name)
        if described is None or described.staged != version:
            return None
        try:
            answer = await self._aws.call("GetSecretValue", {"SecretId": name, "VersionId": version})
        except AwsError as error:
            if _absence(error):
                return None
            raise
        return key_in_answer(answer)

    async def promote(self, name: str, version: str) -> None:
        described = await self._describe(name)
        if described is None:
            raise NotFound(NO_SECRET)
        if described.current != version:
            if described.staged != version:
                raise NotFound(NOT_STAGED)
            await self._make_current(name, version, described.current)
        # A label of its own that stays on the current version would keep the next one from being told apart.
        if _PENDING in described.answer["VersionIdsToStages"].get(version, ()):
            await self._move(name, _PENDING, to=None, of=version)

    async def discard(self, name: str, version: str) -> None:
        described = await self._describe(name)
        if described is not None and described.staged == version:
            await self._move(name, _PENDING, to=None, of=version)

    async def delete_secret(self, name: str) -> bool:
        try:
            await self._aws.call("DeleteSecret", {"SecretId": name, "RecoveryWindowInDays": _RECOVERY_DAYS})
        except AwsError as error:
            if _absence(error):
                return False
            raise
        return True

    async def describe(self, name: str) -> SecretNote | None:
        described = await self._describe(name)
        if described is None:
            return None
        answer = described.answer
        tags = {tag["Key"]: tag["Value"] for tag in answer.get("Tags") or ()}
        planned = tags.get(ROTATE_AFTER, "")
        return SecretNote(
            name,
            _seconds(answer.get("CreatedDate")),
            _seconds(answer.get("LastChangedDate")),
            described.current,
            described.staged,
            int(planned) if planned.isdecimal() else None,
        )

    async def schedule_rotation(self, name: str, at: int | None) -> None:
        operation = "UntagResource" if at is None else "TagResource"
        what: dict[str, Any] = (
            {"TagKeys": [ROTATE_AFTER]} if at is None else {"Tags": [{"Key": ROTATE_AFTER, "Value": str(at)}]}
        )
        try:
            await self._aws.call(operation, {"SecretId": name, **what})
        except AwsError as error:
            raise _absence(error) or error from None

    async def _create(self, name: str, content: Mapping[str, str]) -> None:
        tags: dict[str, Sequence[Any]] = {"Tags": self._tags} if self._tags else {}
        try:
            await self._aws.call("CreateSecret", {"Name": name, **content, **tags})
        except AwsError as error:
            if error.aws_code != "ResourceExistsException":
                raise
            # Somebody else made it meanwhile, or the answer to our own first try was lost: that one is this version.
            await self._aws.call("PutSecretValue", {"SecretId": name, **content})

    async def _make_current(self, name: str, version: str, before: str) -> None:
        try:
            await self._move(name, _CURRENT, to=version, of=before)
        except AwsError as error:
            # Two who promote at once, or the second try of one whose answer was lost: what counts is how it is now.
            now = await self._describe(name)
            if now is None or now.current != version:
                raise NotFound(NOT_STAGED) from error

    async def _move(self, name: str, label: str, *, to: str | None, of: str) -> None:
        """The label goes from one version to another, or to none."""
        target = {} if to is None else {"MoveToVersionId": to}
        await self._aws.call(
            "UpdateSecretVersionStage",
            {"SecretId": name, "VersionStage": label, "RemoveFromVersionId": of, **target},
        )

    async def _describe(self, name: str) -> _Described | None:
        """None where there is none, or one that waits for its deletion."""
        answer = await self._answer(name)
        current = None if answer is None else _version_with(_CURRENT, answer)
        if answer is None or current is None or answer.get("DeletedDate"):
            return None
        staged = _version_with(_PENDING, answer)
        return _Described(answer, current, None if staged == current else staged)

    async def _answer(self, name: str) -> Mapping[str, Any] | None:
        try:
            return await self._aws.call("DescribeSecret", {"SecretId": name})
        except AwsError as error:
            if error.aws_code == _NOT_FOUND:
                return None
            raise


def _version_with(label: str, answer: Mapping[str, Any]) -> str | None:
    stages: Mapping[str, Sequence[str]] = answer.get("VersionIdsToStages") or {}
    return next((version for version, labels in stages.items() if label in labels), None)


def _absence(error: AwsError) -> NotFound | None:
    gone = error.aws_code == _NOT_FOUND or is_being_deleted(error)
    return NotFound(NO_SECRET) if gone else None


def _seconds(value: Any) -> int | None:
    """AWS JSON gives times as Unix seconds with a fraction."""
    return int(value) if isinstance(value, int | float) else None
