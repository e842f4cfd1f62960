"""One line that says how far a long loop is, how fast, and how long it still takes."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

_TERMINAL_INTERVAL_S = 0.1
_LOG_INTERVAL_S = 10.0


class Progress:
    """Progress on stderr: one line rewritten in place on a terminal, else a line every ten seconds.

    The rate leaves out what comes before the first update, which is compilation. Metrics are turned
    into numbers only when a line is due, so passing arrays still on the device costs nothing between.

    Args:
      total: steps at the end.
      description: words in front.
      quiet: write nothing.
      stream: where to, stderr if not given.
      interval_s: least seconds between lines; the last step is always shown.
    """

    def __init__(
        self,
        total: int,
        description: str,
        quiet: bool = False,
        *,
        stream: TextIO | None = None,
        interval_s: float | None = None,
    ) -> None:
        self._total = total
        self._description = description
        self._quiet = quiet
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        usual = _TERMINAL_INTERVAL_S if self._terminal else _LOG_INTERVAL_S
        self._interval_s = usual if interval_s is None else interval_s
        self._first: tuple[int, float] | None = None
        self._shown_at = -float("inf")
        self._width = 0

    def update(self, step: int, **metrics: Any) -> None:
        """Says that `step` of the total steps are done, with `metrics` (scalars) behind."""
        if self._quiet:
            return
        now = time.monotonic()
        if self._first is None:
            self._first = (step, now)
        if now - self._shown_at < self._interval_s and step < self._total:
            return
        self._shown_at = now
        self._show(self._line(step, now, metrics))

    def close(self) -> None:
        """Ends the line; harmless to call twice."""
        if self._terminal and self._width:
            self._stream.write("\n")
            self._stream.flush()
        self._width = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self, step: int, now: float, metrics: dict[str, Any]) -> str:
        parts = [f"{self._description} {step}/{self._total}"]
        first_step, first_at = self._first or (step, now)
        if step > first_step and now > first_at:
            rate_per_s = (step - first_step) / (now - first_at)
            parts.append(_format_rate(rate_per_s))
            if step < self._total:
                parts.append(f"{_format_duration((self._total - step) / rate_per_s)} left")
        parts += [f"{name} {float(value):.4g}" for name, value in metrics.items()]
        return "  ".join(parts)

    def _show(self, line: str) -> None:
        if self._terminal:
            self._stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()


def _format_rate(per_second: float) -> str:
    return f"{per_second:.1f}/s" if per_second >= 1 else f"{1 / per_second:.1f} s each"


def _format_duration(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
