"""A page in Chromium, driven through its debugging pipe: nothing but the browser itself is needed."""

import contextlib
import json
import os
import shutil
import subprocess
import time

EXECUTABLE = shutil.which("chromium") or shutil.which("google-chrome")
"""The browser's path, None where none is installed."""
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe"),
)
PATIENCE = 60


class Page:
    """A page opened by its URL; every message of its console is kept."""

    def __init__(self, url, folder, size=(1500, 950)):
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        os.set_blocking(self._answers, False)

        def connect():
            # Beyond 3 and 4 first: the browser reads commands from 3 and answers on 4.
            first, second = os.dup2(commands, 103), os.dup2(answers, 104)
            os.dup2(first, 3)
            os.dup2(second, 4)

        size_option = f"--window-size={size[0]},{size[1]}"
        self._process = subprocess.Popen(
            [EXECUTABLE, *OPTIONS, size_option, f"--user-data-dir={folder}", "about:blank"],
            preexec_fn=connect,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._buffer, self._number, self._session, self.console = b"", 0, None, []
        target = next(each for each in self.send("Target.getTargets")["targetInfos"] if each["type"] == "page")
        attach = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attach["sessionId"]
        self.send("Runtime.enable")
        self.send("Network.enable")
        self.send("Page.enable")
        self.requests = []
        width, height = size
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.send("Page.navigate", url=url)
        self.wait_for("document.documentElement?.dataset.ready === 'true'")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def send(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            answer = self._receive()
            if answer is None:
                time.sleep(0.01)
            elif answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            elif answer.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
                self.console.append(answer["params"])
            elif answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
        raise TimeoutError(method)

    def evaluate(self, expression):
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression):
        limit = time.monotonic() + PATIENCE
        while not self.evaluate(expression):
            assert time.monotonic() < limit, expression
            time.sleep(0.05)

    def text(self, selector):
        self.settle()
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")

    def settle(self):
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def middle(self, selector):
        return self.evaluate(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )

    def point(self, x, y):
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x, y):
        self.point(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key):
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def _receive(self):
        with contextlib.suppress(BlockingIOError):
            self._buffer += os.read(self._answers, 1 << 20)
        message, separator, rest = self._buffer.partition(b"\0")
        if not separator:
            return None
        self._buffer = rest
        return json.loads(message)
