"""A headless Chromium, driven over the DevTools protocol on a pipe: nothing to install but the browser."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--enable-unsafe-swiftshader",
    "--use-angle=swiftshader",
    "--hide-scrollbars",
    "--no-sandbox",  # a container's root has no other way; the pages are our own
)

_AS_3_AND_4 = """
import os, sys
read, write = (os.dup2(int(number), 100 + k) for k, number in enumerate(sys.argv[1:3]))
os.dup2(read, 3), os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class BrowserError(RuntimeError):
    """The browser does not answer, or a script on the page failed."""


def find_browser() -> str | None:
    """Chromium or Chrome: the program that `CHROMIUM` names, else the first on the PATH; None if there is none."""
    named = os.environ.get("CHROMIUM")
    return next(filter(None, map(shutil.which, [named] if named else BROWSERS)), None)


class Page:
    """One tab. `errors` collects what its console complains of, `requested` every address it asked for."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._buffer, self._number, self._session = b"", 0, ""
        self._loaded = False
        self.errors: list[str] = []
        self.requested: list[str] = []

    def attach(self) -> None:
        """Opens the tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, /, timeout_s: float = 60.0, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its result.

        Raises:
          BrowserError: an error, or no answer in time.
        """
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        for answer in self._messages(timeout_s):
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                return answer["result"]
        raise BrowserError(f"{method}: no answer in {timeout_s:g} s")

    def open(self, address: str, width: int = 1366, height: int = 768) -> None:
        """Loads an address in a window of this size and waits for its load event."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._loaded = False
        self.call("Page.navigate", url=address)
        for _ in self._messages(60.0):
            if self._loaded:
                return
        if not self._loaded:
            raise BrowserError(f"{address} does not load")

    def run(self, script: str) -> Any:
        """The value of an expression on the page, promises awaited.

        Raises:
          BrowserError: it throws.
        """
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise BrowserError(str(found["exceptionDetails"].get("exception", {}).get("description", found)))
        return found["result"].get("value")

    def wait_for(self, script: str, timeout_s: float = 30.0) -> Any:
        """The first true value of an expression.

        Raises:
          BrowserError: it stays false.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if value := self.run(script):
                return value
            time.sleep(0.02)
        raise BrowserError(f"not true after {timeout_s:g} s: {script}")

    def press(self, key: str) -> None:
        """A key of the keyboard, such as "ArrowDown"."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def drag(self, selector: str, right: float, down: float) -> None:
        """The mouse, its button held, from the middle of an element that is in the window; pixels."""
        box = self.run(f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()")
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for kind, share in (("mousePressed", 0.0), ("mouseMoved", 0.5), ("mouseMoved", 1.0), ("mouseReleased", 1.0)):
            x_now, y_now = x + share * right, y + share * down
            self.call("Input.dispatchMouseEvent", type=kind, x=x_now, y=y_now, button="left", buttons=1, clickCount=1)

    def screenshot(self, path: str | Path, whole: bool = False) -> None:
        """Writes what the window shows, or the whole page, as PNG."""
        image = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(image))

    def _messages(self, timeout_s: float) -> Iterator[dict[str, Any]]:
        end = time.monotonic() + timeout_s
        while True:
            while b"\0" in self._buffer:
                line, self._buffer = self._buffer.split(b"\0", 1)
                message = json.loads(line)
                self._note(message.get("method", ""), message.get("params", {}))
                yield message
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return
            received = os.read(self._read, 1 << 20)
            if not received:
                raise BrowserError("the browser has gone")
            self._buffer += received

    def _note(self, method: str, details: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(details["exceptionDetails"].get("exception", {}).get("description", details)))
        elif method == "Runtime.consoleAPICalled" and details["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(part.get("value", part)) for part in details["args"]))
        elif method == "Log.entryAdded" and details["entry"]["level"] == "error":
            self.errors.append(details["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requested.append(details["request"]["url"])


@contextlib.contextmanager
def open_browser(program: str | None = None) -> Iterator[Page]:
    """A browser with one empty tab, ended with the block.

    Args:
      program: as `find_browser` finds it by default.

    Raises:
      BrowserError: there is none, or it does not start.
    """
    program = program or find_browser()
    if program is None:
        raise BrowserError(f"no browser: set CHROMIUM, or install one of {', '.join(BROWSERS)}")
    with contextlib.ExitStack() as stack:
        profile = stack.enter_context(tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True))
        (their_read, our_write), (our_read, their_write) = os.pipe(), os.pipe()
        stack.callback(os.close, our_read)
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _AS_3_AND_4, str(their_read), str(their_write), program, *_FLAGS,
             f"--user-data-dir={profile}"],
            pass_fds=(their_read, their_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(their_read)
        os.close(their_write)
        stack.callback(_end, process)
        stack.callback(os.close, our_write)
        page = Page(our_read, our_write)
        page.attach()
        yield page


def _end(process: subprocess.Popen[bytes]) -> None:
    """A browser whose pipe is closed ends by itself; one that does not is killed."""
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
