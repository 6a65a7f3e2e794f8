"""`POST /api/chat`: a message becomes a chat completion, goes the way of all of them, and its answer a reply."""

from collections.abc import Callable
from dataclasses import replace

from llm_gateway.domain.conversation import Conversation
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import GatewayError, InvalidRequest
from llm_gateway.pipeline.call import Answer, Call
from llm_gateway.pipeline.conversations import Conversations, SessionTurn
from llm_gateway.pipeline.gateway import Gateway
from llm_gateway.pipeline.outcome import Outcome
from llm_gateway.schemas.simple_chat import SimpleChat, chat_body, read_reply, read_simple_chat, reply_body


class ChatTurn:
    """One message and its reply; in a session, with what was said in it before. Driven as an `Exchange` is.

    `call` is of the endpoint `chat.completions`, with the body of `/api/chat`. `conversations` is asked where a
    session is named.
    """

    def __init__(self, gateway: Gateway, call: Call, conversations: Callable[[], Conversations | None]) -> None:
        self._auth = gateway.auth
        self._exchange = gateway.exchange(replace(call, body_object=False))
        self._conversations = conversations
        self._turn: SessionTurn | None = None
        self.failed = self._exchange.failed
        self.caller_gone = self._exchange.caller_gone

    @property
    def call(self) -> Call:
        return self._exchange.call

    @property
    def outcome(self) -> Outcome:
        return self._exchange.outcome

    @property
    def record(self) -> RequestRecord | None:
        return self._exchange.record

    @property
    def runs_on(self) -> bool:
        return self._exchange.runs_on

    @property
    def replay_of(self) -> str | None:
        return self._exchange.replay_of

    async def answer(self) -> Answer:
        """Raises `GatewayError`; the session is as it was then, and free."""
        try:
            asked = await self._ask()
            completed = await self._exchange.answer()
            return await self._told(asked, completed)
        except GatewayError as error:
            self.outcome.answered = False
            self.failed(error)
            await self._release()  # before the error goes out: whoever tries again at once must find it free
            raise

    async def settle(self) -> None:
        try:
            await self._exchange.settle()
        finally:
            await self._release()

    async def _ask(self) -> SimpleChat:
        """Makes the call one for Chat Completions."""
        key = await self._auth.identify(self.call.token)
        asked = read_simple_chat(self.call.body)
        before = Conversation(asked.system)
        if asked.session_id is not None:
            before = await self._before(key, asked, asked.session_id)
        body = chat_body(asked.model, before.system, before.turns, asked.message)
        self._exchange.call = replace(self.call, body=body)
        return asked

    async def _before(self, key: VirtualKey, asked: SimpleChat, session_id: str) -> Conversation:
        """What was said in the session, whose turn is taken."""
        if self.call.idempotency_key is not None:
            raise InvalidRequest(
                "A message of a session takes no Idempotency-Key: a session has each of its turns once."
                " Leave one of the two out.",
                param="session_id",
            )
        if (conversations := self._conversations()) is None:
            raise InvalidRequest("This gateway keeps no conversations: leave `session_id` out.", param="session_id")
        self._turn = conversations.turn(key, session_id, self.call.request_id)
        await self._turn.begin()
        return self._turn.prompted(asked.system, asked.message)

    async def _told(self, asked: SimpleChat, completed: Answer) -> Answer:
        reply = read_reply(completed.body)
        warning = None
        # A call that ran on without its caller has a reply that nobody has read.
        if self._turn is not None and not self.outcome.gone:
            warning = await self._turn.keep(asked.message, reply.text)
        headers = dict(completed.headers)
        if warning is not None:
            headers["x-gateway-warning"] = "; ".join(filter(None, (headers.get("x-gateway-warning"), warning)))
        return replace(completed, headers=headers, body=reply_body(reply, asked.session_id, warning))

    async def _release(self) -> None:
        if self._turn is not None:
            await self._turn.release()
