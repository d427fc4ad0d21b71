"""A headless Chromium, driven by its own protocol: real keys, real widths, the accessibility tree, and every complaint."""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

import aiohttp

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --remote-debugging-port=0"
)
CODES = {"Enter": 13, " ": 32, "ArrowRight": 39, "ArrowLeft": 37, "Tab": 9, "Escape": 27}

PATIENCE = 60
"""Seconds until something is taken not to happen: a machine may be busy with other tests."""


class Browser:
    """One page of a browser. Use as an asynchronous context manager."""

    def __init__(self, profile: Path) -> None:
        self.profile = profile
        self.complaints: list[str] = []
        self.requests: list[str] = []

    async def __aenter__(self) -> Self:
        assert PROGRAM is not None
        self.process = subprocess.Popen(
            [PROGRAM, *FLAGS.split(), f"--user-data-dir={self.profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        told = self.profile / "DevToolsActivePort"
        async with asyncio.timeout(PATIENCE):
            while not (told.exists() and len(told.read_text().split()) == 2):
                await asyncio.sleep(0.05)
            self.http = aiohttp.ClientSession()
            port = told.read_text().split()[0]
            pages: list[dict[str, Any]] = []
            while not pages:
                async with self.http.get(f"http://127.0.0.1:{port}/json") as reply:
                    pages = [page for page in await reply.json() if page["type"] == "page"]
        self.socket = await self.http.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
        self.sent = 0
        for domain in ("Page", "Runtime", "Log", "Accessibility", "Network"):
            await self.call(f"{domain}.enable")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()
        await self.http.close()
        self.process.terminate()
        self.process.wait(10)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.sent += 1
        await self.socket.send_json({"id": self.sent, "method": method, "params": params})
        while True:
            message = await self.socket.receive_json(timeout=PATIENCE)
            if message.get("id") == self.sent:
                assert "error" not in message, message
                return dict(message["result"])
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(str(message["params"]["request"]["url"]))
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
                self.complaints.append(str(message["params"]))

    async def js(self, expression: str) -> Any:
        done = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def until(self, expression: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await self.js(expression):
                await asyncio.sleep(0.02)

    async def open(self, address: str, ready: str) -> None:
        """Open a page, and wait until an expression holds in it."""
        await self.call("Page.navigate", url=address)
        await self.until(f"document.readyState == 'complete' && {ready}")

    async def press(self, *keys: str) -> None:
        """Press keys, and wait until the page has acted on all of them."""
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            common = {"key": key, "windowsVirtualKeyCode": CODES.get(key, 0)}
            await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
            await self.call("Input.dispatchKeyEvent", type="keyUp", **common)
        await self.js("queue.then(() => true)")

    async def text(self, id: str) -> str:
        return str(await self.js(f"document.getElementById('{id}').textContent"))

    async def spoken(self) -> str:
        """All that a screen reader can reach."""
        tree = await self.call("Accessibility.getFullAXTree")
        return " ".join(str(node.get("name", {}).get("value", "")) for node in tree["nodes"] if not node["ignored"])

    async def look(self, width: int, height: int = 800, scheme: str = "light") -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def shoot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        await self.js("new Promise(r => setTimeout(r, 200))")
        shot = await self.call("Page.captureScreenshot")
        path.write_bytes(base64.b64decode(shot["data"]))
