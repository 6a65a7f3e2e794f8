"""`llm-gateway providers …`: over the control plane, with an admin's key."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_gateway.cli.failures import BadInput, ExitCode, Refused
from llm_gateway.cli.shell import Shell, with_shell
from llm_gateway.cli.values import known_providers

if TYPE_CHECKING:
    from llm_gateway.cli.client import Gateway

providers = typer.Typer(
    help="Providers: those that ship with the gateway, and yours.", no_args_is_help=True, rich_markup_mode="rich"
)


@providers.command("list")
@with_shell
def list_all(
    shell: Shell,
    ready: Annotated[bool, typer.Option("--ready", help="Only those that have a key, or that you configured.")] = False,
) -> None:
    """List the providers: which have a key, which you have configured."""
    with shell.gateway() as gateway:
        found = [each for each in gateway.pages("/admin/providers") if not ready or _ready(each)]
    columns = ("NAME", "WIRE", "ENABLED", "KEY", "CONFIGURED", "ADDRESS")
    rows = [
        (
            each["provider_id"],
            each["provider_type"],
            each["enabled"],
            each["api_key"]["configured"],
            each["configured"],
            each["connection_params"].get("base_url"),
        )
        for each in found
    ]
    shell.out.show({"data": found}, lambda: shell.out.table(columns, rows, empty="no provider is ready"))


@providers.command("show")
@with_shell
def show(
    shell: Shell, name: Annotated[str, typer.Argument(help="The provider's name.", autocompletion=known_providers)]
) -> None:
    """Show one provider."""
    from llm_gateway.cli.client import segment

    with shell.gateway() as gateway:
        found = gateway.get(f"/admin/providers/{segment(name)}")

    def people() -> None:
        key = found["api_key"]
        rows: list[tuple[str, object]] = [
            ("name", found["provider_id"]),
            ("display name", found["display_name"]),
            ("description", found["description"]),
            ("wire", found["provider_type"]),
            ("enabled", found["enabled"]),
            ("configured", found["configured"]),
            ("key", key["configured"]),
            ("key is due", key.get("rotate_at")),
        ]
        rows += [(name, value) for name, value in found["connection_params"].items() if value is not None]
        rows.append(("models of yours", [model["model_id"] for model in found["models"]]))
        shell.out.table(("MEMBER", "VALUE"), rows)

    shell.out.show(found, people)


@providers.command("test")
@with_shell
def call(
    shell: Shell,
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Providers; without one, all that `list --ready` shows.", autocompletion=known_providers),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Call this model, instead of listing the models.")] = None,
) -> None:
    """Make one real call to each provider: of its list of models, which is free, or of a model."""
    if model is not None and len(names or ()) != 1:
        raise BadInput("a model is one provider's: name the provider, too")
    with shell.gateway() as gateway:
        wanted = list(names or (each["provider_id"] for each in gateway.pages("/admin/providers") if _ready(each)))
        with shell.out.progress("calling providers", len(wanted)) as step:
            results = []
            for each in wanted:
                results.append(_tested(gateway, each, model))
                step(1)
    columns = ("PROVIDER", "OK", "CALLED", "STATUS", "MS", "ERROR")
    rows = [
        (
            each["provider_id"],
            each["ok"],
            each["model"] or each["called"],
            each["status"],
            each["latency_ms"],
            (each["error"] or {}).get("message"),
        )
        for each in results
    ]
    shell.out.show({"data": results}, lambda: shell.out.table(columns, rows, right=("STATUS", "MS")))
    if not all(each["ok"] for each in results):
        raise typer.Exit(ExitCode.FAILED)


def _tested(gateway: "Gateway", name: str, model: str | None) -> dict[str, Any]:
    """A test that cannot be made is one that failed, but for a provider that is not there. Raises `Refused`."""
    from llm_gateway.cli.client import segment

    try:
        body = {} if model is None else {"model": model}
        return dict(gateway.post(f"/admin/providers/{segment(name)}/test", body))
    except Refused as refusal:
        if refusal.status in (401, 403, 404):
            raise
        error = {"message": _advice(gateway, name) or str(refusal), "code": refusal.code}
        return {
            "object": "provider_test",
            "ok": False,
            "provider_id": name,
            "model": model,
            "called": None,
            "status": None,
            "latency_ms": None,
            "error": error,
            "usage": None,
        }


def _advice(gateway: "Gateway", name: str) -> str | None:
    """For a provider without a key: the control plane's own words are for those who speak HTTP with it."""
    from llm_gateway.cli.client import segment

    provider = gateway.get(f"/admin/providers/{segment(name)}")
    if provider["api_key"]["configured"] or not provider["enabled"]:
        return None
    return f"it has no key: llm-gateway secrets set {name}"


def _ready(provider: dict[str, Any]) -> bool:
    """Whether it is meant to be called: enabled, and with a key, or configured without one, or the built-in `echo`."""
    known = provider["api_key"]["configured"] or provider["configured"] or provider["provider_id"] == "echo"
    return bool(provider["enabled"] and known)
