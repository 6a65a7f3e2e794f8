"""Publishing to an SNS topic, which speaks AWS's query protocol: a form in, XML out.

Sources: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html,
https://smithy.io/2.0/aws/protocols/aws-query-protocol.html; held against botocore's own in `tests/unit/test_sns.py`.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode

from llm_gateway.domain.ports import HttpClient, HttpRequest
from llm_gateway.errors import Unavailable, UpstreamError
from llm_gateway.upstream.credentials import CredentialSource
from llm_gateway.upstream.sigv4 import sign

_LONGEST_SUBJECT: Final = 100
_TIMEOUT_S: Final = 5.0
_BODY_LIMIT: Final = 65_536
_CODE: Final = re.compile(rb"<Code>([A-Za-z.]{1,80})</Code>")


class SnsTopic:
    """`ports.Notifier` on one topic."""

    def __init__(
        self,
        http: HttpClient,
        topic_arn: str,
        credentials: CredentialSource,
        endpoint_url: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """The Region is the topic's own. Raises `ValueError` for what is no topic's ARN."""
        parts = topic_arn.split(":")
        if len(parts) != 6 or parts[2] != "sns":
            raise ValueError(f"{topic_arn!r} is no ARN of a topic")
        self._http = http
        self._topic = topic_arn
        self._region = parts[3]
        self._credentials = credentials
        suffix = "amazonaws.com.cn" if self._region.startswith("cn-") else "amazonaws.com"
        self._url = f"{(endpoint_url or f'https://sns.{self._region}.{suffix}').rstrip('/')}/"
        self._clock = clock

    async def publish(self, subject: str, text: str, attributes: Mapping[str, str]) -> None:
        """Once: whoever sends an alert tries again by itself. Raises `errors.Unavailable`."""
        body = urlencode(_form(self._topic, subject, text, attributes)).encode()
        headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                credentials = await self._credentials.current()
                signed = sign("POST", self._url, headers, body, credentials, self._region, "sns", self._clock())
                response = await self._http.send(HttpRequest("POST", self._url, signed, body, first_byte_s=_TIMEOUT_S))
                try:
                    answer = await response.read(_BODY_LIMIT)
                finally:
                    await response.close()
        except (UpstreamError, TimeoutError) as error:
            raise Unavailable("The topic for alerts does not answer.") from error
        if response.status != 200:
            code = _CODE.search(answer)
            raise Unavailable(
                f"The topic for alerts refused a message ({code[1].decode() if code else response.status})."
            )


def _form(topic: str, subject: str, text: str, attributes: Mapping[str, str]) -> dict[str, str]:
    form = {
        "Action": "Publish",
        "Version": "2010-03-31",
        "TopicArn": topic,
        "Subject": _plain_subject(subject),
        "Message": text,
    }
    for index, (name, value) in enumerate(attributes.items(), start=1):
        entry = f"MessageAttributes.entry.{index}"
        form[f"{entry}.Name"] = name
        form[f"{entry}.Value.DataType"] = "String"
        form[f"{entry}.Value.StringValue"] = value
    return form


def _plain_subject(subject: str) -> str:
    """SNS takes up to 100 characters of printable ASCII, and the names in it are other people's."""
    plain = "".join(character if " " <= character <= "~" else "?" for character in subject)
    return plain if len(plain) <= _LONGEST_SUBJECT else f"{plain[: _LONGEST_SUBJECT - 3]}..."
