"""The rules between the tables of gateway.toml: names that must exist, cycles, doubles, what a provider needs."""

import re
from collections.abc import Iterable, Iterator, Mapping

from llm_gateway.catalog.faults import did_you_mean, one_of, where
from llm_gateway.catalog.price_files import priced_providers
from llm_gateway.catalog.providers import ProviderRow, canonical, provider_rows
from llm_gateway.catalog.schema import (
    ApartTable,
    DeploymentTable,
    GatewayFile,
    ProviderTable,
    RuleTable,
    SpendingTable,
)

FALLBACKS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
"""The keys of a model's table that name other models."""

Place = tuple[str | int, ...]

_PROVIDER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")


def cross_faults(file: GatewayFile) -> Iterator[str]:
    """One line per broken rule, without the file's name."""
    known = {*provider_rows(), *map(canonical, file.providers)}
    yield from _provider_faults(file)
    yield from _default_faults(file, known)
    yield from _model_faults(file, known)
    for kind in FALLBACKS:
        yield from _cycle_faults(file, kind)
    yield from _price_faults(file, known)
    yield from _team_faults(file, known)
    yield from _key_faults(file, known)
    yield from _budget_faults(file)
    yield from _deployment_limit_faults(file)


def _provider_faults(file: GatewayFile) -> Iterator[str]:
    spelled: dict[str, str] = {}
    for name, table in file.providers.items():
        place = where(("providers", name))
        if not _PROVIDER_NAME.match(name):
            yield f"{place}: the name must be lower-case letters, digits, _ and -"
            continue
        if canonical(name) in spelled:
            yield f'{place}: is the same provider as "{spelled[canonical(name)]}": - and _ are one spelling'
            continue
        spelled[canonical(name)] = name
        yield from _one_provider_faults(place, canonical(name), table)


def _one_provider_faults(place: str, name: str, table: ProviderTable) -> Iterator[str]:
    rows = provider_rows()
    if table.like is not None and canonical(table.like) not in rows:
        yield f'{place}.like: "{table.like}" is not a vendor the gateway knows{_hint(table.like, rows)}'
        return
    row = rows.get(canonical(table.like) if table.like else name)
    if table.base_url is None and (row is None or row.base_url is None):
        yield f"{place}: needs a base_url{_unknown_vendor(name, row, rows)}"
    credential = table.credential or (row.credential if row else "bearer")
    if credential == "header" and not (table.credential_header or (row and row.credential_header)):
        yield f'{place}.credential: "header" needs a credential_header, the header that carries the key'
    if credential != "header" and table.credential_header:
        yield f'{place}.credential_header: needs credential = "header"'
    if table.price_as is not None and canonical(table.price_as) not in priced_providers():
        hint = _hint(table.price_as, priced_providers())
        yield f'{place}.price_as: "{table.price_as}" is not in the price book{hint}'


def _unknown_vendor(name: str, row: ProviderRow | None, rows: Mapping[str, ProviderRow]) -> str:
    if row is not None:
        return f": {row.display_name} has none of its own"
    return f": it is not a vendor the gateway knows{did_you_mean(name, rows)}"


def _default_faults(file: GatewayFile, known: Iterable[str]) -> Iterator[str]:
    default = file.default_provider
    if default is None:
        return
    if canonical(default) not in known:
        yield f"default_provider: {_not_a_provider(default, known)}"
    elif any(canonical(name) == canonical(default) and not table.enabled for name, table in file.providers.items()):
        yield f'default_provider: "{default}" is not enabled'


def _model_faults(file: GatewayFile, known: Iterable[str]) -> Iterator[str]:
    for alias, model in file.models.items():
        place = ("models", alias)
        for index, deployment in enumerate(model.deployments):
            yield from _deployment_faults((*place, "deployments", index), deployment, file, known)
        for kind in ("canary", "shadow_traffic"):
            if (apart := getattr(model, kind)) is not None:
                yield from _deployment_faults((*place, kind), apart, file, known)
        for kind in FALLBACKS:
            for index, target in enumerate(getattr(model, kind)):
                yield from _target_faults((*place, kind, index), target, file, known)
        for index, rule in enumerate(model.rules):
            yield from _rule_faults((*place, "rules", index), alias, rule, file, known)
        if model.sticky_by is not None and model.strategy != "sticky":
            yield f'{where((*place, "sticky_by"))}: needs strategy = "sticky"'


def _deployment_faults(
    place: Place, deployment: DeploymentTable | ApartTable, file: GatewayFile, known: Iterable[str]
) -> Iterator[str]:
    if canonical(deployment.provider) not in known:
        yield f"{where((*place, 'provider'))}: {_not_a_provider(deployment.provider, known)}"
    elif deployment.region is not None and "{region}" not in _base_url(deployment.provider, file):
        yield (
            f'{where((*place, "region"))}: the base_url of "{deployment.provider}" names no region: '
            "write it with {region}"
        )


def _rule_faults(place: Place, alias: str, rule: RuleTable, file: GatewayFile, known: Iterable[str]) -> Iterator[str]:
    when = rule.when
    if not when.model_dump(exclude_defaults=True):
        yield f"{where((*place, 'when'))}: says nothing: name a condition, or change the deployments themselves"
    above, below = when.input_tokens_above, when.input_tokens_below
    if above is not None and below is not None and below - above < 2:
        yield f"{where((*place, 'when'))}: never holds: no number is above {above} and below {below}"
    if rule.use == alias:
        yield f"{where((*place, 'use'))}: is the model itself"
    else:
        yield from _target_faults((*place, "use"), rule.use, file, known)


