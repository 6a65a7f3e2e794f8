"""Which gateway a command is about: the options, then the environment, then the one that runs here."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from llm_gateway.cli.failures import BadInput, Unreachable

if TYPE_CHECKING:
    from llm_gateway.local.place import Place

URL: Final = "LLM_GATEWAY_URL"
KEY: Final = "LLM_GATEWAY_KEY"
STACK: Final = "LLM_GATEWAY_STACK"
DATA: Final = "LLM_GATEWAY_DATA"
_UNCLAIMED: Final = f"{URL} of .env"
"""What `environment` calls an address of `.env` that the environment's key is not for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The options that every command has, as they were given; None for those that were not."""

    url: str | None = None
    key: str | None = None
    stack: str | None = None
    region: str | None = None
    profile: str | None = None
    data: Path | None = None
    json: bool | None = None
    no_color: bool | None = None

    def over(self, other: Self) -> Self:
        """These before those of `other`: what stands behind the command wins over what stands before it."""
        mine = {each.name: getattr(self, each.name) for each in fields(self)}
        return type(self)(**{name: getattr(other, name) if value is None else value for name, value in mine.items()})


@dataclass(frozen=True, slots=True)
class Target:
    """`root` is the address without `/v1` or a slash at its end. `told` is what messages call it."""

    root: str
    key: str | None
    told: str

    @property
    def base_url(self) -> str:
        """What an SDK is given."""
        return f"{self.root}/v1"


def named(given: Given, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """(URL, stack): at most one is not None. Options win over the environment. Raises `BadInput`."""
    if given.url and given.stack:
        raise BadInput("--url and --stack name two gateways: give one of them")
    if given.url or given.stack:
        return given.url, given.stack
    if unclaimed := environ.get(_UNCLAIMED):
        if given.key is None:
            raise BadInput(
                f".env names a gateway ({URL}), and {KEY} is the environment's: it is not sent to an address from"
                " elsewhere; put both in one place, or say --url or --key"
            )
        return unclaimed, None
    if url := environ.get(URL):
        return url, None
    return None, environ.get(STACK) or None


def find_target(given: Given, environ: Mapping[str, str]) -> Target:
    """Where to call, and with which key. Raises `BadInput`, `Unreachable`, `StackError`."""
    url, stack = named(given, environ)
    key = given.key or environ.get(KEY) or None
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise BadInput(f"the key of --key or {KEY} is none: it holds a space or a character that no header can carry")
    if url is not None:
        return Target(read_root(url), key, "the gateway")
    if stack is not None:
        from llm_gateway.local.stack import find_stack

        found = find_stack(stack, given.region, given.profile, environ)
        return Target(read_root(found.api_url), key, f"stack {stack}")
    return _local(data_of(given, environ), key, environ)


def find_place(given: Given, environ: Mapping[str, str]) -> "Place":
    """The tables behind it, for who has AWS credentials and no key. Raises `BadInput`, `StackError`, `CannotRun`."""
    from llm_gateway.local.place import local_place
    from llm_gateway.local.stack import find_stack, place_of

    url = named(given, environ)[0]
    stack = None if given.url else given.stack or environ.get(STACK)
    if stack:
        return place_of(find_stack(stack, given.region, given.profile, environ))
    if url is not None:
        raise BadInput("this works on a stack's tables, which an address does not tell: name the stack with --stack")
    return local_place(data_of(given, environ), environ)


def data_of(given: Given, environ: Mapping[str, str]) -> Path:
    """Raises `BadInput`."""
    data = given.data or Path(environ.get(DATA) or ".local")
    if data.exists() and not data.is_dir():
        raise BadInput(f"{data} is no directory: --data (or {DATA}) says where `make run` keeps its data")
    return data


def read_root(url: str) -> str:
    """`http://127.0.0.1:8000/v1/` and the like, without `/v1`. Raises `BadInput`."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname is not None and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise BadInput(f"{url!r} is no address of a gateway: give one such as http://127.0.0.1:8000 or https://…/prod")
    parts = urlsplit(url)
    if parts.query or parts.fragment or parts.username is not None:
        raise BadInput("the address of a gateway has no user, `?` or `#` in it: give the key with --key")
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _local(data: Path, key: str | None, environ: Mapping[str, str]) -> Target:
    from llm_gateway.local.run import DEFAULT_KEY
    from llm_gateway.local.running import running_gateway

    base_url = running_gateway(data)
    if base_url is None:
        raise Unreachable(
            f"no gateway runs on {data}/: start one with `make run`, or say which with --url (or {URL}) or --stack"
        )
    return Target(
        read_root(base_url), key or environ.get("GATEWAY_API_KEY") or DEFAULT_KEY, "the gateway that runs here"
    )


def environment() -> Mapping[str, str]:
    """The process's, with what `.env` adds to it, as `run` reads it.

    An address that a `.env` names is not called with a key from elsewhere: whoever wrote the files of the directory
    that one happens to be in would get the key. `named` tells of it. Raises `BadInput`.
    """
    from dotenv import load_dotenv

    own_key = KEY in os.environ and URL not in os.environ
    try:
        load_dotenv(Path(".env"), override=False)
    except UnicodeDecodeError:
        raise BadInput(".env is not UTF-8") from None
    if own_key and (unclaimed := os.environ.pop(URL, None)):
        return {**os.environ, _UNCLAIMED: unclaimed}
    return os.environ
