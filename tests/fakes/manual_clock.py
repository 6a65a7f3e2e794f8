"""Time as a test lets it pass: a clock that it moves by hand, and a moment for what runs in the background."""

import asyncio


class ManualClock:
    """Stands still until a test sets `now`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def settle() -> None:
    """Lets what runs in the background run."""
    for _ in range(5):
        await asyncio.sleep(0)
