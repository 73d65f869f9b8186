"""JupyterLab on 127.0.0.1 with a token, and a lab of ours open in Chromium."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SETTINGS = {
    # Cells off the screen must be in the page too, and no news may lie over it.
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}
WHOLE_LAB = 300_000  # milliseconds to run all cells on a loaded machine


def pytest_collection_modifyitems(items):
    if CHROMIUM is None:
        reason = "no Chromium here; on Debian: apt-get install chromium"
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter):
    """How soon a picture follows its slider."""
    reports = terminalreporter.stats.get("passed", [])
    moves = [
        value for report in reports for name, value in report.user_properties if name == "move"
    ]
    if moves:
        terminalreporter.write_line("From a key on a slider to the changed picture, median:")
    for line in sorted(moves):
        terminalreporter.write_line(f"  {line}")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """(folder, address, token) of a JupyterLab that serves copies: it saves what it opens."""
    root = tmp_path_factory.mktemp("jupyter")
    for name, text in SETTINGS.items():
        path = root / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    folder, token = root / "notebooks", secrets.token_hex(16)
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(root / "settings"),
        "JUPYTER_CONFIG_DIR": str(root / "config"),
        "OMP_NUM_THREADS": "1",
    }
    options = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", f"--notebook-dir={folder}"]
    options += [f"--IdentityProvider.token={token}", "--LabApp.expose_app_in_browser=True"]
    options += ["--allow-root"] * (hasattr(os, "getuid") and os.getuid() == 0)
    with (root / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyter", "lab", *options], env=environment, stderr=log
        )
    try:
        _wait_for(f"{address}/api?token={token}", process, root / "server.log")
        yield folder, address, token
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str, process, log: Path, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-background-networking", "--no-first-run"],
        )
        yield browser
        browser.close()


@pytest.fixture
def open_lab(server, chromium):
    """Opens a lab by its number; what it gives back is the page, all of whose cells have run."""
    folder, address, token = server
    pages = []

    def open_(lab: str):
        (source,) = NOTEBOOKS.glob(f"{lab}_*.ipynb")
        shutil.copy(source, folder)
        page = chromium.new_page(viewport={"width": 1100, "height": 900})
        pages.append(page)
        page.set_default_timeout(WHOLE_LAB)
        page.goto(f"{address}/doc/tree/{source.name}?reset&token={token}")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function(f"() => {KERNEL}?.info")
        page.evaluate(f"async () => {{ await {KERNEL}.info; }}")
        done = page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        assert done, f"{source.name}: a cell has failed: {errors(page)}"
        return page

    yield open_
    for page in pages:
        page.evaluate(f"async () => {{ await {SESSION}.shutdown(); }}")  # frees its memory
        page.close()


SESSION = "window.jupyterapp?.shell?.currentWidget?.sessionContext"
KERNEL = f"{SESSION}?.session?.kernel"


def errors(page) -> list[str]:
    """The tracebacks in the page."""
    return page.locator("[data-mime-type='application/vnd.jupyter.error']").all_inner_texts()
