"""`reasoning_effort` in Claude's terms, and what thinking excludes.

Newer models think adaptively: `thinking: {"type": "adaptive"}` with `output_config.effort`. Older ones take a budget of
tokens, at least 1,024 and below `max_tokens`, which counts thinking and answer together; a caller's limit is never
raised. Thinking excludes a forced tool (the tool is what was asked for, so thinking gives way) and sampling parameters,
which the newest models refuse altogether. A caller's own `thinking` or `output_config` goes up as it is.
Sources: https://platform.claude.com/docs/en/build-with-claude/thinking,
https://platform.claude.com/docs/en/build-with-claude/extended-thinking (budgets; feature compatibility),
https://platform.claude.com/docs/en/build-with-claude/effort
"""

from collections.abc import Mapping
from typing import Any

from llm_gateway.errors import InvalidRequest

LEAST_BUDGET = 1024
_MOST_BUDGET = 32_000
"""Above it Anthropic advises batches, since single requests run into timeouts."""
_SHARES = {"minimal": 10, "low": 20, "medium": 50, "high": 80, "xhigh": 95, "max": 95}
"""Of `max_tokens`, in percent: https://openrouter.ai/docs/use-cases/reasoning-tokens"""
_LEVELS = ("low", "medium", "high", "xhigh", "max")
_SAMPLING = ("temperature", "top_p", "top_k")


class Reasoning:
    """What one request asks of a model's thinking; `warnings` is added to. `forced`: a tool has to be called."""

    def __init__(
        self, fields: Mapping[str, Any], facts: Mapping[str, Any], *, forced: bool, warnings: list[str]
    ) -> None:
        self._fields = fields
        self._facts = facts
        self._forced = forced
        self._warnings = warnings

    def apply(self, body: dict[str, Any], *, unsigned_tool_use: bool) -> None:
        """Sets `thinking`, `output_config.effort` and the sampling parameters of `body`, which has `max_tokens`.

        `unsigned_tool_use`: tool results follow on a turn whose thinking the caller did not give back, which a model
        with a budget refuses. Raises `InvalidRequest`.
        """
        own = self._fields.get("thinking")
        if own is not None:
            body["thinking"] = own
            if self._fields.get("reasoning_effort") is not None:
                self._warnings.append("reasoning_effort was dropped: the request sets `thinking` itself")
            thinks = not (isinstance(own, dict) and own.get("type") in ("disabled", "between_tools"))
        else:
            thinks = self._ask(body, self._effort(), unsigned_tool_use=unsigned_tool_use)
        self._sample(body, thinks=thinks)

    def _effort(self) -> str | None:
        effort = self._fields.get("reasoning_effort")
        if effort is None or (isinstance(effort, str) and (effort == "none" or effort in _SHARES)):
            return effort
        raise InvalidRequest(
            "`reasoning_effort` must be none, minimal, low, medium, high, xhigh or max.", param="reasoning_effort"
        )

    def _ask(self, body: dict[str, Any], effort: str | None, *, unsigned_tool_use: bool) -> bool:  # noqa: PLR0911 - one return a case
        """Whether the model will think."""
        facts = self._facts
        asked = effort not in (None, "none")
        if self._forced and (asked or facts["thinking_default"]):
            if asked:
                self._warnings.append("reasoning_effort was dropped: Claude cannot think and be forced to call a tool")
            return self._switch_off(body, told=False)
        if effort == "none":
            return self._switch_off(body, told=True)
        if effort is None:
            return bool(facts["thinking_default"])
        if facts["thinking"] == "none":
            self._warnings.append("reasoning_effort was dropped: the model does not think")
            return False
        if facts["thinking"] == "adaptive":
            return self._adapt(body, effort)
        if unsigned_tool_use:
            self._warnings.append(
                "reasoning_effort was dropped: the last tool calls came back without reasoning_details"
            )
            return False
        return self._budget(body, effort)

    def _switch_off(self, body: dict[str, Any], *, told: bool) -> bool:
        if not self._facts["thinking_default"]:
            return False
        off = self._facts["thinking_off"]
        if off == "never":
            if told:
                self._warnings.append("reasoning_effort none was lowered to low only: the model always thinks")
                self._set_effort(body, "low")
            return True
        body["thinking"] = {"type": off}
        return False

    def _adapt(self, body: dict[str, Any], effort: str) -> bool:
        body["thinking"] = {"type": "adaptive"}
        if self._facts["thinking_display"] == "omitted":
            body["thinking"]["display"] = "summarized"  # or `reasoning_content` would be empty
        self._set_effort(body, effort)
        return True

    def _set_effort(self, body: dict[str, Any], effort: str) -> None:
        wanted = "low" if effort == "minimal" else effort
        possible = self._facts["efforts"]
        lower = _LEVELS[: _LEVELS.index(wanted) + 1]
        level = next((each for each in reversed(lower) if each in possible), None)
        if level is None:
            return
        if level != wanted:
            self._warnings.append(f"reasoning_effort {effort} was lowered to {level}: the model has no more")
        body.setdefault("output_config", {}).setdefault("effort", level)

    def _budget(self, body: dict[str, Any], effort: str) -> bool:
        limit = body["max_tokens"]
        budget = max(LEAST_BUDGET, min(_MOST_BUDGET, limit * _SHARES[effort] // 100))
        if budget >= limit:
            self._warnings.append(f"reasoning_effort was dropped: thinking takes more than {LEAST_BUDGET} max_tokens")
            return False
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
        return True

    def _sample(self, body: dict[str, Any], *, thinks: bool) -> None:
        given = {name: self._fields[name] for name in _SAMPLING if self._fields.get(name) is not None}
        for name, value in given.items():
            if self._facts["sampling"] == "none":
                if value != 1 or name == "top_k":
                    self._warnings.append(f"{name} was dropped: the model takes none")
            elif thinks:
                if value != 1 or name == "top_k":
                    self._warnings.append(f"{name} was dropped: it cannot be set while Claude thinks")
            elif name == "top_p" and "temperature" in given and self._facts["sampling"] == "one":
                self._warnings.append("top_p was dropped: the model takes temperature or top_p, not both")
            elif name == "temperature" and value > 1:
                self._warnings.append("temperature was lowered to 1: Claude takes 0 to 1")
                body[name] = 1
            else:
                body[name] = value
