"""Providers and their models: JSON of their own over the tables `[providers.x]` and `[prices]`."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from llm_gateway.admin import wire
from llm_gateway.admin.draft import Draft
from llm_gateway.admin.rendering import as_json, stamps
from llm_gateway.catalog.providers import canonical, provider_rows
from llm_gateway.catalog.schema import Table
from llm_gateway.domain.revisions import StoredEntry
from llm_gateway.errors import InvalidRequest, NotFound

_CONNECTION: Final = tuple(wire.ConnectionParams.model_fields)


class ProviderResource:
    """A provider. A vendor that ships with the gateway is there without being configured."""

    noun = "provider"
    name_member: str | None = "provider_id"
    body: type[Table] = wire.ProviderBody
    answer: type[Table] = wire.Provider

    def name(self, path: Mapping[str, str]) -> str:
        return canonical(path["provider_id"])

    def names(self, draft: Draft, path: Mapping[str, str]) -> list[str]:  # noqa: ARG002 - the protocol's
        return sorted({*provider_rows(), *draft.names("provider")})

    def read(self, draft: Draft, name: str) -> dict[str, Any] | None:
        table = draft.table("provider", name)
        if table is None and name not in provider_rows():
            return None
        table = as_json(table or {})
        body = {member: table[member] for member in ("display_name", "description", "enabled") if member in table}
        if "dialect" in table:
            body["provider_type"] = table["dialect"]
        connection = {member: table[member] for member in _CONNECTION if member in table}
        models = [model_body(draft, name, model) for model in sorted(table.get("models", {}))]
        return {"enabled": True, **body, "connection_params": connection, "models": models}

    def write(self, draft: Draft, name: str, body: Mapping[str, Any]) -> None:
        """Raises `InvalidRequest` for what cannot become a table at all; the rest is the table's to refuse."""
        connection = _object(body, "connection_params")
        for member in connection:
            if member not in _CONNECTION:
                raise InvalidRequest(
                    f"`connection_params.{member}` is not known here: there are {', '.join(_CONNECTION)}.",
                    param=f"connection_params.{member}"[:256],
                )
        table: dict[str, Any] = {key: value for key, value in connection.items() if value is not None}
        before = draft.table("provider", name) or {}
        if "api_key_env" in before:
            # What a laptop's file says is no member here: it stays as it is, and is in the next export.
            table["api_key_env"] = before["api_key_env"]
        for member, column in (
            ("display_name", "display_name"),
            ("description", "description"),
            ("provider_type", "dialect"),
        ):
            if body.get(member) is not None:
                table[column] = body[member]
        if "enabled" in body:
            table["enabled"] = body["enabled"]
        for column, default in _defaults(name, table).items():
            # What was read is sent back: it stays the vendor's, and follows it when the gateway knows better.
            if table.get(column) == default:
                del table[column]
        models = _models(body)
        self._price(draft, name, models)
        if models:
            table["models"] = {model: _without(each, ("model_id", "prices")) for model, each in models.items()}
        draft.put("provider", name, table)

    def _price(self, draft: Draft, name: str, models: Mapping[str, Mapping[str, Any]]) -> None:
        before = draft.table("provider", name) or {}
        for model in {*(before.get("models") or {}), *models}:
            price_model(draft, name, model, models.get(model, {}).get("prices"))

    def delete(self, draft: Draft, name: str) -> None:
        """Raises `NotFound` for a vendor that nobody has configured: it ships."""
        if draft.table("provider", name) is None:
            raise NotFound(f"The provider `{name}` ships with the gateway, and is not configured: disable it instead.")
        draft.delete("provider", name)
        if name not in provider_rows():
            for target in draft.names("price"):
                if target.startswith(f"{name}:"):
                    draft.delete("price", target)

    def entries(self, draft: Draft, name: str) -> Iterable[StoredEntry | None]:
        stored = draft.snapshot.entries
        own = stored.get(("provider", name))
        models = (own.document.get("models") or {}) if own is not None else {}
        return [own, *(stored.get(("price", f"{name}:{model}")) for model in models)]

    def configured(self, draft: Draft, name: str) -> bool:
        return ("provider", name) in draft.snapshot.entries

    def place(self, name: str) -> tuple[str, ...]:
        return ("providers", name)

    def member(self, place: str) -> str:
        first = place.partition(".")[0].partition("[")[0]
        if first in _CONNECTION:
            return f"connection_params.{place}"
        return place.replace("dialect", "provider_type", 1) if first == "dialect" else place

    def document(self, draft: Draft, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        table = draft.table("provider", name) or {}
        defaults = _defaults(name, table)
        models = [model_document(draft, name, each) for each in body["models"]]
        return {
            "object": "provider",
            "provider_id": name,
            "configured": self.configured(draft, name),
            "description": None,
            **body,
            "display_name": body.get("display_name") or defaults["display_name"],
            "provider_type": body.get("provider_type") or defaults["dialect"],
            "models": models,
            **stamps(self.entries(draft, name)),
        }


class ProviderModelResource:
    """A model at a provider; it goes by `provider:model`."""

    noun = "model"
    name_member: str | None = "model_id"
    body: type[Table] = wire.ProviderModelBody
    answer: type[Table] = wire.ProviderModel

    def name(self, path: Mapping[str, str]) -> str:
        return f"{canonical(path['provider_id'])}:{path['model_id']}"

    def names(self, draft: Draft, path: Mapping[str, str]) -> list[str]:
        provider = need_provider(draft, path["provider_id"])
        return sorted(f"{provider}:{model}" for model in _models_of(draft, provider))

    def read(self, draft: Draft, name: str) -> dict[str, Any] | None:
        provider, _, model = name.partition(":")
        if model not in _models_of(draft, provider):
            return None
        return _without(model_body(draft, provider, model), ("model_id",))

    def write(self, draft: Draft, name: str, body: Mapping[str, Any]) -> None:
        provider, _, model = name.partition(":")
        need_provider(draft, provider)
        table = draft.table("provider", provider) or {}
        models = {**(table.get("models") or {}), model: _without(body, ("prices",))}
        draft.put("provider", provider, {**table, "models": models})
        price_model(draft, provider, model, body.get("prices"))

    def delete(self, draft: Draft, name: str) -> None:
        provider, _, model = name.partition(":")
        table = draft.table("provider", provider) or {}
        models = _without(table.get("models") or {}, (model,))
        draft.put("provider", provider, {**_without(table, ("models",)), **({"models": models} if models else {})})
        price_model(draft, provider, model, None)

    def entries(self, draft: Draft, name: str) -> Iterable[StoredEntry | None]:  # noqa: ARG002 - the protocol's
        """None: its ETag is made of its body, so that it does not change with the provider's other models."""
        return ()

    def configured(self, draft: Draft, name: str) -> bool:
        return self.read(draft, name) is not None

    def place(self, name: str) -> tuple[str, ...]:
        provider, _, model = name.partition(":")
        return ("providers", provider, "models", model)

    def member(self, place: str) -> str:
        return place

    def document(self, draft: Draft, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        provider, _, model = name.partition(":")
        return model_document(draft, provider, {"model_id": model, **body})


def need_provider(draft: Draft, provider_id: str) -> str:
    """Its one spelling. Raises `NotFound`."""
    name = canonical(provider_id)
    if draft.table("provider", name) is None and name not in provider_rows():
        raise NotFound(f"There is no provider `{provider_id}`.")
    return name


def model_body(draft: Draft, provider: str, model: str) -> dict[str, Any]:
    table = as_json(_models_of(draft, provider)[model])
    price = draft.table("price", f"{provider}:{model}")
    priced = {} if price is None else {"prices": as_json(price)}
    return {"model_id": model, **table, **priced}


def model_document(draft: Draft, provider: str, body: Mapping[str, Any]) -> dict[str, Any]:
    price = draft.snapshot.entries.get(("price", f"{provider}:{body['model_id']}"))
    made = stamps([draft.snapshot.entries.get(("provider", provider)), price])
    return {"object": "provider_model", "provider_id": provider, **body, **made}


def price_model(draft: Draft, provider: str, model: str, prices: Any) -> None:
    target = f"{provider}:{model}"
    if prices is not None:
        draft.put("price", target, prices if isinstance(prices, Mapping) else {"": prices})
    elif draft.table("price", target) is not None:
        draft.delete("price", target)


def _models_of(draft: Draft, provider: str) -> Mapping[str, Any]:
    return (draft.table("provider", provider) or {}).get("models") or {}


def _models(body: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    given = body.get("models") or []
    if not isinstance(given, list):
        raise InvalidRequest("`models` must be an array.", param="models")
    found: dict[str, Mapping[str, Any]] = {}
    for index, each in enumerate(given):
        place = f"models[{index}]"
        if not isinstance(each, Mapping):
            raise InvalidRequest(f"`{place}` must be an object.", param=place)
        model = each.get("model_id")
        if not isinstance(model, str) or not model:
            raise InvalidRequest(f"`{place}.model_id` is required: a string.", param=f"{place}.model_id")
        if model in found:
            raise InvalidRequest(f"`{place}.model_id` comes twice.", param=f"{place}.model_id")
        ours = {"object", "provider_id", "created_at", "updated_at"}
        found[model] = {name: value for name, value in each.items() if name not in ours}
    return found


def _object(body: Mapping[str, Any], member: str) -> Mapping[str, Any]:
    value = body.get(member)
    if value is not None and not isinstance(value, Mapping):
        raise InvalidRequest(f"`{member}` must be an object.", param=member)
    return value or {}


def _defaults(name: str, table: Mapping[str, Any]) -> dict[str, str]:
    """What it has from its vendor, or for want of one: as `build_provider` has it."""
    like = table.get("like")
    row = provider_rows().get(canonical(like) if isinstance(like, str) else name)
    if row is None:
        return {"display_name": name, "dialect": "openai_chat"}
    return {"display_name": row.display_name, "dialect": row.dialect}


def _without(table: Mapping[str, Any], members: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in set(members)}
