"""Which request a front works on next: callers take turns, however many requests one sends."""

import time
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from api.shares import Shares

Request = TypeVar("Request", bound=Hashable)

#: Seconds of a turn. A request that takes longer waits for something rather than computes, also
#: where it did not say so: it keeps its thread, and another one may compute.
TURN = 0.5


class Turns(Generic[Request]):
    """The requests that wait for a thread, and those that have one.

    ``width`` of them compute at once, and ``threads`` in all are worked on. Callers share both, so
    a request never waits for those of one other caller. Used by one thread alone.
    """

    def __init__(self, width: int, threads: int) -> None:
        self._turns = Shares(width)
        self._threads = Shares(threads)
        self._waiting: OrderedDict[Hashable, deque[tuple[float, Request]]] = OrderedDict()
        #: Those in their turn, in the order of their starts.
        self._fresh: OrderedDict[Request, tuple[float, Hashable]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many wait for a thread."""
        return sum(map(len, self._waiting.values()))

    def add(self, caller: Hashable, request: Request) -> None:
        """Let a request of the caller wait for its turn."""
        self._waiting.setdefault(caller, deque()).append((time.monotonic(), request))

    def start(self) -> Iterator[Request]:
        """Yield those whose turn it is; each is to be given back with `end`."""
        while (caller := self._next_caller()) is not None:
            queue = self._waiting.pop(caller)
            _, request = queue.popleft()
            if queue:
                # At the end of the line: the others are first.
                self._waiting[caller] = queue
            self._turns.take(caller)
            self._threads.take(caller)
            self._fresh[request] = (time.monotonic() + TURN, caller)
            yield request

    def end(self, caller: Hashable, request: Request) -> None:
        """Note that a request was answered."""
        self._threads.release(caller)
        self.pass_on(request)

    def pass_on(self, request: Request) -> None:
        """End the turn of a request that waits now."""
        if request in self._fresh:
            _, caller = self._fresh.pop(request)
            self._turns.release(caller)

    def pass_on_late(self) -> None:
        """End the turns that have lasted too long."""
        now = time.monotonic()
        for request, (end, _) in list(self._fresh.items()):
            if end > now:
                return
            self.pass_on(request)

    def give_up(self, seconds: float) -> list[Request]:
        """Return, and forget, the requests that have waited for longer than ``seconds``."""
        before = time.monotonic() - seconds
        given_up = []
        for caller, queue in list(self._waiting.items()):
            while queue and queue[0][0] < before:
                given_up.append(queue.popleft()[1])
            if not queue:
                del self._waiting[caller]
        return given_up

    def _next_caller(self) -> Hashable | None:
        for caller in self._waiting:
            if self._turns.has_place(caller) and self._threads.has_place(caller):
                return caller
        return None
