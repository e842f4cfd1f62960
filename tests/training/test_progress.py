"""One line, on a terminal in place, elsewhere now and then; quiet says nothing."""

import io

import pytest

from vdw_jax.training import progress
from vdw_jax.training.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_in_a_log_are_ten_seconds_apart_and_the_last_is_shown(clock):
    stream = io.StringIO()
    with Progress(100, "training", stream=stream) as bar:
        for step in range(1, 101):
            bar.update(step, loss=2.0 / step)
            clock[0] += 0.5
    lines = stream.getvalue().splitlines()
    assert len(lines) == 6
    assert lines[1] == "training 21/100  2.0/s  0:40 left  loss 0.09524"
    assert lines[-1] == "training 100/100  2.0/s  loss 0.02"


def test_compilation_before_the_first_update_is_not_in_the_rate(clock):
    stream = io.StringIO()
    bar = Progress(10, "sampling", stream=stream, interval_s=0.0)
    clock[0] += 60.0
    bar.update(1)
    clock[0] += 4.0
    bar.update(2)
    assert stream.getvalue().splitlines()[-1] == "sampling 2/10  4.0 s each  0:32 left"


def test_terminal_line_is_rewritten_and_wiped(clock):
    stream = Terminal()
    with Progress(2, "x", stream=stream) as bar:
        bar.update(1, loss=123.4)
        clock[0] += 1.0
        bar.update(2)
    first, second = stream.getvalue().split("\r")[1:]
    assert first == "x 1/2  loss 123.4"
    assert second.endswith("\n") and len(second.rstrip("\n")) >= len(first)


def test_metrics_are_read_only_when_shown(clock):
    class Counted:
        reads = 0

        def __float__(self):
            Counted.reads += 1
            return 1.0

    bar = Progress(1000, "x", stream=io.StringIO())
    for step in range(1, 50):
        bar.update(step, loss=Counted())
    assert Counted.reads == 1


def test_quiet_and_stderr(clock, capsys):
    with Progress(1, "x", quiet=True) as bar:
        bar.update(1)
    assert capsys.readouterr().err == ""
    with Progress(1, "x") as bar:
        bar.update(1)
    out = capsys.readouterr()
    assert out.err == "x 1/1\n" and out.out == ""
