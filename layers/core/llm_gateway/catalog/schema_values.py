"""The values of gateway.toml: text, money, shares, seconds, addresses; what is wrong with one is told in words."""

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Self
from unicodedata import category

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema
from pydantic_core import PydanticCustomError

from llm_gateway.catalog.endpoints import base_url_fault
from llm_gateway.catalog.faults import did_you_mean
from llm_gateway.domain.catalog import markup_factor

_LONGEST_NAME = 256


class TomlFloat(float):
    """A TOML float that still knows its text, so that an error can show how to write it exactly."""

    text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number.text = text
        return number


def _fault(message: str) -> PydanticCustomError:
    # Braces would be read as places to fill in.
    return PydanticCustomError("gateway", message.replace("{", "(").replace("}", ")"))


def _money(value: Any) -> str:
    """US dollars as plain decimal text. Strings and integers are exact; floats are not, and are refused."""
    if isinstance(value, TomlFloat):
        raise _fault(f'is a TOML float, which is not exact: write it in quotes, "{value.text}"')
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _fault('must be a decimal in quotes, such as "0.10", or an integer')
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise _fault(f'"{value}" is not a decimal: write it such as "0.10"') from None
    if not number.is_finite() or number.is_signed():
        raise _fault(f'"{value}" is not an amount of money: it must be finite and not negative')
    if number == 0:
        return "0"
    text = format(number, "f") if -12 <= number.adjusted() <= 8 else ""
    if not text or len(text.partition(".")[2]) > 12:
        # So that prices times tokens stay within the 38 digits of a DynamoDB number.
        raise _fault(f'"{value}" is out of range: at most 9 digits before the point, 12 after it')
    return text


def _share(value: Any) -> str:
    """A share of a budget as plain decimal text: the float's own, which is exact, and not the nearest binary one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _fault("must be a number: a share of the budget, such as 0.8")
    text = value.text if isinstance(value, TomlFloat) else repr(value)
    share = Decimal(text)
    if not share.is_finite() or not 0 < share <= 10:
        raise _fault(f"{text} is no share of a budget: it must be greater than 0 and at most 10")
    if len(format(share, "f").partition(".")[2]) > 6:
        raise _fault(f"{text} is too fine: at most 6 digits after the point")
    # JSON has no trailing zeros to keep: the same file stores the same whichever way it comes.
    return format(share.normalize(), "f")


def _in_order(shares: list[str]) -> list[str]:
    """Each once: a threshold is told of once."""
    return [str(share) for share in sorted({Decimal(share) for share in shares})]


def _zone_name(value: str) -> str:
    if value == "UTC":
        return value
    from zoneinfo import available_timezones  # noqa: PLC0415 - walks the whole database

    # Those two are in some systems' databases, and mean another thing on each machine.
    zones = available_timezones() - {"localtime", "Factory"}
    if value not in zones:
        raise _fault(
            f'"{value}" is not a time zone{did_you_mean(value, zones)}: write it as the IANA database does, '
            'such as "Europe/Berlin"'
        )
    return value


def _plain_text(value: str) -> str:
    if not value:
        raise _fault("must not be empty")
    if any(category(character) == "Cc" for character in value):
        raise _fault("must not hold control characters")
    return value


def _short(value: str) -> str:
    """Names go into headers, logs, and keys of the ledger's items."""
    if len(value) > _LONGEST_NAME:
        raise _fault(f"is too long: {len(value)} characters, and a name has at most {_LONGEST_NAME}")
    return value


def _visible(value: str) -> str:
    """A name looks like what it is, and can stand in a path: two that look alike are one."""
    if value in {".", ".."}:
        raise _fault(f'must not be "{value}"')
    if value != value.strip():
        raise _fault("must not begin or end with white space")
    if any(category(character) == "Cf" for character in value):
        raise _fault("must not hold characters that are not seen, such as those for the direction of text")
    return value


def _one_step(value: str) -> str:
    if "/" in value:
        raise _fault('must not hold "/"')
    return value


def _shown_url(value: str) -> str:
    """As it may be told: query, fragment and credentials may be secret."""
    shown = value.partition("?")[0].partition("#")[0]
    return f"{shown.partition('://')[0]}://…" if "@" in shown else shown


