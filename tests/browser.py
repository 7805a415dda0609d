"""A real browser for tests: Debian's Chromium without a window, spoken to over its own pipe. No driver, no download."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SECONDS = 60.0
_OPTIONS = (
    "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--no-first-run",
    "--disable-sync", "--mute-audio", "--hide-scrollbars", "--force-color-profile=srgb", "--disable-lcd-text",
    "--disable-features=Translate,MediaRouter,OptimizationHints",
)  # fmt: skip


class Page:
    """One tab. `log`: what its console said, exceptions and refused resources included."""

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe
        self.log: list[str] = []
        target = pipe.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = pipe.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._pipe.call(method, params, self._session, self._heard)

    def _heard(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.log.append(params["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.log.append(params["exceptionDetails"].get("text", "exception"))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning"):
                self.log.append(str([one.get("value") for one in params["args"]]))

    def size(self, width: int, height: int = 900, scale: float = 1.0) -> None:
        values = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", values)

    def media(self, **features: str) -> None:
        """``media(prefers_color_scheme="dark")``; ``media(media="print")``."""
        media = features.pop("media", "")
        wanted = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", {"media": media, "features": wanted})

    def open(self, address: str) -> None:
        """Returns when the page is there and its fonts are."""
        answer = self.call("Page.navigate", {"url": address})
        assert "errorText" not in answer, answer
        deadline = time.monotonic() + _SECONDS
        wanted = (
            f"document.readyState === 'complete' && location.href !== 'about:blank' && {json.dumps(address)}"
        )
        while not self.eval(f"{wanted}.startsWith(location.origin)"):
            assert time.monotonic() < deadline, f"{address} does not load"
        self.eval("document.fonts.ready.then(() => true)")

    def eval(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        params = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", params)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def key(self, name: str) -> None:
        code = {"Tab": 9, "Enter": 13}[name]
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if name == "Enter" and kind == "keyDown" else {}
            params = {"type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code, **text}
            self.call("Input.dispatchKeyEvent", params)

    def shoot(self, path: Path, *, top: int = 0, height: int = 0) -> None:
        """A PNG of the whole page, or of `height` pixels of it from `top` on."""
        path.parent.mkdir(parents=True, exist_ok=True)
        width, whole = self.eval(
            "[document.documentElement.clientWidth, document.documentElement.scrollHeight]"
        )
        clip = {"x": 0, "y": top, "width": width, "height": height or whole - top, "scale": 1}
        params = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", params)["data"]))


class _Pipe:
    """Messages end with a zero byte; answers carry the number of what they answer."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._number, self._rest = to, back, 0, b""

    def call(
        self, method: str, params: dict[str, Any] | None = None, session: str | None = None, heard: Any = None
    ) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params or {}} | (
            {"sessionId": session} if session else {}
        )
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _SECONDS
        while True:
            answer = self._next(deadline)
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                found: dict[str, Any] = answer["result"]
                return found
            if heard is not None:
                heard(answer)

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._back], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            chunk = os.read(self._back, 1 << 20)
            assert chunk, "the browser has ended"
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def browser() -> Iterator[_Pipe]:
    """A Chromium with a profile of its own, ended afterwards. `Page(pipe)` opens a tab."""
    theirs, to = os.pipe()
    back, ours = os.pipe()
    with tempfile.TemporaryDirectory(prefix="pgfleet-browser-", ignore_cleanup_errors=True) as profile:
        # It reads from 3 and writes to 4: the shell moves our pipes there.
        script = f'exec "$@" 3<&{theirs} 4>&{ours}'
        argv = ["bash", "-c", script, "chromium", "chromium", *_OPTIONS, f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            argv, pass_fds=(theirs, ours), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={**os.environ, "HOME": profile}, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        os.close(ours)
        pipe = _Pipe(to, back)
        try:
            yield pipe
            pipe.call("Browser.close")
        finally:
            os.close(to)
            os.close(back)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()
