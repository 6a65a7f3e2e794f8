"""`llm-gateway prices`: the price book that ships with this version, and what the gateway's operator says instead."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from llm_gateway.cli.failures import Failure, NotAllowed, Unreachable
from llm_gateway.cli.models import matches
from llm_gateway.cli.shell import Shell, with_shell
from llm_gateway.cli.target import URL
from llm_gateway.cli.values import known_providers

_RATES: Final = {
    "input": "input_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "output": "output_mtok",
}
"""What most models have, in the table's order, by the book's names."""


@with_shell
def prices(
    shell: Shell,
    model: Annotated[
        str | None, typer.Argument(help="Only models with this in `provider:model`; * stands for anything.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Only this vendor's.", autocompletion=known_providers)] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Only the book, without asking a gateway.")] = False,
) -> None:
    """What models cost: US dollars per million tokens, today. A gateway's own prices win over the book's."""
    own = {} if offline else _own(shell)
    found = [
        price
        for price in (*_operators(own), *(each for each in _book() if each["model"] not in own))
        if (model is None or matches(price["model"], model))
        and (provider is None or price["model"].split(":")[0] == provider.replace("-", "_"))
    ]
    if not found:
        raise Failure(f"no price is known of {model or provider or 'any model'}: what it costs is `unpriced`")
    columns = ("MODEL", "INPUT", "CACHED INPUT", "CACHE WRITE", "OUTPUT", "CONTEXT", "FROM")
    rows = [
        (each["model"], *(each.get(rate) for rate in _RATES), each["context_window"], each["from"]) for each in found
    ]
    shell.out.show({"data": found}, lambda: shell.out.table(columns, rows, right=columns[1:6]))


def _own(shell: Shell) -> Mapping[str, Mapping[str, Any]]:
    """The gateway's, by `provider:model`; without a gateway to ask there are none, which is told."""
    named = any((shell.given.url, shell.given.stack, shell.environ.get(URL)))
    try:
        with shell.gateway() as gateway:
            return {each["name"]: each for each in gateway.pages("/admin/prices")}
    except NotAllowed:
        shell.out.note("a gateway's own prices are for an admin's key: these are the book's")
    except Unreachable:
        if named:
            raise
        shell.out.note("no gateway runs here: these are the book's prices")
    return {}


def _operators(own: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for name, price in own.items():
        rates = {rate: price[rate] for rate in price if rate not in ("object", "name", "created_at", "updated_at")}
        cache_write = {"cache_write": price["cache_write_5m"]} if price.get("cache_write_5m") else {}
        given = {rate: value for rate, value in rates.items() if value not in (None, [], {})}
        yield {"model": name, **given, **cache_write, "context_window": None, "from": "operator", "version": None}


def _book() -> Iterator[dict[str, Any]]:
    from llm_gateway.catalog.price_files import load_prices, price_version, priced_providers
    from llm_gateway.metering.cost import format_usd
    from llm_gateway.metering.prices import PriceBook

    book, now = PriceBook(load_prices, price_version()), datetime.now(UTC)
    for vendor in sorted(priced_providers()):
        for name in book.models(vendor):
            if (price := book.find(vendor, name, now, {})) is None:
                continue
            short = {rate: format_usd(price.rates[kind].base) for rate, kind in _RATES.items() if kind in price.rates}
            rates = {kind: format_usd(rate.base) for kind, rate in price.rates.items() if kind not in _RATES.values()}
            tiers = {
                kind: [[above, format_usd(amount)] for above, amount in rate.tiers]
                for kind, rate in price.rates.items()
                if rate.tiers
            }
            shown: dict[str, Any] = {"model": f"{vendor}:{name}", **short, **rates}
            if tiers:
                shown["above_input_tokens"] = tiers
            for fee in ("per_request", "per_search"):
                if (amount := getattr(price, fee)) is not None:
                    shown[fee] = format_usd(amount)
            yield {**shown, "context_window": price.context_window, "from": "book", "version": price.version}
