"""Specifies what a new price book does: it prints what changed, it has a version of its own, and it leaves the past alone."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.catalog.build import build_catalog
from llm_gateway.domain.usage import RequestRecord, Usage
from llm_gateway.metering.prices import PriceBook
from llm_gateway.pipeline.accounts import Accounts
from llm_gateway.pipeline.pricing import BookPricing
from scripts.generate_prices import PRICES, main
from scripts.price_changes import Change, changes
from tests.contract.records import open_record
from tests.fakes.no_fallback import NO_FALLBACK

CATALOG = build_catalog([], {})


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A copy of the shipped book, as it was before two prices changed and a model came."""
    copy = tmp_path / "prices"
    shutil.copytree(PRICES, copy)
    document = orjson.loads((copy / "openai.json").read_bytes())
    models = {model["id"]: model for model in document["models"]}
    models["gpt-4o"]["prices"][0]["input_mtok"] = "99.5"
    models["gpt-5.4"]["prices"][0]["output_mtok"] = "15"
    document["models"].remove(models["gpt-4.1"])
    (copy / "openai.json").write_bytes(orjson.dumps(document))
    version = orjson.loads((copy / "version.json").read_bytes())
    version.update(version="2026-11-20+genai-prices-0.1.0.00000000", sha256="0" * 64)
    (copy / "version.json").write_bytes(orjson.dumps(version))
    return copy


def test_what_changed_is_printed_and_then_nothing(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--into", str(book), "--check"]) == 1
    assert "openai.json is not what" in capsys.readouterr().err
    assert main(["--into", str(book), "--date", "2026-11-21"]) == 0
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert ["openai", "gpt-4o", "input_mtok", "99.5", "2.5"] in lines
    assert ["openai", "gpt-5.4", "output_mtok", "15", "15, 22.5 above 272000"] in lines
    assert ["openai", "gpt-4.1", "input_mtok (processing=batch, from_date 2026-10-14)", "-", "1"] in lines
    assert {cells[1] for cells in lines if cells} == {"gpt-4o", "gpt-4.1", "gpt-5.4"}
    assert main(["--into", str(book), "--date", "2026-11-22"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["--into", str(book), "--check"]) == 0
    version = orjson.loads((book / "version.json").read_bytes())["version"]
    assert version.startswith("2026-11-21+genai-prices-")  # not the 22nd: nothing changed then


def test_two_books_of_one_day_have_two_versions(book: Path) -> None:
    main(["--into", str(book), "--date", "2026-11-21"])
    first = orjson.loads((book / "version.json").read_bytes())
    (book / "version.json").write_bytes(
        orjson.dumps({**first, "version": "2026-11-21+genai-prices-0.1.0.11111111", "sha256": ""})
    )
    main(["--into", str(book), "--date", "2026-11-21"])
    assert orjson.loads((book / "version.json").read_bytes())["version"] == first["version"]
    assert first["version"].endswith(f".{first['sha256'][:8]}")


def test_a_vendor_that_is_gone_and_one_that_came() -> None:
    def file(price: str) -> bytes:
        return orjson.dumps({"models": [{"id": "m", "match": {"equals": "m"}, "prices": [{"input_mtok": price}]}]})

    assert changes({"old.json": file("1")}, {"new.json": file("2")}) == [
        Change("new", "m", "input_mtok", "-", "2"),
        Change("old", "m", "input_mtok", "1", "-"),
    ]


def accounts(ledger: MemoryLedger, version: str, price: str) -> Accounts:
    files: dict[str, Any] = {
        "openai": {"models": [{"id": "m", "match": {"equals": "m"}, "prices": [{"input_mtok": price}]}]}
    }
    book = PriceBook(lambda name: orjson.dumps(files[name]) if name in files else None, version)
    return Accounts(ledger, BookPricing(book), NO_FALLBACK)


async def settled(ledger: MemoryLedger, books: Accounts, request_id: str) -> RequestRecord:
    record = open_record(request_id, provider="openai", routed_model="m", team=None)
    await ledger.open(record)
    usage = Usage(input_tokens=1_000_000)
    cost = books.price(record, usage, None, CATALOG)
    done = replace(record, status="settled", usage=usage, cost_usd=cost.usd, price_version=cost.price_version)
    await books.settle(done)
    return done


async def test_a_new_price_never_rewrites_what_was_settled() -> None:
    ledger = MemoryLedger()
    before = await settled(ledger, accounts(ledger, "v1", "1"), "req_1")
    later = accounts(ledger, "v2", "7")
    after = await settled(ledger, later, "req_2")
    again = later.price(before, before.usage, None, CATALOG)
    await later.settle(replace(before, cost_usd=again.usd, price_version=again.price_version))
    kept = await ledger.get("req_1")
    assert kept is not None
    assert (kept.cost_usd, kept.price_version) == (Decimal(1), "v1")
    assert (after.cost_usd, after.price_version) == (Decimal(7), "v2")


def test_dates_decide_what_a_call_costs_not_the_day_it_is_looked_up() -> None:
    prices = [{"input_mtok": "1"}, {"input_mtok": "2", "from_date": "2026-11-20"}]
    document = {"models": [{"id": "m", "match": {"equals": "m"}, "prices": prices}]}
    book = PriceBook(lambda name: orjson.dumps(document), "v")
    record = open_record("req_1", provider="openai", routed_model="m", team=None)
    books = Accounts(MemoryLedger(), BookPricing(book), NO_FALLBACK)
    for day, price in ((19, 1), (20, 2)):
        at_ms = int(datetime(2026, 11, day, 12, tzinfo=UTC).timestamp() * 1000)
        cost = books.price(replace(record, at_ms=at_ms), Usage(input_tokens=1_000_000), None, CATALOG)
        assert cost.usd == price
