"""Many ask, one goes: concurrent calls for the same thing share one."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs at most one load per key at a time; all who ask meanwhile get its result, or its exception.

    The load is a task of its own: whoever is cancelled while waiting takes nobody else's answer away.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, asyncio.Task[T]] = {}

    async def run(self, key: Hashable, load: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await asyncio.shield(self.start(key, load))

    def start(self, key: Hashable, load: Callable[[], Coroutine[Any, Any, T]]) -> "asyncio.Task[T]":
        """The flight under way for `key`, or a new one. Nobody has to wait for it."""
        loop = asyncio.get_running_loop()
        flight = self._flights.get(key)
        # A flight of another loop can never land: that loop ended with it in the air.
        if flight is None or flight.get_loop() is not loop:
            flight = loop.create_task(load())
            self._flights[key] = flight
            flight.add_done_callback(lambda landed: self._land(key, landed))
        return flight

    def forget(self, key: Hashable) -> None:
        """The next `run` starts anew; those already waiting still get the flight they wait for."""
        self._flights.pop(key, None)

    def _land(self, key: Hashable, flight: "asyncio.Task[T]") -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.cancelled():
            # Read, so that asyncio does not report an exception whose waiters were all cancelled.
            flight.exception()
