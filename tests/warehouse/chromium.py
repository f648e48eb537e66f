"""A headless Chromium over the DevTools protocol's pipe: no driver, no extra package."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from warehouse.report.pdf import BROWSERS as NAMES


def find_chromium() -> str:
    """The browser's path. Raises FileNotFoundError with the way out."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(
        f"the browser tests need one of {', '.join(NAMES)} on PATH and found none; install it "
        "(Debian and Ubuntu: apt-get install chromium) or leave these tests out with: pytest -m 'not browser'"
    )


# The browser reads commands from descriptor 3 and answers on 4. Both ends first move out of the way of these two numbers.
WIRING = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3), os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


@dataclass
class Page:
    """One tab. `complaints` are console messages, exceptions and log entries; `requests` are the URLs asked for.

    loads: pages that have come.
    """

    commands: BinaryIO
    answers: BinaryIO
    session: str = ""
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    loads: int = 0
    _last: int = 0

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One DevTools command and its result. Raises RuntimeError when the browser refuses it or is gone."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.commands.write(json.dumps(message).encode() + b"\0")
        self.commands.flush()
        while (answer := self._receive()).get("id") != self._last:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, url: str) -> None:
        before = self.loads
        self.send("Page.navigate", url=url)
        self.loaded(before)

    def submit(self, expression: str) -> None:
        """Run what sends a form, and wait for the page that answers."""
        before = self.loads
        self.evaluate(expression)
        self.loaded(before)

    def loaded(self, before: int | None = None) -> None:
        """Wait for a page that is on its way; before: `loads` when it set out, since when it may have come."""
        before = self.loads if before is None else before
        while self.loads == before:
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; of a promise, what it comes to."""
        return self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)["result"].get("value")

    def press(self, key: str) -> None:
        """Strike a key: a letter or digit, or one by its name, such as Tab, Enter, Escape or ArrowDown."""
        code = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowDown": 40}.get(key) or ord(key.upper())
        text = {"Enter": {"text": "\r"}}.get(key, {"text": key} if len(key) == 1 else {})
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        """Write into the field that has the focus."""
        self.send("Input.insertText", text=text)

    def resize(self, width: int, height: int = 900, dark: bool = False) -> None:
        """Show the page in a window of that many CSS pixels, in the light or the dark scheme."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG file."""
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def print(self, path: Path) -> None:
        """The page as it would be printed, a PDF file."""
        path.write_bytes(base64.b64decode(self.send("Page.printToPDF", printBackground=False)["data"]))

    def _receive(self) -> dict[str, Any]:
        raw = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser ended before it answered")
            raw += byte
        message: dict[str, Any] = json.loads(raw)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self.loads += 1
        elif event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif event in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.complaints.append(json.dumps(params))


@contextmanager
def chromium_page() -> Iterator[Page]:
    """A fresh browser with an empty profile and one blank page, ended with the block."""
    command_end, to_browser = os.pipe()
    from_browser, answer_end = os.pipe()
    wiring = [sys.executable, "-c", WIRING, str(command_end), str(answer_end), find_chromium()]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        isolated = f"--user-data-dir={profile}"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe", isolated]
        pipes, quiet = (command_end, answer_end), subprocess.DEVNULL
        browser = subprocess.Popen([*wiring, *flags, "about:blank"], pass_fds=pipes, stdout=quiet, stderr=quiet)
        os.close(command_end)
        os.close(answer_end)
        try:
            with os.fdopen(to_browser, "wb") as commands, os.fdopen(from_browser, "rb") as answers:
                page = Page(commands, answers)
                tabs = page.send("Target.getTargets")["targetInfos"]
                target = next(tab["targetId"] for tab in tabs if tab["type"] == "page")
                page.session = page.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
                for domain in ("Page", "Runtime", "Log", "Network"):
                    page.send(f"{domain}.enable")
                yield page
        finally:
            browser.kill()
            browser.wait()
