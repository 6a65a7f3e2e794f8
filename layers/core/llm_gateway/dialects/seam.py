"""Where one model's text goes over into another's: what of the second's beginning the caller has already."""

from llm_gateway.errors import UpstreamMalformed

_TELLING = 24
"""So many characters of an answer do not come again by chance."""
_SOME = 12
"""Fewer may: they tell only where they come again at once, in the midst of a word."""
_LEAST = 2
_PREFACE = 72
"""Characters in front of a repetition, in which a model may say what it is about to do."""


class Seam:
    """`said` is what the caller has. It was sent up without the white space at its end, which may come again.

    `echoes`: the model repeats what it was given before it goes on.
    """

    def __init__(self, said: str, *, echoes: bool) -> None:
        self._text = said.strip()
        self._space = said[len(said.rstrip()) :]
        self._echoes = echoes and bool(self._text)

    def cut(self, begun: str, *, ended: bool) -> int | None:
        """How many characters of a continuation that has `begun` so are to be left out; None until more has come.

        `ended`: no more will come. Raises `UpstreamMalformed` for a model that begins the answer anew.
        """
        blank = len(begun) - len(begun.lstrip())
        text = begun[blank:]
        if self._echoes:
            if text.startswith(self._text):
                return self._after_space(begun, blank + len(self._text), ended=ended)
            if self._text.startswith(text) and not ended:
                return None
        head = self._text[:_TELLING]
        if len(head) == _TELLING:
            if head in text:
                raise _anew()
            if not ended and len(text) < _PREFACE + _TELLING:
                return None
        elif len(head) >= _SOME or (len(head) >= _LEAST and not blank and not self._space):
            if text.startswith(head):
                raise _anew()
            if head.startswith(text) and not ended:
                return None
        return self._after_space(begun, 0, ended=ended)

    def _after_space(self, begun: str, at: int, *, ended: bool) -> int | None:
        rest = begun[at:]
        same = 0
        while same < min(len(self._space), len(rest)) and self._space[same] == rest[same]:
            same += 1
        if same == len(rest) and same < len(self._space) and not ended:
            return None
        return at + same


def _anew() -> UpstreamMalformed:
    return UpstreamMalformed("The model began the answer anew instead of going on with it.")
