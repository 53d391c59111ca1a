"""A headless Chromium, driven over the WebDriver protocol (https://www.w3.org/TR/webdriver2/)."""

from __future__ import annotations

import base64
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import httpx

from tests.e2e.rest import until
from tests.support.ports import free_port

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1400",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The protocol's word for an element."""
WITHIN = 30.0


def missing_parts() -> list[str]:
    """The programs that are not there: Debian has them in chromium and chromium-driver."""
    return [name for name in ("chromium", "chromedriver") if not shutil.which(name)]


class Browser:
    """One window; a context manager. Elements are named by XPath and waited for."""

    def __init__(self) -> None:
        self._profile = Path(tempfile.mkdtemp(prefix="clusterra-browser-"))
        port = free_port()
        self._driver = subprocess.Popen(
            [shutil.which("chromedriver"), f"--port={port}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        self._session = ""

    def __enter__(self) -> Self:
        until(self._is_ready, WITHIN, lambda: "chromedriver does not answer")
        options = {"args": [*FLAGS, f"--user-data-dir={self._profile}"]}
        asked = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        self._session = self._post("/session", capabilities=asked)["sessionId"]
        return self

    def __exit__(self, *_: object) -> None:
        if self._session:
            self._http.delete(f"/session/{self._session}")
        self._http.close()
        self._driver.terminate()
        self._driver.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, url: str) -> None:
        """Go to an address."""
        self._do("/url", url=url)

    @property
    def url(self) -> str:
        """Where the window is."""
        return self._get("/url")

    def run(self, script: str, *args: Any) -> Any:
        """What a function body of JavaScript returns."""
        return self._do("/execute/sync", script=script, args=list(args))

    def text(self) -> str:
        """All that can be read."""
        return self.run("return document.body.innerText") or ""

    def wait_for(self, words: str) -> str:
        """Wait until some words can be read, and return all that can."""
        until(lambda: words in self.text(), WITHIN, lambda: f"{words!r} is not in:\n{self.text()}")
        return self.text()

    def find(self, xpath: str) -> str:
        """Wait for an element, and return the protocol's name for it."""
        end = time.monotonic() + WITHIN
        while True:
            found = self._http.post(
                f"/session/{self._session}/element", json={"using": "xpath", "value": xpath}
            )
            if found.status_code == 200:
                return found.json()["value"][ELEMENT]
            if time.monotonic() > end:
                raise AssertionError(f"There is no {xpath} in:\n{self.text()}")
            time.sleep(0.1)

    def click(self, xpath: str) -> None:
        """Click on an element, once nothing is in front of it."""
        until(lambda: self._clicked(self.find(xpath)), WITHIN, lambda: f"{xpath} takes no click")

    def follow(self, xpath: str) -> None:
        """Click on a link that opens a window of its own, and go on there."""
        before = self._handles()
        self.click(xpath)
        until(lambda: len(self._handles()) > len(before), WITHIN, lambda: f"{xpath} opens nothing")
        (new,) = set(self._handles()) - set(before)
        self._do("/window", handle=new)

    def type(self, xpath: str, text: str) -> None:
        """Type into an element."""
        self._do(f"/element/{self.find(xpath)}/value", text=text)

    def press(self, key: str) -> None:
        """Press a key, wherever the focus is."""
        keys = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self._do("/actions", actions=[{"type": "key", "id": "keyboard", "actions": keys}])

    def command(self, name: str, **params: Any) -> Any:
        """Give Chromium a command of its DevTools protocol."""
        return self._do("/goog/cdp/execute", cmd=name, params=params)

    def shoot(self, path: Path) -> None:
        """Save a picture of the window."""
        path.write_bytes(base64.b64decode(self._get("/screenshot")))

    def _handles(self) -> list[str]:
        return self._get("/window/handles")

    def _clicked(self, element: str) -> bool:
        path = f"/session/{self._session}/element/{element}/click"
        return self._http.post(path, json={}).status_code == 200

    def _is_ready(self) -> bool:
        try:
            return self._http.get("/status").json()["value"]["ready"]
        except httpx.HTTPError:
            return False

    def _get(self, path: str) -> Any:
        return self._http.get(f"/session/{self._session}{path}").json()["value"]

    def _do(self, path: str, **body: Any) -> Any:
        return self._post(f"/session/{self._session}{path}", **body)

    def _post(self, path: str, **body: Any) -> Any:
        answer = self._http.post(path, json=body)
        if answer.is_error:
            raise AssertionError(answer.json()["value"]["message"])
        return answer.json()["value"]
