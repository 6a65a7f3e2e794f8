"""Specifies how an identity provider is named in the environment, and that nothing of it is loaded where none is."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from llm_gateway.settings import Settings

WHOLE = {"OIDC_ISSUER": "https://id.corp.example", "OIDC_AUDIENCE": "llm-gateway"}


def test_two_variables_are_enough() -> None:
    settings = Settings.from_environment(WHOLE)
    assert settings.oidc_audience == ("llm-gateway",)
    assert settings.oidc_algorithms == ("RS256", "ES256")
    assert (settings.oidc_name_claim, settings.oidc_default_role, settings.oidc_leeway_s) == ("sub", "caller", 60)


def test_lists_and_pairs() -> None:
    settings = Settings.from_environment(
        {
            **WHOLE,
            "OIDC_AUDIENCE": "one, two",
            "OIDC_ALGORITHMS": "ES256",
            "OIDC_ROLE_CLAIM": "groups",
            "OIDC_ROLES": "llm-ops=admin, leads = team-admin,",
            "OIDC_TEAM_CLAIM": "groups",
            "OIDC_TEAMS": '{"CN=search,OU=corp": "search"}',
        }
    )
    assert settings.oidc_audience == ("one", "two")
    assert settings.oidc_algorithms == ("ES256",)
    assert settings.oidc_roles == {"llm-ops": "admin", "leads": "team-admin"}
    assert settings.oidc_teams == {"CN=search,OU=corp": "search"}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"OIDC_AUDIENCE": ""}, "OIDC_AUDIENCE"),
        ({"OIDC_ISSUER": "http://id.corp.example"}, "https"),
        ({"OIDC_ISSUER": "id.corp.example"}, "https"),
        ({"OIDC_JWKS_URL": "http://id.corp.example/keys"}, "https"),
        ({"OIDC_ALGORITHMS": "HS256"}, "OIDC_ALGORITHMS"),
        ({"OIDC_ALGORITHMS": "none"}, "OIDC_ALGORITHMS"),
        ({"OIDC_LEEWAY_S": "3600"}, "OIDC_LEEWAY_S"),
        ({"OIDC_ROLES": "ops=root", "OIDC_ROLE_CLAIM": "r"}, "OIDC_ROLES"),
        ({"OIDC_ROLES": "ops", "OIDC_ROLE_CLAIM": "r"}, "OIDC_ROLES"),
        ({"OIDC_ROLES": "{", "OIDC_ROLE_CLAIM": "r"}, "OIDC_ROLES"),
        ({"OIDC_ROLES": "ops=admin"}, "OIDC_ROLE_CLAIM"),
        ({"OIDC_TEAMS": "g=search"}, "OIDC_TEAM_CLAIM"),
        ({"OIDC_DEFAULT_ROLE": "admin"}, "OIDC_DEFAULT_ROLE"),
    ],
)
def test_what_is_half_said_or_unsafe_stops_the_start(changed: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Settings.from_environment({**WHOLE, **changed})


LOADED = """
import os, sys
from llm_gateway.bootstrap import build_lambda_app
build_lambda_app()
print(*sorted({name.split('.')[0] for name in sys.modules} & {'jwt', 'cryptography'}), 'llm_gateway.pipeline.oidc' in sys.modules)
"""


@pytest.mark.parametrize(("oidc", "loaded"), [({}, "False"), (WHOLE, "jwt True")])
def test_a_gateway_without_one_loads_nothing_for_it(
    bare_environ: dict[str, str], oidc: dict[str, str], loaded: str
) -> None:
    credentials = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "x"}
    # As in the deployed layer: PyJWT takes `cryptography` where it finds it, and there it is not.
    code = f"import sys\nsys.modules['cryptography'] = None\n{LOADED}".replace("{'jwt', 'cryptography'}", "{'jwt'}")
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**bare_environ, **credentials, **oidc},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == loaded.split()
