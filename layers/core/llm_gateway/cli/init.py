"""`llm-gateway init`: a few questions, and a gateway.toml to start from."""

import json as jsonlib
import os
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from llm_gateway.cli.failures import BadInput
from llm_gateway.cli.shell import Shell, with_shell

if TYPE_CHECKING:
    from llm_gateway.catalog.providers import ProviderRow

ALIAS: Final = "fast"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
PROPOSED: Final[Mapping[str, str]] = {
    "openai": "gpt-4.1-mini",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
    "bedrock": "amazon.nova-lite-v1:0",
    "mistral": "mistral-small-latest",
    "groq": "llama-3.3-70b-versatile",
    "deepseek": "deepseek-chat",
    "openrouter": "openai/gpt-4.1-mini",
    "echo": "demo",
}
"""A small model of each, whose price is known: something to begin with."""


@dataclass
class Wanted:
    """What the file is to say. `providers` in the order in which they are tried, with the model and the address."""

    providers: list[tuple[str, str]] = field(default_factory=list)
    base_urls: dict[str, str] = field(default_factory=dict)
    budget: Decimal | None = None
    own: set[str] = field(default_factory=set)
    """Those that no vendor is called like: the file says which variable their key is in."""


@with_shell
def init(
    shell: Shell,
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("gateway.toml"),
    provider: Annotated[
        list[str] | None, typer.Option("--provider", help="A provider to use, in order of preference; may be repeated.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The first provider's model.")] = None,
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", help="Where a server of your own is, whatever --provider calls it: …/v1."),
    ] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="US dollars a month for everybody together.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take the defaults.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a gateway.toml to start from: an alias over the providers you have keys for, and a budget."""
    if file.is_dir():
        raise BadInput(f"{file} is a directory: name a file in it")
    if file.exists() and not force:
        raise BadInput(f"{file} is there already: --force replaces it")
    if not yes and not shell.out.asks:
        raise BadInput("there is no terminal to ask in: --yes takes the defaults")
    questions = _Questions(shell.environ, asks=not yes)
    wanted = questions.wanted(provider or [], model, base_url, budget)
    text = written(wanted, _schema_beside(file))
    _check(text, file)
    try:
        _replace(file, text)
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error.strerror or error}") from None
    missing = keys_missing([name for name, _ in wanted.providers], shell.environ, wanted.own)
    found = {"file": str(file), "providers": [name for name, _ in wanted.providers], "keys_missing": missing}
    shell.out.show(found, lambda: shell.out.say("\n".join([f"{file} is written"])))
    for variable in missing:
        shell.out.note(f"put the key into the environment, or into .env: {variable}=…")
    shell.out.note(f"serve it here: make run CONFIG={file}")
    shell.out.note(f"or send it to a gateway that runs: llm-gateway apply {file}")


class _Questions:
    """`asks` is whether there is anybody to answer."""

    def __init__(self, environ: Mapping[str, str], *, asks: bool) -> None:
        self._environ = environ
        self._asks = asks

    def wanted(self, providers: Sequence[str], model: str | None, base_url: str | None, budget: str | None) -> Wanted:
        names = [known(name, own=base_url is not None) for name in providers] or self._providers()
        wanted = Wanted(own={name for name in names if _row(name) is None})
        for name in dict.fromkeys(names):
            first = not wanted.providers
            row = _row(name)
            if row is None or (row.base_url is None and row.dialect == "openai_chat"):
                address = base_url or self._ask(f"Address of {name} (…/v1)", "")
                if not address:
                    raise BadInput(f"{name} needs an address: give it with --base-url")
                wanted.base_urls[name] = address
            chosen = model if first and model else self._ask(f"Model of {name}", PROPOSED.get(name, ""))
            if not chosen:
                raise BadInput(f"name a model of {name} with --model")
            wanted.providers.append((name, chosen))
        if base_url and base_url not in wanted.base_urls.values():
            if not providers or names[0] == "echo":
                raise BadInput("--base-url is the address of a provider: say which with --provider")
            wanted.base_urls[names[0]] = base_url
        wanted.budget = _money(budget if budget is not None else self._ask("Budget a month, in US dollars", "none"))
        return wanted

    def _providers(self) -> list[str]:
        found = configured(self._environ)
        asked = self._ask("Providers, in order of preference", ", ".join(found) or "echo")
        return [known(name) for name in asked.replace(",", " ").split()]

    def _ask(self, question: str, default: str) -> str:
        if not self._asks:
            return default
        answer: str = typer.prompt(question, default=default, err=True)
        return answer.strip()


