"""What `doctor` asks the gateway itself, over the address that its callers use: to the last, a streamed answer."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from llm_gateway.cli.doctor_findings import Finding, failed
from llm_gateway.cli.failures import Failure, NotAllowed, Refused, Unreachable
from llm_gateway.cli.shell import Shell
from llm_gateway.cli.streamed_answer import StreamedAnswer, cost_of, stream_answer
from llm_gateway.cli.target import KEY, named

if TYPE_CHECKING:
    from llm_gateway.cli.client import Gateway

_QUESTION: Final = ({"role": "user", "content": "Reply with the word ready, and nothing else."},)
_SLOW_S: Final = 2.0
_AT_ONCE: Final = 0.95
"""Of a long answer's time, when its first words came: then something on the way collects it before it goes on."""

_KEYLESS: Final = re.compile(r"provider `([^`\s]+)` has no key")
"""As `pipeline.dispatch` says it."""

_BY_CODE: Final[Mapping[str | None, str]] = {
    "model_not_found": "name one that is there: `llm-gateway models` lists them",
    "insufficient_quota": "a budget is used up, here or at the provider: `llm-gateway usage` shows what was spent here",
    "rate_limit_exceeded": "try again in a minute, or raise the limit in gateway.toml",
}


def examine_gateway(shell: Shell, model: str | None, *, call: bool) -> Iterator[Finding]:
    """Each step needs the one before it."""
    from llm_gateway.local.place import StackError

    try:
        gateway = shell.gateway()
    except (Failure, StackError) as error:  # each says itself what to do about it
        yield failed("address", error)
        return
    with gateway:
        if (away := _lives(gateway)) is not None:
            yield away
            return
        yield Finding("address", "ok", f"{gateway.target.told} answers at {gateway.target.root}")
        yield _stores(gateway)
        key, models = _key(shell, gateway)
        yield key
        if key.status == "failed":
            return
        yield _models(shell, models)
        if not call:
            yield Finding("live call", "skipped", "by --no-call")
        elif model is None and not models:
            yield Finding("live call", "skipped", "there is no model to call")
        else:
            yield from _live_call(gateway, model, models)


def _lives(gateway: "Gateway") -> Finding | None:
    try:
        gateway.get("/health")
    except Unreachable as error:
        return failed("address", error, "compare the address with the stack's output ApiUrl, or start `make run`")
    except Refused as error:
        return failed("address", error, "look into the function's log: `sam logs --stack-name NAME`")
    return None


def _stores(gateway: "Gateway") -> Finding:
    try:
        gateway.get("/health/ready")
    except Refused as error:
        if error.status == 404:
            return Finding("stores", "skipped", "this gateway cannot tell: it is older than this command")
        return failed("stores", error, "look at the tables and secrets above, at the function's role, and into its log")
    except Failure as error:
        return failed("stores", error)
    return Finding(
        "stores", "ok", "the gateway reaches its registry, ledger and secrets, and its configuration can be used"
    )


def _key(shell: Shell, gateway: "Gateway") -> tuple[Finding, list[str]]:
    """The key's finding, and the models that it may use: aliases first."""
    try:
        models = [each["id"] for each in gateway.get("/models/available")["data"]]
    except NotAllowed as error:
        return failed("key", error, _where_keys_come_from(shell)), []
    except Failure as error:
        return failed("key", error), []
    except (KeyError, TypeError):
        return failed("key", Unreachable(f"{gateway.target.root} does not list models as a gateway does")), []
    return Finding("key", "ok", "the gateway knows the key"), models


def _where_keys_come_from(shell: Shell) -> str:
    url, stack = named(shell.given, shell.environ)
    if stack is not None:
        return f"make one: `llm-gateway keys create --stack {stack} --name doctor`, and give it with --key or in {KEY}"
    if url is not None:
        return f"ask whoever runs the gateway for a key, and give it with --key or in {KEY}"
    return "the key of `make run` is sk-local, or what GATEWAY_API_KEY says"


def _models(shell: Shell, models: list[str]) -> Finding:
    own = [each for each in models if not each.startswith("echo:")]
    if own:
        told = ", ".join([*own[:3], "…"] if len(own) > 3 else own)
        return Finding("models", "ok", f"{len(own)} {'model' if len(own) == 1 else 'models'}: {told}")
    stack = named(shell.given, shell.environ)[1]
    where = (
        f"`llm-gateway secrets set openai --stack {stack}`" if stack else "OPENAI_API_KEY in the environment or .env"
    )
    return Finding("models", "warning", "no provider but the built-in echo has a key", f"give it one: {where}")


def _live_call(gateway: "Gateway", model: str | None, models: list[str]) -> Iterator[Finding]:
    pieces: list[str] = []
    try:
        try:
            answer = stream_answer(gateway, _QUESTION, model, pieces.append)
        except Refused as error:
            if not (model is None and error.status == 400 and error.param == "model"):
                raise
            # There is no default model.
            answer = stream_answer(gateway, _QUESTION, models[0], pieces.append)
    except Failure as error:
        yield failed("live call", error, _what_to_do(error))
        return
    yield _streamed(answer, len(pieces))
    yield _billed(gateway, answer)


def _streamed(answer: StreamedAnswer, pieces: int) -> Finding:
    first_s = answer.total_s if answer.first_s is None else answer.first_s
    told = f"{answer.model} answered: first words after {first_s:.2f} s, all of it after {answer.total_s:.2f} s"
    if pieces > 1 and answer.total_s > _SLOW_S and first_s > _AT_ONCE * answer.total_s:
        return Finding(
            "live call",
            "warning",
            f"{told}; it came all at once, not as a stream",
            "something between you and the gateway collects the answer: a proxy, or an API without RESPONSE_STREAM",
        )
    return Finding("live call", "ok", told)


def _billed(gateway: "Gateway", answer: StreamedAnswer) -> Finding:
    cost = cost_of(gateway, answer.request_id)
    if cost is not None:
        return Finding("ledger", "ok", f"the call is in it, at ${cost}")
    try:
        record = gateway.get(f"/usage/requests/{answer.request_id}")
    except Failure as error:
        return failed("ledger", error, "the call was answered, and is not in the ledger: look into the function's log")
    if record.get("status") == "open":
        return failed("ledger", "the call is still open in it", "the sweep will close it; look into the function's log")
    return Finding(
        "ledger",
        "warning",
        f"the call is in it, without a cost: {record.get('routed_model')} has no price",
        f'add [prices."{record.get("provider")}:{record.get("routed_model")}"] to gateway.toml',
    )


def _what_to_do(error: Failure) -> str | None:
    if not isinstance(error, Refused):
        return "the gateway answers, and its stream broke: look into its log"
    if (keyless := _KEYLESS.search(str(error))) is not None:
        return f"give it one: `llm-gateway secrets set {keyless[1]}`"
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    if isinstance(error, NotAllowed):
        return "the provider refused its key, or this key may not use the model: store the right one with `secrets set`"
    if error.status >= 500:
        return "the provider fails or cannot be reached: `llm-gateway providers test NAME` looks at it alone"
    return None