def _url(value: str) -> str:
    if fault := base_url_fault(value):
        raise _fault(f'"{_shown_url(value)}" {fault}' if "credentials" not in fault else fault)
    return value.rstrip("/")


def _origin(value: str) -> str:
    fault = base_url_fault(value)
    if value != "*" and (fault or value.startswith("echo:") or value.count("/") > 2):
        raise _fault(
            f'"{_shown_url(value)}" is not an origin: write it such as "https://app.corp.example", without a path'
        )
    return value


def _header_name(value: str) -> str:
    if not value.isascii() or not value.replace("-", "").replace("_", "").isalnum():
        raise _fault(f'"{value}" is not the name of an HTTP header')
    return value


def _percentage(value: str) -> str:
    try:
        markup_factor(value)
    except ValueError as error:
        raise _fault(str(error)) from None
    return value


def _tier(value: str) -> str:
    if value in {"default", "standard", "auto"}:
        raise _fault(f'"{value}" is the standard tier, whose prices stand in the table above')
    return _plain_text(value)


def _region(value: str) -> str:
    # It becomes part of a host.
    if not _REGION.fullmatch(value):
        raise _fault(f'"{value}" is not the name of a region: write it such as "eu-central-1"')
    return value


def _after(value: Any) -> float | str:
    """Seconds, or a percentile: `p50` to `p99`."""
    if isinstance(value, str) and _PERCENTILE.fullmatch(value):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 900:
        raise _fault('must be a percentile from "p50" to "p99", or seconds, above 0 and up to 900')
    return float(value)


_PERCENTILE = re.compile(r"p[5-9][0-9]")
_REGION = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_OURS = {"authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"}
_HTTPS_OWN = {"host", "content-length", "transfer-encoding", "connection", "content-type", "te", "upgrade", "trailer"}


def _sent_header_name(value: str) -> str:
    _header_name(value)
    if value.lower() in _OURS:
        raise _fault("carries a key, and keys live in the provider's secret: use credential and credential_header")
    if value.lower() in _HTTPS_OWN:
        raise _fault("is set by the gateway itself")
    return value


def _header_value(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise _fault("must be printable ASCII")
    return value


def _token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text) < 8 or not text.isascii() or not text.isprintable() or " " in text:
        raise _fault("must be at least 8 printable ASCII characters without spaces")
    return value


Money = Annotated[
    str, BeforeValidator(_money), WithJsonSchema({"type": ["string", "integer"], "examples": ["0.10"], "minimum": 0})
]
Text = Annotated[str, AfterValidator(_plain_text)]
Name = Annotated[Text, AfterValidator(_short), AfterValidator(_visible)]
CallerName = Annotated[Name, AfterValidator(_one_step)]
"""Of a team, a user, a key: one step of a path under `/admin`."""
BaseUrl = Annotated[str, AfterValidator(_url)]
Origin = Annotated[str, AfterValidator(_origin)]
Seconds = Annotated[float, Field(gt=0, le=900, allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000_000, strict=True)]
Share = Annotated[
    str, BeforeValidator(_share), WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 10})
]
Zone = Annotated[str, AfterValidator(_zone_name)]
Region = Annotated[str, AfterValidator(_region)]
Retries = Annotated[int, Field(ge=0, le=5, strict=True)]
Percentage = Annotated[str, AfterValidator(_percentage)]
Tier = Annotated[str, AfterValidator(_tier)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
SentHeaderName = Annotated[str, AfterValidator(_sent_header_name)]
HeaderValue = Annotated[str, AfterValidator(_header_value)]
Token = Annotated[SecretStr, AfterValidator(_token)]
Shares = Annotated[list[Share], AfterValidator(_in_order), Field(json_schema_extra={"default": [0.5, 0.8, 1]})]
Tokens = Annotated[int, Field(ge=0, le=1_000_000_000_000, strict=True)]
After = Annotated[float | str, BeforeValidator(_after)]
QueueSeconds = Annotated[float, Field(ge=0, le=60, allow_inf_nan=False, strict=True)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False, strict=True)]
