"""Gateway.toml files made up by hypothesis: every table, odd names, references that exist; as `tomllib` reads them."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

Document = dict[str, Any]

_NAMES = st.one_of(
    st.sampled_from(
        ["a", "b", "search", "gpt-4.1", "x y", 'q"uo\\te', "ключ", "a.b", "*", "models", "settings", "key"]
    ),
    st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs")), min_size=1, max_size=8).filter(
        lambda name: name == name.strip() and name not in {".", ".."}
    ),
)
_CALLERS = _NAMES.filter(lambda name: "/" not in name)
_TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=12)
_PROVIDERS = st.from_regex(r"[a-z][a-z0-9_-]{0,6}", fullmatch=True)
_COUNTS = st.integers(1, 10**12)
_SECONDS = st.one_of(st.integers(1, 900), st.floats(0.001, 900))
_MONEY = st.one_of(
    st.integers(0, 999_999_999), st.decimals(Decimal(0), Decimal(99999), places=6).map(lambda each: format(each, "f"))
)
_BUDGET = st.fixed_dictionaries(
    {"usd": _MONEY, "period": st.sampled_from(["day", "week", "month", "total"])},
    optional={
        "zone": st.sampled_from(["UTC", "Europe/Berlin"]),
        "hard": st.booleans(),
        "alerts": st.lists(st.one_of(st.integers(1, 10), st.integers(1, 999).map(lambda each: each / 100)), max_size=3),
    },
)
_LIMITS = st.fixed_dictionaries({}, optional={"rpm": _COUNTS, "tpm": _COUNTS, "parallel": _COUNTS})
_LIMITED = {"limits": _LIMITS, "shadow": st.booleans()}
_SPENDING = {
    **_LIMITED,
    "budget": _BUDGET,
    "on_ledger_outage": st.sampled_from(["allow", "deny"]),
    "without_max_tokens": st.sampled_from(["clamp", "reserve", "refuse"]),
}
_PERCENT = st.one_of(st.integers(1, 100), st.floats(0.5, 100))
_PAIRS = st.dictionaries(_TEXT, _TEXT, max_size=2)
_PRICES = st.fixed_dictionaries(
    {"input": _MONEY, "output": _MONEY},
    optional={
        "cached_input": _MONEY,
        "per_request": _MONEY,
        "above": st.lists(
            st.fixed_dictionaries({"input_tokens": _COUNTS, "input": _MONEY}),
            min_size=1,
            max_size=2,
            unique_by=lambda each: each["input_tokens"],
        ),
        "service_tiers": st.dictionaries(
            st.sampled_from(["flex", "priority"]), st.fixed_dictionaries({"input": _MONEY})
        ),
    },
)
_PROVIDER = st.fixed_dictionaries(
    {"base_url": st.sampled_from(["https://llm.corp.example/v1", "http://127.0.0.1:9/{region}/v1"])},
    optional={
        "dialect": st.sampled_from(["openai_chat", "anthropic_messages"]),
        "api_key_env": st.just("CORP_API_KEY"),
        "credential": st.sampled_from(["bearer", "none"]),
        "headers": st.dictionaries(st.sampled_from(["X-Title", "x-b"]), st.sampled_from(["a", "b c"])),
        "quirks": st.fixed_dictionaries({}, optional={"drop": st.lists(_TEXT, max_size=2), "rename": _PAIRS}),
        "description": _TEXT,
        "enabled": st.booleans(),
        "models": st.dictionaries(_NAMES, st.fixed_dictionaries({}, optional={"context_window": _COUNTS}), max_size=2),
    },
)
_TIMES = st.datetimes(datetime(2027, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone


@st.composite
def gateway_files(draw: st.DrawFn) -> Document:
    """Files that have every table or not, with names that refer to one another."""
    providers = draw(st.dictionaries(_PROVIDERS, _PROVIDER, max_size=2))
    file: Document = {"providers": _once(providers)}
    there = ["echo", "azure-openai", *file["providers"]]
    aliases = draw(st.lists(_NAMES, max_size=3, unique=True))
    # Fallbacks lead to those that come after: never in a circle.
    file["models"] = {alias: draw(_model(there, aliases[at + 1 :])) for at, alias in enumerate(aliases)}
    targets = st.builds("{}:{}".format, st.sampled_from(["echo", *file["providers"]]), _NAMES)
    file["prices"] = draw(st.dictionaries(targets, _PRICES, max_size=2))
    file["teams"] = draw(st.dictionaries(_CALLERS, _described({"markup": st.just("20%")}), max_size=2))
    file["users"] = draw(st.dictionaries(_CALLERS, _described({}), max_size=2))
    file["keys"] = draw(st.dictionaries(_CALLERS, _key(sorted(file["teams"]), aliases), max_size=3))
    file |= draw(
        st.fixed_dictionaries(
            {},
            optional={
                "default_provider": st.sampled_from(["openai", "azure-openai"]),
                "default_model": _TEXT,
                "cors_origins": st.just(["https://app.corp.example"]),
                "x_gateway": st.booleans(),
                "abandoned": st.sampled_from(["charge", "release"]),
                "circuit": st.fixed_dictionaries({}, optional={"failures": st.integers(1, 9), "cool_down_s": _SECONDS}),
                "organisation": st.fixed_dictionaries({}, optional={"name": _NAMES, **_SPENDING}),
            },
        )
    )
    return {name: each for name, each in file.items() if each != {}}


def _once(providers: Document) -> Document:
    """`-` and `_` are one spelling."""
    return {name: table for name, table in providers.items() if name.replace("_", "-") == name or "_" not in name}


def _described(more: Document) -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries({}, optional={"description": _TEXT, **_SPENDING, **more})


@st.composite
def _model(draw: st.DrawFn, providers: list[str], after: list[str]) -> Document:
    deployment = st.fixed_dictionaries(
        {"provider": st.sampled_from(providers), "model": _NAMES}, optional={"weight": _COUNTS, "key": _NAMES}
    )
    return draw(
        st.fixed_dictionaries(
            {"deployments": st.lists(deployment, min_size=1, max_size=3)},
            optional={
                "fallbacks": st.lists(st.sampled_from([*after, "azure-openai:gpt-4.1"]), max_size=2, unique=True),
                "retries": st.integers(0, 5),
                "stream_recovery": st.sampled_from(["continue", "restart", "off"]),
                "timeouts": st.fixed_dictionaries({}, optional={"connect_s": _SECONDS, "total_s": _SECONDS}),
                "strategy": st.sampled_from(["weighted", "lowest_cost", "sticky"]),
                "rules": st.lists(_rule(after), max_size=2),
                "canary": _apart(providers, {"by": st.sampled_from(["key", "user"])}),
                "shadow_traffic": _apart(providers, {}),
                "hedge": st.fixed_dictionaries(
                    {"after": st.one_of(_SECONDS, st.just("p95"))}, optional={"percent": _PERCENT}
                ),
                "queue_s": st.one_of(st.integers(0, 60), st.floats(0, 60)),
                **_LIMITED,
            },
        )
    )


def _rule(after: list[str]) -> st.SearchStrategy[Document]:
    when = st.fixed_dictionaries(
        {"stream": st.booleans()},
        optional={
            "tags": _PAIRS,
            "metadata": _PAIRS,
            "input_tokens_above": st.integers(0, 1000),
            "team": _TEXT,
            "budget_used_above": st.integers(1, 999).map(lambda each: each / 100),
        },
    )
    return st.fixed_dictionaries({"when": when, "use": st.sampled_from([*after, "azure-openai:gpt-4.1"])})


def _apart(providers: list[str], more: Document) -> st.SearchStrategy[Document]:
    """A deployment beside the others."""
    needed = {"provider": st.sampled_from(providers), "model": _NAMES, "percent": _PERCENT}
    return st.fixed_dictionaries(needed, optional={"key": _NAMES, **more})


def _key(teams: list[str], aliases: list[str]) -> st.SearchStrategy[Document]:
    members: Document = {
        **_SPENDING,
        "role": st.sampled_from(["caller", "admin"]),
        "models": st.lists(st.sampled_from([*aliases, "echo:*"]), max_size=2),
        "providers": st.just(["azure-openai"]),
        "enabled": st.booleans(),
        "owner": _TEXT,
        "expires_at": _TIMES,
        "tags": _PAIRS,
        "metadata": _PAIRS,
    }
    if teams:
        members["team"] = st.sampled_from(teams)
    return st.fixed_dictionaries({}, optional=members)
