"""Lambda's event filters, as far as the template uses them: lists of values, `prefix` and `exists` at the leaves.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html (`exists` works on leaves only) and
https://docs.aws.amazon.com/lambda/latest/dg/with-ddb-filtering.html
"""

from typing import Any

_NOTHING = object()


def matches(pattern: dict[str, Any], event: Any) -> bool:
    """Whether every member of the pattern has a rule that the event's member keeps."""
    for name, rules in pattern.items():
        value = event.get(name, _NOTHING) if isinstance(event, dict) else _NOTHING
        if isinstance(rules, dict):
            if not matches(rules, {} if value is _NOTHING else value):
                return False
        elif not any(_keeps(rule, value) for rule in rules):
            return False
    return True


def _keeps(rule: Any, value: Any) -> bool:
    if not isinstance(rule, dict):
        return bool(rule == value)
    ((kind, argument),) = rule.items()
    if kind == "exists":
        return bool((value is not _NOTHING and not isinstance(value, dict)) == argument)
    if kind == "prefix":
        return isinstance(value, str) and value.startswith(argument)
    raise ValueError(f"the template uses a rule that is not known here: {kind}")
