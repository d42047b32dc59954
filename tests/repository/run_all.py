"""Open notebooks in JupyterLab as `make lab` does, in headless Chromium, and choose Run All, as a reader does.

python tests/repository/run_all.py 00 05: in a clone of the working tree; without numbers all of them. `make test-lab`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RUN_ALL = """(async () => {
  const wait = milliseconds => new Promise(go => setTimeout(go, milliseconds));
  while (!window.jupyterapp) await wait(200);
  const app = window.jupyterapp;
  await app.restored;
  const open = () => [...app.shell.widgets('main')].find(one => one.sessionContext && one.context?.path.endsWith(NAME));
  while (!open()) await wait(200);
  const panel = open();
  await panel.context.ready;
  await panel.sessionContext.ready;
  while (!panel.sessionContext.session?.kernel) await wait(200);
  while (app.shell.currentWidget !== panel) { app.shell.activateById(panel.id); await wait(200); }
  await app.commands.execute('notebook:run-all-cells');
  const cells = JSON.parse(JSON.stringify(panel.content.model)).cells.filter(cell => cell.cell_type === 'code');
  const outputs = cells.flatMap(cell => cell.outputs);
  return {
    cells: cells.length,
    skipped: cells.filter(cell => String(cell.source).trim() && cell.execution_count === null).length,
    errors: outputs.filter(one => one.output_type === 'error').map(one => `${one.ename}: ${one.evalue}`),
    warnings: outputs.filter(one => one.name === 'stderr').map(one => String(one.text)),
    pictures: outputs.filter(one => one.data?.['image/png']).length,
    shown: panel.node.querySelectorAll('.jp-OutputArea-output img').length,
  };
})()"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process and all that it starts, ended with the block."""
    job = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, **options)
    try:
        yield job
    finally:
        os.killpg(job.pid, signal.SIGTERM)
        try:
            job.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)


def answer(url: str, seconds: float = 60) -> bytes:
    """What stands at an address, as soon as somebody answers there."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as page:
                return bytes(page.read())
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def lab_command(clone: Path, environment: dict[str, str], port: int) -> list[str]:
    """What `make lab` runs, without a browser of its own and open to questions of ours."""
    said = subprocess.run(
        ["make", "-n", "lab", f'PY="{sys.executable}"'],
        cwd=clone, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    line = said.stdout.replace("\\\n", " ").splitlines()[-1]
    ours = [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--allow-root"]
    return [*shlex.split(line), "--no-browser", *ours, "--LabApp.expose_app_in_browser=True", "--log-level=ERROR"]


class Page:
    """A page of a browser, by Chrome's DevTools protocol."""

    def __init__(self, port: int, timeout: float) -> None:
        pages = json.loads(answer(f"http://127.0.0.1:{port}/json"))
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        self.line, self.number = websocket.create_connection(address, timeout=timeout, suppress_origin=True), 0

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        self.line.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            told = json.loads(self.line.recv())
            if told.get("id") == self.number:
                assert "error" not in told, told
                return dict(told["result"])

    def run(self, script: str) -> Any:
        """What a promise in the page comes to."""
        told = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")


def run_all(clone: Path, environment: dict[str, str], names: list[str], timeout: float = 600) -> dict[str, Any]:
    """Notebook -> what is seen of it when all its cells have run."""
    port, window, found = free_port(), free_port(), {}
    assert CHROMIUM is not None, "needs Chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = environment | {"HOME": folder, "JUPYTER_CONFIG_DIR": f"{folder}/config"}
        browser = [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder}",
            f"--remote-debugging-port={window}", "--window-size=1400,1000", "about:blank",
        ]  # fmt: skip
        with (
            started(lab_command(clone, environment, port), cwd=clone, env=home),
            started(browser, stderr=subprocess.DEVNULL),
        ):
            answer(f"http://127.0.0.1:{port}/api")
            page = Page(window, timeout)
            page.ask("Emulation.setFocusEmulationEnabled", enabled=True)  # commands act on what has the focus
            for name in names:
                started_at = time.perf_counter()
                page.ask("Page.navigate", url=f"http://127.0.0.1:{port}/lab/tree/notebooks/{name}?reset")
                time.sleep(1)  # the page before may still answer
                found[name] = page.run(RUN_ALL.replace("NAME", json.dumps(name)))
                found[name]["seconds"] = round(time.perf_counter() - started_at)
                page.run("window.jupyterapp.serviceManager.sessions.shutdownAll()")
    return found


def main() -> None:
    """See the module's docstring."""
    from conftest import ROOT, git, make_clone  # beside this file

    names = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    names = [name for name in names if not sys.argv[1:] or name[:2] in sys.argv[1:]]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AA_", "MAKE", "MFLAGS"))}
    with tempfile.TemporaryDirectory(prefix="run_all_") as folder:
        clone = make_clone(Path(folder))
        for name in names:
            seen = run_all(clone, kept | {"PYTHONPATH": str(clone)}, [name])[name]
            words = re.sub(r"[{}\"]", "", json.dumps(seen))
            print(f"{name}: {words}", flush=True)
            assert not seen["errors"] + ["skipped"] * seen["skipped"], name
        assert not git(clone, "status", "--porcelain"), git(clone, "status", "--porcelain")
    print("no tracked file has changed")


if __name__ == "__main__":
    main()
