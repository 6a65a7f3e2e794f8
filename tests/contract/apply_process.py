"""A process that applies two configurations in turn until it is killed: `python -m tests.contract.apply_process URL TABLE`.

It says `ready` once the first is there.
"""

import sys
from typing import Any

from llm_gateway.cli.configuration import OnTables
from llm_gateway.local.place import Place
from llm_gateway.upstream.credentials import AwsCredentials

COUNT = 8


def file(word: str) -> dict[str, Any]:
    """A configuration that says `word` everywhere: in one table of each kind, and in most leaves of the registry."""
    deployment = {"provider": "echo", "model": word}
    return {
        "default_model": word,
        "organisation": {"name": word},
        "providers": {"corp": {"base_url": f"https://{word}.corp.example/v1"}},
        "models": {f"m{number}": {"deployments": [deployment]} for number in range(COUNT)},
        "prices": {"echo:demo": {"input": "1", "output": {"old": "1", "new": "2"}[word]}},
        "teams": {f"t{number}": {"description": word} for number in range(COUNT)},
        "users": {word: {}},
        "keys": {f"k{number}": {"owner": word, "budget": {"usd": "1", "period": "day"}} for number in range(COUNT)},
    }


def main() -> None:
    url, table = sys.argv[1:]
    place = Place(table, "", "", "us-east-1", AwsCredentials("testing", "testing"), url)
    tables = OnTables(place, "stack")
    apply(tables, "old")
    print("ready", flush=True)
    while True:
        apply(tables, "new")
        apply(tables, "old")


def apply(tables: OnTables, word: str) -> None:
    revision = tables.plan(file(word), prune=True)["revision"]
    tables.apply(file(word), prune=True, revision=revision)


if __name__ == "__main__":
    main()
