"""Stopping a run at the end of a step, when it is asked to stop."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class GracefulExit:
    """Within `with GracefulExit() as stop`, SIGTERM and SIGINT only set `stop.requested`.

    A second signal raises KeyboardInterrupt at once. The handlers that were there come back on leaving.
    Outside the main thread, where Python allows no handlers, signals act as before.

    Args:
      message: written to stderr at the first signal.
    """

    def __init__(self, message: str = "") -> None:
        self._message = message
        self.signal_name: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self.signal_name is not None

    def __enter__(self) -> GracefulExit:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            # None: the handler was not set from Python and cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt(f"second signal: {signal.Signals(number).name}")
        self.signal_name = signal.Signals(number).name
        if self._message:
            print(f"\n{self._message}", file=sys.stderr, flush=True)
