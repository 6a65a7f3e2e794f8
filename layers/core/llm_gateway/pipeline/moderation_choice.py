"""Which model moderates where a caller names none, as OpenAI's clients may."""

from llm_gateway.dialects.moderations import DEFAULT_MODELS
from llm_gateway.domain.catalog import Catalog
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.errors import InvalidRequest
from llm_gateway.pipeline.dispatch import Dispatcher


async def default_moderation_model(catalog: Catalog, dispatcher: Dispatcher, key: VirtualKey) -> str:
    """`provider:model` of the default provider if it moderates, else of the first in the catalog that does and can be
    called.

    Raises `InvalidRequest` where none does.
    """
    default = catalog.providers.get(catalog.default_provider or "")
    for provider in (*([default] if default is not None else []), *catalog.providers.values()):
        wire = provider.quirks.moderations
        if wire is not None and await dispatcher.is_configured(provider, key.team):
            return f"{provider.name}:{DEFAULT_MODELS[wire]}"
    raise InvalidRequest("No provider that can be called here has moderations: name a `model`.", param="model")
