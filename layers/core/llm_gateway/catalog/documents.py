"""Reading what the registry stores, by hand: it is on the way of every cold start, where pydantic would be too slow."""

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from llm_gateway.catalog.faults import ConfigError, one_of

_Kind = TypeVar("_Kind")


class Document:
    """An entry's document, read with the type that is expected; what is wrong is told with the entry's name."""

    def __init__(self, name: str, fields: Mapping[str, Any]) -> None:
        self.name = name
        if not isinstance(fields, Mapping):
            raise ConfigError([f"{name}: is not a document"])
        self.fields = fields

    def fault(self, message: str) -> ConfigError:
        return ConfigError([f"{self.name}: {message}"])

    def get(self, key: str, kind: type[_Kind], default: Any = None) -> Any:
        value = self.fields.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.fault(f"{key}: must be {kind.__name__}, not {type(value).__name__}")
        return value

    def need(self, key: str, kind: type[_Kind]) -> Any:
        value = self.get(key, kind)
        if value is None:
            raise self.fault(f"{key}: is missing")
        return value

    def choice(self, key: str, allowed: Any, default: Any) -> Any:
        value = self.get(key, str, default)
        if value is not None and value not in get_args(allowed):
            raise self.fault(f'{key}: "{value}" is not one of {one_of(get_args(allowed))}')
        return value

    def strings(self, key: str) -> list[str]:
        values: list[Any] = self.get(key, list, default=[])
        if not all(isinstance(value, str) for value in values):
            raise self.fault(f"{key}: must be strings")
        return values

    def number(self, key: str) -> float:
        value = self.fields.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise self.fault(f"{key}: must be a positive number")
        return float(value)

    def string_map(self, key: str) -> dict[str, str]:
        values: Mapping[Any, Any] = self.get(key, dict, default={})
        if not all(isinstance(name, str) and isinstance(value, str) for name, value in values.items()):
            raise self.fault(f"{key}: must map strings to strings")
        return dict(values)

    def tables(self, key: str) -> list["Document"]:
        return [
            Document(f"{self.name}: {key}[{index}]", each) for index, each in enumerate(self.get(key, list, default=[]))
        ]

    def table(self, key: str) -> "Document":
        return Document(f"{self.name}: {key}", self.get(key, dict, default={}))
