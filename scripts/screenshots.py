"""The pictures in the README, taken again: `python scripts/screenshots.py [NAME…]`.

Starts what is to be seen, looks at it with Chromium (Debian: `apt-get install chromium fonts-dejavu-core`) and writes
docs/images/*.png and race.gif: locust, notebook, race, report, survival. `--run` says whose report is to be seen: for
`report` a race, for `survival` a run of `timeouts`.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from clients.chromium.browser import ARGS, NoBrowser, executable
from servers.process import free_port
from servers.transport import STREAMING

PROJECT = Path(__file__).resolve().parents[1]
IMAGES = PROJECT / "docs" / "images"
_READY_S = 30.0
SCREENS = (
    ("report", 1280, 800, "light"),
    ("report-phone", 390, 844, "light"),
    ("report-dark", 1280, 800, "dark"),
)
"""The pictures of a report: name, width and height in CSS pixels, colour scheme."""


@contextmanager
def process(*words: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A process of this Python, ended with the block."""
    command = [sys.executable, "-m", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    running = subprocess.Popen(command, cwd=PROJECT, env=os.environ | variables, text=True, **pipes)  # type: ignore[call-overload]
    try:
        yield running
    finally:
        running.terminate()
        running.wait(30)


@contextmanager
def server(transport: str) -> Iterator[str]:
    """A server; its URL."""
    with process("servers", transport) as running:
        assert running.stdout is not None
        yield json.loads(running.stdout.readline())["url"]


def wait_for(url: str) -> None:
    """Until somebody answers. Raises SystemExit."""
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310  # our own address
            return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"nobody answers at {url} after {_READY_S:g} s")


def locust_tab(page: Page, _run: Path) -> None:
    """Locust's web UI with our tab, 24 users over all transports that have some, after half a minute."""
    with ExitStack() as stack:
        urls = {f"TOKENDERBY_{t.upper()}_URL": stack.enter_context(server(t)) for t in STREAMING}
        results = stack.enter_context(tempfile.TemporaryDirectory())
        port = str(free_port())
        words = ("locust", "-f", "clients/locustfile.py", "--web-host", "127.0.0.1", "--web-port", port)
        stack.enter_context(process(*words, "--results-dir", results, "--skip-report", **urls))
        wait_for(f"http://127.0.0.1:{port}")
        page.goto(f"http://127.0.0.1:{port}")
        page.fill("[name=userCount]", "24")
        page.fill("[name=spawnRate]", "4")
        page.get_by_text("Custom parameters").click()
        page.fill("[name=streamParameters]", "tokens=60")
        page.get_by_role("button", name="Start").click()
        page.get_by_role("tab", name="Tokenderby").click()
        page.wait_for_timeout(35_000)
        page.screenshot(path=IMAGES / "locust.png")
        page.get_by_role("button", name="Stop").click()


