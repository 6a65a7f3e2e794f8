"""Specifies how every mistake in gateway.toml is told: its place, what is wrong, what is allowed, and never a key."""

import re
import traceback

import pytest

from llm_gateway.catalog.config import ConfigError, parse_config

TOKEN = "sk-search-prod-for-local-use"


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "gateway.toml")
    assert all(fault.startswith("gateway.toml: ") and "\n" not in fault for fault in caught.value.faults)
    assert str(caught.value) == "\n".join(caught.value.faults)
    return [fault.removeprefix("gateway.toml: ") for fault in caught.value.faults]


def limited(alias: str, provider: str, more: str) -> str:
    return f"[models.{alias}]\ndeployments = [{{ provider = '{provider}', model = 'm', {more} }}]\n"


PROVIDER = '[providers.corp]\nbase_url = "https://c/v1"\n'
ALIAS = '[models.a]\ndeployments = [{ provider = "openai", model = "m" }]\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1", "x: is not a key here; allowed: abandoned, circuit, cors_origins, default_model"),
        ("default_modle = 'a'", 'default_modle: is not a key here (did you mean "default_model"?)'),
        ("default_provider = 'opnai'", 'default_provider: "opnai" is not a provider (did you mean "openai"?)'),
        ("default_provider = 'zzz'", 'default_provider: "zzz" is not a provider; known: anthropic, anthropic_bedrock'),
        (
            "default_provider = 'openai'\n[providers.openai]\nenabled = false",
            'default_provider: "openai" is not enabled',
        ),
        ("default_model = ''", "default_model: must not be empty"),
        ("default_model = 5", "default_model: must be a string"),
        *(
            (f"[{table}.{name}]\n{more}", f"the name {words}")
            for table, more in (
                ("keys", ""),
                ("teams", ""),
                ("users", ""),
                ("models", "deployments = [{ provider = 'openai', model = 'm' }]"),
            )
            for name, words in (
                ('"."', 'must not be "."'),
                ('".."', 'must not be ".."'),
                ('" "', "must not begin or end with white space"),
                ('" a"', "must not begin or end with white space"),
                ('"a\u00a0"', "must not begin or end with white space"),
                ('"a\u202eb"', "must not hold characters that are not seen"),
                ('"a\u200bb"', "must not hold characters that are not seen"),
                *((('"a/b"', 'must not hold "/"'),) if table != "models" else ()),
            )
        ),
        ("x_gateway = 'maybe'", "x_gateway: must be true or false"),
        ("x_gateway = 'true'", "x_gateway: must be true or false"),
        ("x_gateway = 1", "x_gateway: must be true or false"),
        ("[keys.k]\nenabled = 'false'", "keys.k.enabled: must be true or false"),
        ("[teams.t]\nshadow = 'yes'", "teams.t.shadow: must be true or false"),
        (
            "[teams.t]\nbudget = { usd = '1', period = 'day', hard = 'false' }",
            "teams.t.budget.hard: must be true or false",
        ),
        (f"{PROVIDER}enabled = 'off'", "providers.corp.enabled: must be true or false"),
        (
            f"{PROVIDER}quirks = {{ tool_call_ids = 'alnum8' }}",
            'providers.corp.quirks.tool_call_ids: "alnum8" is not allowed here',
        ),
        (f"{PROVIDER}quirks = {{ tells_cost = 'no' }}", "providers.corp.quirks.tells_cost: must be true or false"),
        *(
            (f"[{table}.{'n' * 257}]\n{more}", f"{table}.{'n' * 257}: the name is too long: 257 characters")
            for table, more in (
                ("keys", ""),
                ("teams", ""),
                ("users", ""),
                ("models", "deployments = [{ provider = 'openai', model = 'm' }]"),
            )
        ),
        (f"[organisation]\nname = '{'n' * 257}'", "organisation.name: is too long: 257 characters, and a name has at"),
        (f"[keys.k]\nuser = '{'n' * 257}'", "keys.k.user: is too long: 257 characters"),
        ("[teams.t]\nmarkup = '-150%'", 'teams.t.markup: "-150%" is not a percentage of -100 % and more'),
        ("cors_origins = 'https://a'", "cors_origins: must be an array"),
        ("cors_origins = ['https://a/b']", 'cors_origins[0]: "https://a/b" is not an origin'),
        ("cors_origins = ['a.example']", 'cors_origins[0]: "a.example" is not an origin'),
        ("providers = 1", "providers: must be a table"),
        (
            "[teams.search.providers.opnai]\napi_key_env = 'X'",
            'teams.search.providers.opnai: "opnai" is not a provider (did you mean "openai"?)',
        ),
        ("[teams.search.providers.openai]", "teams.search.providers.openai.api_key_env: is required"),
        (
            "[teams.search.providers.openai]\napi_key_env = 'X'\napi_key = 'sk-1'",
            'teams.search.providers.openai.api_key: is not a key here (did you mean "api_key_env"?)',
        ),
        ("[teams.search]\nprovider = 1", 'teams.search.provider: is not a key here (did you mean "providers"?)'),
        ("[providers]\ncorp = 1", "providers.corp: must be a table"),
        ('[providers.Corp]\nbase_url = "https://c/v1"', "providers.Corp: the name must be lower-case"),
        ('[providers."a:b"]\nbase_url = "https://c/v1"', 'providers."a:b": the name must be lower-case'),
        (
            PROVIDER + "[providers.co_rp]\nbase_url='https://c'\n[providers.co-rp]\nbase_url='https://c'",
            "are one spelling",
        ),
        (PROVIDER + "api_key = 'x'", 'providers.corp.api_key: is not a key here (did you mean "api_key_env"?)'),
        (
            PROVIDER + "dialect = 'soap'",
            "providers.corp.dialect: \"soap\" is not allowed here: it must be 'openai_chat'",
        ),
        (PROVIDER + "credential = 'header'", 'providers.corp.credential: "header" needs a credential_header'),
        (PROVIDER + "credential_header = 'x-key'", 'providers.corp.credential_header: needs credential = "header"'),
        (
            PROVIDER + "like = 'opnai'",
            'providers.corp.like: "opnai" is not a vendor the gateway knows (did you mean "openai"?)',
        ),
        (
            PROVIDER + "price_as = 'opnai'",
            'providers.corp.price_as: "opnai" is not in the price book (did you mean "openai"?)',
        ),
        (
            PROVIDER + "headers = { Authorization = 'x' }",
            "providers.corp.headers.Authorization: the name carries a key",
        ),
        (PROVIDER + "headers = { Host = 'x' }", "providers.corp.headers.Host: the name is set by the gateway itself"),
        (PROVIDER + "headers = { 'a b' = 'x' }", 'providers.corp.headers."a b": the name "a b" is not the name of'),
        (PROVIDER + 'headers = { a = "x\\r\\nb: c" }', "providers.corp.headers.a: must be printable ASCII"),
        (
            PROVIDER + "quirks = { steam_usage = 'ask' }",
            'providers.corp.quirks.steam_usage: is not a key here (did you mean "stream_',
        ),
        ("[providers.corp]\nbase_url = 'ftp://c'", 'providers.corp.base_url: "ftp://c" must begin with https://'),
        ("[providers.corp]", "providers.corp: needs a base_url: it is not a vendor the gateway knows"),
        ("[providers.mistrall]", 'not a vendor the gateway knows (did you mean "mistral"?)'),
        ("[providers.openai_compatible]", "providers.openai_compatible: needs a base_url"),
        ("[providers.azure-openai]", "providers.azure-openai: needs a base_url"),
        ("[providers.mine]\nlike = 'azure_openai'", "providers.mine: needs a base_url"),
        ("[models.a]", "models.a.deployments: is required"),
        ("[models.a]\ndeployments = []", "models.a.deployments: must not be empty"),
        ("[models.a]\ndeployments = [{ provider = 'openai' }]", "models.a.deployments[0].model: is required"),
        (
            "[models.a]\ndeployments = [{ provider = 'openai', model = 'm', weight = 0 }]",
            "weight: must be greater than or equal to 1",
        ),
        (
            "[models.a]\ndeployments = [{ provider = 'openai', model = 'm', weight = 1.5 }]",
            "weight: must be a whole number",
        ),
        (
            "[models.a]\ndeployments = [{ provider = 'opnai', model = 'm' }]",
            'models.a.deployments[0].provider: "opnai" is not a provider (did you mean "openai"?)',
        ),
        (
            '[models."gpt-4.1"]\ndeployments = [{ provider = "x1", model = "m" }]',
            'models."gpt-4.1".deployments[0].provider: "x1"',
        ),
        (
            '[models."a\\u0007"]\ndeployments = [{ provider = "openai", model = "m" }]',
            "the name must not hold control characters",
        ),
        (ALIAS + "fallbacks = ['b']", 'models.a.fallbacks[0]: "b" is neither a model of this file nor provider:model'),
        (
            ALIAS + "fallbacks = ['opnai:m']",
            'models.a.fallbacks[0]: "opnai" is not a provider (did you mean "openai"?)',
        ),
        (ALIAS + "fallbacks = ['a']", "models.a.fallbacks: lead in a circle: a -> a"),
        *(
            (ALIAS + f"{kind} = ['b']", f'models.a.{kind}[0]: "b" is neither a model of this file nor provider:model')
            for kind in ("context_window_fallbacks", "content_policy_fallbacks")
        ),
        *(
            (ALIAS + f"{kind} = ['a']", f"models.a.{kind}: lead in a circle: a -> a")
            for kind in ("context_window_fallbacks", "content_policy_fallbacks")
        ),
        (
            ALIAS + "context_window_fallbacks = ['opnai:m']",
            'models.a.context_window_fallbacks[0]: "opnai" is not a provider (did you mean "openai"?)',
        ),
        (ALIAS + "retries = 6", "models.a.retries: must be less than or equal to 5"),
        (ALIAS + "retries = -1", "models.a.retries: must be greater than or equal to 0"),
        (ALIAS + "retries = 1.0", "models.a.retries: must be a whole number"),
        (ALIAS + "stream_recovery = 'retry'", 'models.a.stream_recovery: "retry" is not allowed here'),
        (
            limited("a", "openai", "region = 'eu-central-1'"),
            'models.a.deployments[0].region: the base_url of "openai" names no region: write it with {region}',
        ),
        (
            limited("a", "google-vertex", "region = 'europe-west1'"),
            'models.a.deployments[0].region: the base_url of "google-vertex" names no region: write it with {region}',
        ),
        (
            limited("a", "bedrock", "region = 'eu'") + '[providers.bedrock]\nbase_url = "https://vpc.example"',
            'models.a.deployments[0].region: the base_url of "bedrock" names no region: write it with {region}',
        ),
        (
            limited("a", "bedrock", "region = 'evil.example/'"),
            'models.a.deployments[0].region: "evil.example/" is not the name of a region',
        ),
        (limited("a", "bedrock", "key = ''"), "models.a.deployments[0].key: must not be empty"),
        ("[circuit]\nfailures = 0", "circuit.failures: must be greater than or equal to 1"),
        ("[circuit]\nerror_rate = 1.5", "circuit.error_rate: must be less than or equal to 1"),
        ("[circuit]\nerror_rate = 0", "circuit.error_rate: must be greater than 0"),
        ("[circuit]\ncool_down_s = 0", "circuit.cool_down_s: must be greater than 0"),
        (
            "[circuit]\ncooldown_s = 1",
            'circuit.cooldown_s: is not a key here (did you mean "cool_down_s"?); allowed: cool_down_s, error_rate',
        ),
        (
            ALIAS
            + "fallbacks = ['b']\n[models.b]\ndeployments = [{ provider = 'openai', model = 'm' }]\nfallbacks = ['a']",
            "models.b.fallbacks: lead in a circle: a -> b -> a",
        ),
        (ALIAS + "timeouts = { idle_s = 0 }", "models.a.timeouts.idle_s: must be greater than 0"),
        (ALIAS + "timeouts = { idle_s = inf }", "models.a.timeouts.idle_s: must be a finite number"),
        (ALIAS + "timeouts = { idle = 1 }", 'models.a.timeouts.idle: is not a key here (did you mean "idle_s"?)'),
        (
            '[prices."openai:m"]\ninput = 0.10\noutput = "1"',
            'prices."openai:m".input: is a TOML float, which is not exact: write it in quotes, "0.10"',
        ),
        ('[prices."openai:m"]\ninput = "0,10"\noutput = "1"', 'prices."openai:m".input: "0,10" is not a decimal'),
        ('[prices."openai:m"]\ninput = "-1"\noutput = "1"', 'prices."openai:m".input: "-1" is not an amount of money'),
        (
            '[prices."openai:m"]\ninput = "nan"\noutput = "1"',
            'prices."openai:m".input: "nan" is not an amount of money',
        ),
        (
            '[prices."openai:m"]\ninput = "1e999999999"\noutput = "1"',
            'prices."openai:m".input: "1e999999999" is out of range',
        ),
        ('[prices."openai:m"]\ninput = true\noutput = "1"', 'prices."openai:m".input: must be a decimal in quotes'),
        ('[prices."openai:m"]\ninput = "1"', 'prices."openai:m".output: is required'),
        ('[prices.m]\ninput = "1"\noutput = "1"', "prices.m: must be named provider:model"),
        (
            '[prices."opnai:m"]\ninput = "1"\noutput = "1"',
            'prices."opnai:m": "opnai" is not a provider (did you mean "openai"?)',
        ),
        (
            "[teams.a]\nbudget = { usd = 5.50, period = 'day' }",
            'teams.a.budget.usd: is a TOML float, which is not exact: write it in quotes, "5.50"',
        ),
        (
            "[teams.a]\nbudget = { usd = 5, period = 'days' }",
            "teams.a.budget.period: \"days\" is not allowed here: it must be 'day', 'week'",
        ),
        ("[teams.a]\nbudget = 5", "teams.a.budget: must be a table"),
        ("[teams.a]\nbudget = { usd = 5 }", "teams.a.budget.period: is required"),
        ("[teams.a]\nbudget = []", "teams.a.budget: must not be empty"),
        (
            "[teams.a]\nbudget = [{ usd = 5, period = 'day' }, { usd = '5 $', period = 'week' }]",
            'teams.a.budget[1].usd: "5 $" is not a decimal',
        ),
        (
            "[teams.a]\nbudget = { usd = 5, period = 'day', sone = 'UTC' }",
            'teams.a.budget.sone: is not a key here (did you mean "zone"?); allowed: alerts, hard, period, usd, zone',
        ),
        (
            "[teams.a]\nbudget = { usd = 5, period = 'day', zone = 'Europe/Belin' }",
            'teams.a.budget.zone: "Europe/Belin" is not a time zone (did you mean "Europe/Berlin"?)',
        ),
        ("[teams.a]\nbudget = { usd = 5, period = 'day', zone = 'Europe' }", '"Europe" is not a time zone'),
        ("[teams.a]\nbudget = { usd = 5, period = 'day', zone = '../UTC' }", '"../UTC" is not a time zone'),
        ("[teams.a]\nbudget = { usd = 5, period = 'day', zone = 'localtime' }", '"localtime" is not a time zone'),
        (
            "[teams.a]\nbudget = { usd = 5, period = 'day', alerts = [0.5, 0] }",
            "teams.a.budget.alerts[1]: 0 is no share of a budget: it must be greater than 0 and at most 10",
        ),
        ("[teams.a]\nbudget = { usd = 5, period = 'day', alerts = [nan] }", "nan is no share of a budget"),
        ("[teams.a]\nbudget = { usd = 5, period = 'day', alerts = [80] }", "80 is no share of a budget"),
        ("[teams.a]\nbudget = { usd = 5, period = 'day', alerts = [0.1234567] }", "0.1234567 is too fine"),
        ("[teams.a]\nbudget = { usd = 5, period = 'day', alerts = ['0.5'] }", "alerts[0]: must be a number: a share"),
        (
            "[users.'*']\nbudget = [{ usd = 5, period = 'day' }, { usd = 6, period = 'day' }]",
            'users."*".budget[1]: there is a hard budget of that period already',
        ),
        (
            "[organisation]\nbudget = [{ usd = 5, period = 'total' }, { usd = 6, period = 'total', zone = 'Asia/Tokyo' }]",
            "organisation.budget[1]: there is a hard budget of that period already",
        ),
        (
            "[keys.a]\nbudget = [" + "{ usd = 1, period = 'day' }," * 9 + "]",
            "keys.a.budget: must hold at most 8",
        ),
        ("[teams.a]\nlimits = { rpm = 1.0 }", "teams.a.limits.rpm: must be a whole number"),
        ("[teams.a]\nlimits = { tpm = 9999999999999 }", "teams.a.limits.tpm: must be less than or equal to"),
        ("[organisation]\nnmae = 'corp'", 'organisation.nmae: is not a key here (did you mean "name"?)'),
        ("[organisation]\nlimits = { rps = 1 }", "organisation.limits.rps: is not a key here"),
        ("organisation = 'corp'", "organisation: must be a table"),
        ("abandoned = 'forget'", "abandoned: \"forget\" is not allowed here: it must be 'charge' or 'release'"),
        ("[keys.a]\non_ledger_outage = 'alow'", 'keys.a.on_ledger_outage: "alow" is not allowed here'),
        ("[users.a]\nwithout_max_tokens = 'cap'", 'users.a.without_max_tokens: "cap" is not allowed here'),
        (ALIAS + "budget = { usd = 5, period = 'day' }", "models.a.budget: is not a key here"),
        ("[keys.a]\nproviders = ['opnai']", 'keys.a.providers[0]: "opnai" is not a provider (did you mean "openai"?)'),
        ("[keys.a]\nmetadata = { a = 1 }", "keys.a.metadata.a: must be a string"),
        (
            limited("a", "azure-openai", "limits = { rpm = 1 }") + limited("b", "azure_openai", "limits = { rpm = 2 }"),
            "models.b.deployments[0].limits: azure_openai:m has other limits at models.a.deployments[0].limits",
        ),
        (
            limited("a", "openai", "limits = { rpm = 1 }")
            + limited("b", "openai", "limits = { rpm = 1 }, shadow = true"),
            "models.b.deployments[0].limits: openai:m has other limits at models.a.deployments[0].limits",
        ),
        ("[teams.a]\nlimits = { rpm = 0 }", "teams.a.limits.rpm: must be greater than or equal to 1"),
        (
            "[teams.a]\nlimits = { rpms = 1 }",
            'teams.a.limits.rpms: is not a key here (did you mean "rpm"?); allowed: parallel, rpm, tpm',
        ),
        ("[keys.a]\nteam = 'serch'\n[teams.search]", 'keys.a.team: "serch" is not a team (did you mean "search"?)'),
        ("[keys.a]\nteam = 'search'", 'keys.a.team: "search" is not a team; there are none'),
        ("[keys.a]\nrole = 'root'", "keys.a.role: \"root\" is not allowed here: it must be 'admin'"),
        ("[keys.a]\nrole = 'team-admin'", 'keys.a.role: "team-admin" needs a team'),
        ("[keys.a]\nkey = 'short'", "keys.a.key: must be at least 8 printable ASCII characters"),
        ("[keys.a]\nkey = 'sk-same-as-b'\n[keys.b]\nkey = 'sk-same-as-b'", "keys.b.key: is also the key of keys.a"),
        ("[keys.a]\nexpires_at = 2027-01-31", "keys.a.expires_at: must be a date and time with an offset"),
        ("[keys.a]\nexpires_at = 2027-01-31T00:00:00", "keys.a.expires_at: must be a date and time with an offset"),
    ],
)
def test_a_fault_names_its_place_and_what_is_allowed(text: str, expected: str) -> None:
    (fault,) = faults(text)
    assert expected in fault


