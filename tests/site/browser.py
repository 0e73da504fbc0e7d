"""Pages in a headless Chromium, driven over its DevTools protocol.

`python -m tests.site.browser PAGE PICTURE [WIDTH [HEIGHT [SCHEME]]]` takes a picture of a page as it opens (1280, 800
and light); that of the README is of results/digits/site/index.html, in docs/pages.png.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import PIL.Image
from tornado.websocket import websocket_connect

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One page at a time: opened, looked at in several widths and schemes, and asked.

    Attributes:
        errors: what the console said since the page was opened, errors and warnings.
        requests: the addresses that it asked for.
    """

    def __init__(self, socket: str):
        self._loop = asyncio.new_event_loop()
        self._connection = self._wait(websocket_connect, socket, max_message_size=2**28)
        self._number, self._events = 0, []
        self.errors: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self._connection.close()
        self._loop.close()

    def open(self, page: Path) -> None:
        """Loads a page and waits until it has."""
        self.call("Page.navigate", url="about:blank")  # so that an address that differs in its fragment alone is loaded
        self.call("Log.clear")
        self.errors, self.requests, self._events = [], [], []
        file, _, fragment = str(page).partition("#")
        address = Path(file).resolve().as_uri() + (f"#{fragment}" if fragment else "")
        assert "errorText" not in (opened := self.call("Page.navigate", url=address)), opened
        while "Page.loadEventFired" not in self._events:
            self._wait(self._message)

    def look(self, width: int, scheme: str, height: int = 800) -> None:
        """Sets the width and the height (px) and the colour scheme, also of a page that is open."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        # Laid out anew, and what observes sizes has run.
        self.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; of a promise, what it comes to.

        Raises:
            AssertionError: it throws.
        """
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def shot(self, picture: Path, top: int | None = None) -> None:
        """Writes what is on the screen, in 256 colours; with `top`, what stands so far down (px) in the page."""
        if top is not None:
            self.ask(f"document.documentElement.style.scrollBehavior = 'auto'; window.scrollTo(0, {top});"
                     "new Promise(done => setTimeout(done, 700))")
        with PIL.Image.open(io.BytesIO(base64.b64decode(self.call("Page.captureScreenshot")["data"]))) as image:
            image.convert("RGB").quantize(256).save(picture, optimize=True)

    def call(self, method: str, **parameters: Any) -> dict:
        """A command of the protocol and its result."""
        self._number += 1
        self._wait(self._connection.write_message,
                   json.dumps({"id": self._number, "method": method, "params": parameters}))
        while (message := self._wait(self._message)).get("id") != self._number:
            pass
        assert "error" not in message, message
        return message["result"]

    def _wait(self, function: Callable, *args: Any, **kwargs: Any) -> Any:
        async def within() -> Any:
            return await asyncio.wait_for(function(*args, **kwargs), 60)
        return self._loop.run_until_complete(within())

    async def _message(self) -> dict:
        message = json.loads(await self._connection.read_message())
        method, parameters = message.get("method"), message.get("params", {})
        self._events.append(method)
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method in ("Runtime.exceptionThrown", "Log.entryAdded") or (
                method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning")):
            self.errors.append(str(parameters))
        return message


@contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium that runs as long as the context."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, open(os.devnull, "wb") as null:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0",
                 f"--user-data-dir={folder}"]
        process = subprocess.Popen([EXECUTABLE, *flags, "about:blank"], stdout=null, stderr=null)
        try:
            port = Path(folder, "DevToolsActivePort")
            deadline = time.monotonic() + 60
            while not (port.exists() and port.read_text().count("\n")):
                assert process.poll() is None and time.monotonic() < deadline, "Chromium did not start"
                time.sleep(0.05)
            address = f"http://127.0.0.1:{port.read_text().split()[0]}/json/list"
            with urllib.request.urlopen(address, timeout=30) as answer:
                socket = next(page["webSocketDebuggerUrl"] for page in json.load(answer) if page["type"] == "page")
            page = Browser(socket)
            yield page
            page.close()
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    shown, written, *given = sys.argv[1:]
    width, height, scheme = (*given, *("1280", "800", "light")[len(given):])
    with browser() as chromium:
        chromium.look(int(width), scheme, int(height))
        chromium.open(Path(shown))
        chromium.shot(Path(written))
