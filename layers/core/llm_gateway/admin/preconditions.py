"""`If-Match`: whoever changes something must have seen what is there. RFC 9110, section 13.1.1."""

from llm_gateway.admin.ask import Ask
from llm_gateway.errors import PreconditionFailed, PreconditionRequired


def check_if_match(ask: Ask, etag: str) -> None:
    """Raises `PreconditionRequired` and `PreconditionFailed`. `*` is for those who want no protection."""
    if ask.if_match is None:
        raise PreconditionRequired(
            "Send the ETag of what you have read as `If-Match`, so that nobody else's change is undone unseen."
        )
    given = [each.strip() for each in ask.if_match.split(",")]
    # Weak comparison would do nobody good: the ETags here are strong, and a weak one is never equal.
    if etag not in given and given != ["*"]:
        raise PreconditionFailed(
            "It has been changed since you read it: read it again, and change that.", headers={"etag": etag}
        )
