"""What all machines of a cluster must know, in a module that loads nothing heavy: a process of Ray's has nothing else to do."""

from collections import Counter


class Board:
    """An actor: whether to stop, and how often each block was begun."""

    def __init__(self) -> None:
        self._stopped = False
        self._begun: Counter[int] = Counter()

    def stop(self) -> None:
        self._stopped = True

    def is_stopped(self) -> bool:
        return self._stopped

    def begin(self, number: int) -> int:
        self._begun[number] += 1
        return self._begun[number]
