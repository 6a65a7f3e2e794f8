"""Virtual time: what is to happen, in its order. A story is a generator that yields how many seconds it waits."""

import heapq
from collections.abc import Callable, Generator

Story = Generator[float, None, None]


class Timeline:
    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, moment: float, do: Callable[[], None]) -> None:
        """What is due at one moment happens in the order in which it was said."""
        self._count += 1
        heapq.heappush(self._due, (moment, self._count, do))

    def tell(self, story: Story, begins: float) -> None:
        def go_on() -> None:
            wait_s = next(story, None)
            if wait_s is not None:
                self.at(self.now + wait_s, go_on)

        self.at(begins, go_on)

    def run(self) -> None:
        """Until nothing is left."""
        while self._due:
            self.now, _, do = heapq.heappop(self._due)
            do()