def test_every_fault_is_told_at_once() -> None:
    models = "[models.a]\ndeployments = [{ provider = 'x', model = 5, wieght = 1 }]\n"
    assert len(faults("default_modle = 'a'\n" + models + "[keys.a]\nkey = 'short'")) == 4


@pytest.mark.parametrize("text", ["a = ", "[a\n", "a = 1\na = 2", "x = 'a", '"'])
def test_what_is_not_toml_is_told_with_its_line(text: str) -> None:
    (fault,) = faults(text)
    assert re.search(r"is not TOML: .*\(at (line \d+, column \d+|end of document)\)", fault)


@pytest.mark.parametrize(
    "text",
    [
        f"[keys.a]\nkey = '{TOKEN}'\n[keys.b]\nkey = '{TOKEN}'",
        f"[keys.a]\nkey = '{TOKEN} '",
        f"[keys.a]\nkey = ['{TOKEN}']",
        f"[keys.a]\nkye = '{TOKEN}'",
        f"[keys.a]\nkey = '{TOKEN}'\nrole = 'root'",
        f"[providers.corp]\nbase_url = 'https://u:{TOKEN}@c/v1'",
        f"[providers.openai]\nheaders = {{ Authorization = 'Bearer {TOKEN}' }}",
        f"[providers.openai]\napi_key = '{TOKEN}'",
    ],
)
def test_no_key_is_ever_in_an_error(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "gateway.toml")
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
