"""How a mistake in configuration is told."""

import difflib
import re
from collections.abc import Iterable, Sequence

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


class ConfigError(ValueError):
    """Configuration that cannot be used. One line per fault: where it is, what is wrong, what is allowed."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


def where(path: Sequence[str | int]) -> str:
    """A place as TOML would spell it: `models.fast.deployments[0].provider`, `models."gpt-4.1".timeouts`.

    >>> where(("models", "gpt-4.1", "deployments", 0, "provider"))
    'models."gpt-4.1".deployments[0].provider'
    """
    spelled = ""
    for step in path:
        if isinstance(step, int):
            spelled += f"[{step}]"
            continue
        key = step if _BARE_KEY.match(step) else '"' + step.replace("\\", "\\\\").replace('"', '\\"') + '"'
        spelled += f".{key}" if spelled else key
    return spelled


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean "corp"?)` where something close is known, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f' (did you mean "{close[0]}"?)' if close else ""


def one_of(known: Iterable[str]) -> str:
    """The allowed words as a sentence's end: `a, b, c`."""
    return ", ".join(sorted(known))
