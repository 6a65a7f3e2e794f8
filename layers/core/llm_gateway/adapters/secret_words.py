"""What both stores of secrets say of one that is not as it should be."""

from typing import Final

NO_SECRET: Final = "There is no such secret."  # noqa: S105 - these are words
NOT_STAGED: Final = "That version of the secret is not staged: it was replaced, or discarded."