def notebook(page: Page, _run: Path) -> None:
    """The review notebook in JupyterLab, as it is committed: from the verdicts to the first chart."""
    with ExitStack() as stack:
        results = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shutil.copy(PROJECT / "results" / "review.ipynb", results)
        port, root = str(free_port()), f"--ServerApp.root_dir={results}"
        words = ("jupyterlab", "--no-browser", "--allow-root", "--port", port, root, "--IdentityProvider.token=")
        homes = {f"JUPYTER_{name}_DIR": str(results / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
        stack.enter_context(process(*words, **homes))
        wait_for(f"http://127.0.0.1:{port}/lab")
        page.set_viewport_size({"width": 1160, "height": 5000})  # so high that no cell waits to be drawn
        page.goto(f"http://127.0.0.1:{port}/doc/tree/review.ipynb")
        picture = page.locator(".jp-OutputArea img").first
        picture.wait_for(timeout=60_000)
        page.wait_for_timeout(2000)  # the page still moves
        top = page.locator(".jp-Notebook h2", has_text="The verdicts").bounding_box()
        end = picture.bounding_box()
        if top is None or end is None:
            sys.exit("the notebook shows no verdicts or no chart: python scripts/refresh_notebook.py")
        begin = top["y"] - 12
        clip = {"x": 60, "y": begin, "width": 1080, "height": end["y"] + end["height"] + 8 - begin}
        page.screenshot(path=IMAGES / "notebook.png", clip=clip)  # type: ignore[arg-type]


def report(page: Page, run: Path) -> None:
    """The first screen of a run's report, on a desk, on a phone, and by night."""
    assert page.context.browser is not None
    for name, width, height, scheme in SCREENS:
        viewport = {"width": width, "height": height}
        screen = page.context.browser.new_page(viewport=viewport, color_scheme=scheme, device_scale_factor=2)  # type: ignore[arg-type]
        screen.goto((run / "report.html").resolve().as_uri())
        screen.screenshot(path=IMAGES / f"{name}.png")
        screen.close()


def survival(_page: Page, run: Path) -> None:
    """The survival map of a run, as its report's picture has it. Raises SystemExit."""
    picture = run / "charts" / "survival.png"
    if not picture.exists():
        sys.exit(f"{run} has no survival map; give --run a run of `timeouts`")
    shutil.copy(picture, IMAGES / picture.name)


def race(page: Page, _run: Path) -> None:
    """`tokenderby watch`: an answer on its way (wide; dark; on a phone), and as an animation from question to end."""
    with process("bench.cli", "watch", "--no-browser") as watching:
        assert watching.stdout is not None
        page.add_init_script("Math.random = () => 2.5 / 2 ** 31")  # the seed: an answer of three seconds
        page.goto(json.loads(watching.stdout.readline())["url"])
        page.set_viewport_size({"width": 1500, "height": 740})
        for name, scheme, width in (
            ("race", "light", 1500),
            ("race-dark", "dark", 1500),
            ("race-narrow", "light", 390),
        ):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.set_viewport_size({"width": width, "height": 740})
            _ask(page)
            page.wait_for_timeout(1900)  # polling has come twice, blocking not at all
            page.screenshot(path=IMAGES / f"{name}.png")
            _wait_for_the_end(page)
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 1500, "height": 740})
        _animate(page)


def _ask(page: Page) -> None:
    page.get_by_role("button", name="Ask").click()
    page.get_by_role("status").get_by_text("Asked.").wait_for()


def _wait_for_the_end(page: Page) -> None:
    page.locator("#status", has_not_text="Asked.").wait_for(timeout=60_000)
    page.wait_for_timeout(500)


def _animate(page: Page) -> None:
    """Write race.gif: the frames that Chromium draws, a few a second, each shown for as long as it was there."""
    session = page.context.new_cdp_session(page)
    shots: list[tuple[float, str]] = []

    def take(event: dict[str, Any]) -> None:
        shots.append((event["metadata"]["timestamp"], event["data"]))
        session.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

    session.on("Page.screencastFrame", take)
    session.send("Page.startScreencast", {"format": "png", "maxWidth": 900, "everyNthFrame": 4})
    _ask(page)
    _wait_for_the_end(page)
    session.send("Page.stopScreencast")
    shown = [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB") for _, data in shots]
    # The screencast leaves frames out, and so maybe the last one: the end is taken by itself.
    end = Image.open(io.BytesIO(page.screenshot())).convert("RGB").resize(shown[0].size)
    # By coverage, then to the nearest: the transports' colours stay, although each has few pixels.
    few = {"colors": 64, "method": Image.Quantize.MAXCOVERAGE, "kmeans": 1, "dither": Image.Dither.NONE}
    frames = [image.quantize(**few) for image in (*shown, end)]  # type: ignore[arg-type]
    gaps_ms = [max(20, round(1000 * (b[0] - a[0]))) for a, b in itertools.pairwise(shots)]
    durations = [*gaps_ms, 100, 3000]  # the end stays for a while
    frames[0].save(IMAGES / "race.gif", save_all=True, append_images=frames[1:], duration=durations, loop=0)


PICTURES: dict[str, Callable[[Page, Path], None]] = {
    "locust": locust_tab,
    "notebook": notebook,
    "race": race,
    "report": report,
    "survival": survival,
}


def main() -> None:
    """Take the pictures that are named, or all of one run: a survival map takes another than a race."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help=f"of {', '.join(PICTURES)}")
    parser.add_argument("--run", type=Path, default=PROJECT / "results" / "reference", help="of `report`, `survival`")
    arguments = parser.parse_args()
    wanted = arguments.pictures or [name for name in PICTURES if name != "survival"]
    if unknown := [name for name in wanted if name not in PICTURES]:
        parser.error(f"no picture {unknown[0]!r}; there are {', '.join(PICTURES)}")
    try:
        path = executable()
    except NoBrowser as error:
        sys.exit(str(error))
    IMAGES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGS))
        for name in wanted:
            PICTURES[name](browser.new_page(viewport={"width": 1280, "height": 760}), arguments.run)
            print(IMAGES / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