def configured(environ: Mapping[str, str]) -> list[str]:
    """The providers that we can propose a model of, and whose key is in the environment."""
    return [name for name in PROPOSED if any(map(environ.get, _variables(name)))]


def keys_missing(providers: Sequence[str], environ: Mapping[str, str], own: Container[str] = ()) -> list[str]:
    """The variables that would hold the keys which are not there."""
    wanted = [(key_variable(name),) if name in own else _variables(name) for name in providers]
    return [variables[0] for variables in wanted if variables and not any(map(environ.get, variables))]


def key_variable(name: str) -> str:
    """What the key of a server of one's own is called: `corp-llm` has `CORP_LLM_API_KEY`."""
    return name.upper().replace("-", "_") + "_API_KEY"


def known(name: str, *, own: bool = False) -> str:
    """A provider's one spelling; `own` takes one that is no vendor's. Raises `BadInput`."""
    from llm_gateway.catalog.faults import did_you_mean
    from llm_gateway.catalog.providers import canonical, provider_rows

    found = canonical(name.strip().lower())
    if own and not _NAME.fullmatch(found):
        raise BadInput(f"{name!r} cannot be the name of a provider: lower-case letters, digits, _ and - can")
    if found not in provider_rows() and not own:
        raise BadInput(
            f"{name} is not a provider that the gateway knows{did_you_mean(found, provider_rows())};"
            " docs/providers.md lists them"
        )
    return found


def _row(name: str) -> "ProviderRow | None":
    from llm_gateway.catalog.providers import provider_rows

    return provider_rows().get(name)


def _variables(name: str) -> tuple[str, ...]:
    row = _row(name)
    return row.api_key_env if row is not None else ()


def _money(text: str) -> Decimal | None:
    if text.strip().lower() in ("", "none", "no", "0"):
        return None
    try:
        usd = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        usd = Decimal(-1)
    if not usd.is_finite() or usd <= 0:
        raise BadInput(f"{text!r} is no amount of US dollars: write such as 50 or 12.50, or none")
    return usd


def _schema_beside(file: Path) -> str | None:
    """The file's JSON Schema, relative to it, where it is written into a clone of this project."""
    schema = "docs/gateway.schema.json"
    return schema if (file.parent / schema).is_file() else None


def written(wanted: Wanted, schema: str | None = None) -> str:
    """The file. `schema` is what editors complete and check it with."""
    (first, model), *others = wanted.providers
    lines = [] if schema is None else [f"#:schema {schema}"]
    lines += [
        "# What llm-gateway serves. docs/configuration.md has everything that can stand here.",
        f"default_provider = {_text(first)}  # serves models that are named without a provider",
        f"default_model = {_text(ALIAS)}",
        "",
    ]
    for name, address in wanted.base_urls.items():
        lines += [f"[providers.{name}]", f"base_url = {_text(address)}"]
        if name in wanted.own:
            variable = _text(key_variable(name))
            lines.append(f'api_key_env = {variable}  # or credential = "none", where it wants no key')
        lines.append("")
    lines += [
        f"[models.{ALIAS}]  # callers say `model: {ALIAS}`; who serves it can change here",
        f"deployments = [{{ provider = {_text(first)}, model = {_text(model)} }}]",
    ]
    if others:
        targets = ", ".join(_text(f"{name}:{theirs}") for name, theirs in others)
        lines.append(f"fallbacks = [{targets}]  # tried in this order when the first one fails")
    if wanted.budget is not None:
        usd = f"{wanted.budget:f}"
        lines += ["", "[organisation]", f'budget = {{ usd = {_text(usd)}, period = "month" }}  # never overspent']
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """A TOML basic string, of which a JSON string is one."""
    return jsonlib.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _check(text: str, file: Path) -> None:
    """Raises `ConfigError` for what the gateway would not take, before anything is written."""
    from llm_gateway.catalog.config import parse_config

    parse_config(text, file.name)


def _replace(file: Path, text: str) -> None:
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(text, "utf-8")
    beside.replace(file)
