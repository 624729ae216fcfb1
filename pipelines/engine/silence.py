"""How long something that should change has not, in the eyes of this process."""

from __future__ import annotations

LOOKS = 3  # that find nothing new, before time counts: a process that was held up itself has just not looked


class Silence:
    """Looks at a value now and then. No clock of another machine plays a part."""

    def __init__(self) -> None:
        self._value: object = None
        self._since = 0.0
        self._looks = 0

    def seconds(self, value: object, now: float) -> float:
        """Seconds since the value was found changed; 0 until it has been found the same a few times."""
        if self._looks == 0 or value != self._value:
            self._value, self._since, self._looks = value, now, 0
        self._looks += 1
        return now - self._since if self._looks > LOOKS else 0.0
