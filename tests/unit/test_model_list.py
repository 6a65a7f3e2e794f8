"""The list of models where the store of the providers' keys hangs."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from llm_gateway.domain.identity import VirtualKey
from llm_gateway.errors import Unavailable
from llm_gateway.pipeline import models
from llm_gateway.pipeline.models import ModelList


class Catalogs:
    async def current(self) -> Any:
        return SimpleNamespace(aliases={}, providers={str(n): SimpleNamespace(name=str(n)) for n in range(40)})


class Hanging:
    async def is_configured(self, provider: Any, team: str | None) -> bool:
        await asyncio.sleep(60)
        return True


async def test_it_gives_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    assert models._LONGEST_S <= 6
    monkeypatch.setattr(models, "_LONGEST_S", 0.05)
    listed: Any = ModelList(Catalogs(), Any, Hanging(), Any)  # type: ignore[arg-type]
    with pytest.raises(Unavailable) as caught:
        await asyncio.wait_for(listed.available(VirtualKey("1", "ann", "hash")), 5)
    assert (caught.value.http_status, caught.value.retry_after) == (503, 1)
