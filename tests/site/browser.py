"""Pages in a headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tornado.websocket import websocket_connect

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@dataclass
class Visit:
    """What a page did when it was loaded."""

    values: list
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def browser(folder: Path):
    """Runs Chromium with its profile in `folder`; gives the function `visit` bound to it."""
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0",
             f"--user-data-dir={folder}"]
    with open(os.devnull, "wb") as null:
        process = subprocess.Popen([EXECUTABLE, *flags, "about:blank"], stdout=null, stderr=null)
    try:
        port = folder / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (port.exists() and port.read_text().count("\n")):
            assert process.poll() is None and time.monotonic() < deadline, "Chromium did not start"
            time.sleep(0.05)
        address = f"http://127.0.0.1:{port.read_text().split()[0]}/json/list"
        with urllib.request.urlopen(address, timeout=30) as answer:
            socket = next(page["webSocketDebuggerUrl"] for page in json.load(answer) if page["type"] == "page")
        yield lambda *args, **kwargs: asyncio.run(asyncio.wait_for(_visit(socket, *args, **kwargs), 60))
    finally:
        process.terminate()
        process.wait(30)


async def _visit(socket: str, page: Path, width: int, scheme: str, *expressions: str,
                 screenshot: Path | None = None) -> Visit:
    """Loads a page at a width (px) in a colour scheme and evaluates JavaScript expressions in it."""
    connection, seen, number = await websocket_connect(socket, max_message_size=2**28), [], 0

    async def event() -> dict:
        message = json.loads(await connection.read_message())
        seen.append(message)
        return message

    async def call(method: str, **parameters) -> dict:
        nonlocal number
        number += 1
        await connection.write_message(json.dumps({"id": number, "method": method, "params": parameters}))
        while (message := await event()).get("id") != number:
            pass
        assert "error" not in message, message
        return message["result"]

    await call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
    await call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    await call("Log.clear")  # of what the page before it did
    for domain in ("Page", "Runtime", "Log", "Network"):
        await call(f"{domain}.enable")
    assert "errorText" not in (opened := await call("Page.navigate", url=page.as_uri())), opened
    while not any(message.get("method") == "Page.loadEventFired" for message in seen):
        await event()
    values = [(await call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True))["result"]
              .get("value") for expression in expressions]
    if screenshot:
        picture = await call("Page.captureScreenshot", captureBeyondViewport=True)
        screenshot.write_bytes(base64.b64decode(picture["data"]))
    connection.close()
    while await connection.read_message() is not None:  # until it is closed
        pass
    visit = Visit(values)
    for message in seen:
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            visit.requests.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown" or method == "Log.entryAdded" or (
                method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning")):
            visit.errors.append(str(parameters))
    return visit