def _base_url(provider: str, file: GatewayFile) -> str:
    """As it is written, before a region is put in; empty where neither the file nor the vendor's row has one."""
    rows = provider_rows()
    table = next((each for name, each in file.providers.items() if canonical(name) == canonical(provider)), None)
    if table is not None and table.base_url is not None:
        return table.base_url
    row = rows.get(canonical(table.like if table is not None and table.like else provider))
    return (row.base_url if row is not None else None) or ""


def _target_faults(place: Place, target: str, file: GatewayFile, known: Iterable[str]) -> Iterator[str]:
    if target in file.models:
        return
    provider, colon, rest = target.partition(":")
    if not colon or not rest:
        aliases = did_you_mean(target, file.models)
        yield f'{where(place)}: "{target}" is neither a model of this file{aliases} nor provider:model'
    elif canonical(provider) not in known:
        yield f"{where(place)}: {_not_a_provider(provider, known)}"


def _cycle_faults(file: GatewayFile, kind: str) -> Iterator[str]:
    """Fallbacks of one kind that lead back to where they began, by a walk in depth."""
    finished: set[str] = set()
    for start in file.models:
        if start in finished:
            continue
        trail, pending = [start], [_aliases_after(start, kind, file)]
        while pending:
            alias = next(pending[-1], None)
            if alias is None:
                pending.pop()
                finished.add(trail.pop())
            elif alias in trail:
                cycle = " -> ".join([*trail[trail.index(alias) :], alias])
                yield f"{where(('models', trail[-1], kind))}: lead in a circle: {cycle}"
            elif alias not in finished:
                trail.append(alias)
                pending.append(_aliases_after(alias, kind, file))


def _aliases_after(alias: str, kind: str, file: GatewayFile) -> Iterator[str]:
    return iter([target for target in getattr(file.models[alias], kind) if target in file.models])


def _price_faults(file: GatewayFile, known: Iterable[str]) -> Iterator[str]:
    spelled: dict[str, str] = {}
    for target in file.prices:
        place = where(("prices", target))
        provider, _, model = target.partition(":")
        if not model:
            yield f'{place}: must be named provider:model, such as "corp:small-1"'
        elif canonical(provider) not in known:
            yield f"{place}: {_not_a_provider(provider, known)}"
        elif (same := spelled.setdefault(f"{canonical(provider)}:{model}", target)) != target:
            yield f'{place}: is the same model as "{same}": - and _ are one spelling'
        sizes = [tier.input_tokens for tier in file.prices[target].above or ()]
        if len(sizes) != len(set(sizes)):
            yield f"{place}.above: has the same input_tokens twice"


def _team_faults(file: GatewayFile, known: Iterable[str]) -> Iterator[str]:
    for team, table in file.teams.items():
        for name in table.providers:
            if canonical(name) not in known:
                yield f"{where(('teams', team, 'providers', name))}: {_not_a_provider(name, known)}"


def _key_faults(file: GatewayFile, known: Iterable[str]) -> Iterator[str]:
    owners: dict[str, str] = {}
    for name, table in file.keys.items():
        if table.team is not None and table.team not in file.teams:
            yield f'{where(("keys", name, "team"))}: "{table.team}" is not a team{_hint(table.team, file.teams)}'
        for index, provider in enumerate(table.providers or ()):
            if canonical(provider) not in known:
                yield f"{where(('keys', name, 'providers', index))}: {_not_a_provider(provider, known)}"
        if table.role == "team-admin" and table.team is None:
            yield f'{where(("keys", name, "role"))}: "team-admin" needs a team'
        if table.key is not None:
            owner = owners.setdefault(table.key.get_secret_value(), name)
            if owner != name:
                yield f"{where(('keys', name, 'key'))}: is also the key of {where(('keys', owner))}"


def _budget_faults(file: GatewayFile) -> Iterator[str]:
    """Two budgets that count the same dollars: the smaller one is all there is."""
    for path, table in _spending(file):
        seen: set[tuple[str, str, bool]] = set()
        for index, budget in enumerate(table.budgets):
            counted = (budget.period, "" if budget.period == "total" else budget.zone, budget.hard)
            if counted in seen:
                kind = "hard" if budget.hard else "soft"
                yield f"{where((*path, 'budget', index))}: there is a {kind} budget of that period already"
            seen.add(counted)


def _spending(file: GatewayFile) -> Iterator[tuple[tuple[str, ...], SpendingTable]]:
    if file.organisation is not None:
        yield ("organisation",), file.organisation
    yield from ((("teams", name), table) for name, table in file.teams.items())
    yield from ((("users", name), table) for name, table in file.users.items())
    yield from ((("keys", name), table) for name, table in file.keys.items())


def _deployment_limit_faults(file: GatewayFile) -> Iterator[str]:
    """Limits are the deployment's, whichever alias leads to it: two of them cannot both be."""
    first: dict[str, tuple[str, DeploymentTable]] = {}
    for alias, model in file.models.items():
        for index, deployment in enumerate(model.deployments):
            if deployment.limits is None:
                continue
            place = where(("models", alias, "deployments", index, "limits"))
            target = f"{canonical(deployment.provider)}:{deployment.model}"
            at, other = first.setdefault(target, (place, deployment))
            if (other.limits, other.shadow) != (deployment.limits, deployment.shadow):
                yield f"{place}: {target} has other limits at {at}"


def _not_a_provider(name: str, known: Iterable[str]) -> str:
    return f'"{name}" is not a provider{did_you_mean(name, known) or f"; known: {one_of(known)}"}'


def _hint(word: str, known: Iterable[str]) -> str:
    close = did_you_mean(word, known)
    return close or (f"; known: {one_of(known)}" if any(known) else "; there are none")
