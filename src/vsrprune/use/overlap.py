"""Three threads with short queues between them: one reads, the caller computes, one writes.

Whoever fails or is interrupted ends all three: nobody waits for an item that will not come, or for room that nobody
will make.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from threading import Condition, Thread
from typing import Generic, TypeVar

WAITING = 3  # items that wait in a queue: they even out frames of unequal cost, and take little memory at 4K

T = TypeVar("T")


class ClosedError(Exception):
    """Nobody takes the items of a queue any more."""


class Channel(Generic[T]):
    """A queue of at most WAITING items, between one thread that puts and one that takes."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Wait for room; raises what stopped the other side, or ClosedError if it just went away."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < WAITING)
            if self._closed:
                raise self._error or ClosedError
            self._items.append(item)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """No more items come; `error` is raised where they are taken, after those that wait."""
        with self._changed:
            self._ended, self._error = True, self._error or error
            self._changed.notify_all()

    def items(self) -> Iterator[T]:
        """The items in order, until the end; raises what ended them too early."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._ended or self._items)
                if self._closed or not self._items:
                    break
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item  # while the next is awaited, this one must not take up memory
        self.raise_error()

    def raise_error(self) -> None:
        """Raise what ended the queue too early, if anything did."""
        if self._error is not None:
            raise self._error

    def close(self, error: BaseException | None = None) -> None:
        """Take no more items, and forget those that wait; `error` is raised where they are put."""
        with self._changed:
            if not self._closed:
                self._closed, self._error = True, self._error or error
            self._items.clear()
            self._changed.notify_all()


@contextlib.contextmanager
def read_ahead(source: Generator[T, None, None]) -> Iterator[Iterator[T]]:
    """Items of `source`, which is gone through in a thread of its own; its errors are raised where they are taken."""
    channel: Channel[T] = Channel()

    def read() -> None:
        try:
            with contextlib.closing(source):
                for item in source:
                    channel.put(item)
        except ClosedError:
            return
        except BaseException as error:  # whatever it is, the caller has to know
            channel.end(error)
        else:
            channel.end()

    # Daemons: after a second Ctrl-C nothing is waited for.
    thread = Thread(target=read, name="reader", daemon=True)
    thread.start()
    try:
        yield channel.items()
    finally:
        channel.close()
        thread.join()


@contextlib.contextmanager
def write_behind(write: Callable[[T], None]) -> Iterator[Callable[[T], None]]:
    """A function that hands items to `write`, which runs in a thread of its own, in their order.

    At the end all are written. Errors of `write` are raised by the function, or at the end; after an error of the
    caller's what waits is not written.
    """
    channel: Channel[T] = Channel()

    def work() -> None:
        try:
            for item in channel.items():
                write(item)
                del item
        except BaseException as error:  # whatever it is, the caller has to know
            channel.close(error)

    thread = Thread(target=work, name="writer", daemon=True)
    thread.start()
    try:
        yield channel.put
        channel.end()
        thread.join()
        channel.raise_error()
    finally:
        channel.close()
        thread.join()
