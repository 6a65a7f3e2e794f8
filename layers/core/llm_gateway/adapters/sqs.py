"""Lost settlements in an SQS queue, which speaks AWS's JSON protocol.

Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-json.html
"""

from typing import Final

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.fallback_message import encode_lost
from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.errors import Unavailable

_LONGEST: Final = 1_048_576
"""Bytes: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html"""


class SqsLostSettlements:
    """`ports.LostSettlements`. A message that is sent twice is settled once."""

    def __init__(self, client: AwsJsonClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    async def put(self, lost: LostSettlement) -> None:
        body = encode_lost(lost)
        if len(body.encode()) > _LONGEST:
            raise Unavailable("A settlement is too long for the fallback queue.")
        await self._client.call("SendMessage", {"QueueUrl": self._queue_url, "MessageBody": body})
