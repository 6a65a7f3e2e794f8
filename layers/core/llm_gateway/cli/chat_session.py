"""A conversation in a terminal: what was said, with whom, and what it has cost."""

import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from llm_gateway.cli.failures import BadInput, Failure, Refused
from llm_gateway.cli.output import Output
from llm_gateway.cli.streamed_answer import Broken, StreamedAnswer, cost_of, stream_answer

if TYPE_CHECKING:
    from llm_gateway.cli.client import Gateway

_GREY: Final = "bright_black"
_HELP: Final = """/model [NAME]   use another model; without a name, tell which
/system [TEXT]  tell the model something before all else; without a text, nothing any more
/reset          forget what was said
/quit           end, as Ctrl-D does
//…             a message that begins with a slash"""


class ChatSession:
    def __init__(self, gateway: "Gateway", out: Output, model: str | None, system: str | None) -> None:
        self._gateway = gateway
        self._out = out
        self._model = model
        self._system = system
        self._said: list[Mapping[str, str]] = []
        self._spent = Decimal(0)
        self._answers = 0

    def say(self, text: str, *, stoppable: bool = False) -> None:
        """Sends a message with all before it, and shows the answer as it comes.

        A turn that fails is forgotten, one that is stopped by Ctrl-C (`stoppable`) is kept as far as it came.
        Raises `Failure`; `KeyboardInterrupt` where the answer is not stoppable.
        """
        asked: Mapping[str, str] = {"role": "user", "content": text}
        answer = StreamedAnswer()
        stopped = False
        try:
            stream_answer(self._gateway, [*self._prompt(), *self._said, asked], self._model, self._shown(), answer)
        except KeyboardInterrupt:
            if not stoppable:
                self._end_line(answer)
                raise
            stopped = True
        except Failure as error:
            self._end_line(answer)
            raise _with_advice(error, self._model) from None
        if not self._out.json:
            self._end_line(answer)
        if answer.text:
            self._said += [asked, {"role": "assistant", "content": answer.text}]
        try:
            self._tell(answer, stopped=stopped)
        except KeyboardInterrupt:  # it came just behind the answer's end
            if not stoppable:
                raise

    def command(self, line: str) -> bool:
        """`/model fast` and the like. False for the one that ends."""
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        match name:
            case "/quit" | "/exit":
                return False
            case "/reset":
                self._said.clear()
                self.note("what was said is forgotten")
            case "/model":
                self._model = rest or self._model
                self.note(f"the model is {self._model or 'the default one of the gateway'}")
            case "/system":
                self._system = rest or None
                self.note("the system prompt is set" if rest else "there is no system prompt")
            case "/help":
                print(_HELP, file=sys.stderr)
            case _:
                self.note(f"there is no command {name}: /help lists them, and // begins a message with a slash")
        return True

    def note(self, text: str) -> None:
        """For the person, on stderr; greyed where colours are."""
        if not self._out.json:
            self._out.console(stderr=True).print(text, style=_GREY)

    def _prompt(self) -> list[Mapping[str, str]]:
        return [] if self._system is None else [{"role": "system", "content": self._system}]

    def _shown(self) -> Callable[[str], None]:
        if self._out.json:
            return lambda _: None
        if not sys.stdout.isatty():
            return lambda text: print(text, end="", flush=True)
        return lambda text: print(harmless(text), end="", flush=True)

    def _end_line(self, answer: StreamedAnswer) -> None:
        if answer.text and not self._out.json and not answer.text.endswith("\n"):
            print(flush=True)

    def _tell(self, answer: StreamedAnswer, *, stopped: bool) -> None:
        cost = None if stopped else cost_of(self._gateway, answer.request_id)
        if self._out.json:
            self._out.line(
                {
                    "reply": answer.text,
                    "model": answer.model,
                    "finish_reason": answer.finish_reason,
                    "usage": answer.usage,
                    "cost_usd": cost,
                    "request_id": answer.request_id,
                    "stopped": stopped,
                }
            )
            return
        self._answers += 1
        self.note(" · ".join(self._figures(answer, cost, stopped=stopped)))

    def _figures(self, answer: StreamedAnswer, cost: str | None, *, stopped: bool) -> list[str]:
        told = [answer.model or "no model"]
        if stopped:
            told.append("stopped")
        elif answer.finish_reason not in (None, "stop"):
            told.append(f"ended by {answer.finish_reason}")
        if answer.usage:
            told.append(f"{answer.usage.get('prompt_tokens', 0)} + {answer.usage.get('completion_tokens', 0)} tokens")
        if cost is not None:
            self._spent += Decimal(cost)
            told.append(f"${cost}" if self._answers == 1 else f"${cost} (${self._spent} so far)")
        elif not stopped:
            told.append("no price")
        told.append(f"{answer.total_s:.1f} s")
        return told


def harmless(text: str) -> str:
    """A model's words as a terminal may have them: line breaks and tabs, and no escape sequence that it would obey.

    >>> harmless("a\\tb\\x1b[2J")
    'a\\tb\\\\x1b[2J'
    """
    return "".join(each if each.isprintable() or each in "\n\t" else repr(each)[1:-1] for each in text)


def _with_advice(error: Failure, model: str | None) -> Failure:
    code, param = getattr(error, "code", None), getattr(error, "param", None)
    if model is None and param == "model" and code is None and not isinstance(error, Broken):
        return BadInput(
            "this gateway has no default model: name one with --model (or /model); `llm-gateway models` lists them"
        )
    if isinstance(error, Refused) and code == "model_not_found":
        return Refused(f"{error} `llm-gateway models` lists what the key may use.", error.status, code, param)
    return error
