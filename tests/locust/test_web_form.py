"""Locust's start form, sent by scripts and by other sites' pages: what it refuses, and who gets the servers' token."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from support.locusts import locust
from support.processes import running_server

from clients.locusts.own_names import OwnNames
from servers.process import free_port

TOKEN = "the-servers-secret"


@dataclass(frozen=True)
class WebUi:
    """A running one; `swarm` and `post` say what came of it."""

    url: str
    sse_url: str

    def post(self, path: str, fields: dict[str, str], **headers: str) -> tuple[int, str]:
        """Status and body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, urllib.parse.urlencode(fields).encode(), named)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def swarm(self, **fields: str) -> tuple[bool, str]:
        """Send the form, and stop what it may have started."""
        status, body = self.post("/swarm", {"user_count": "1", "spawn_rate": "1"} | fields)
        assert status == 200, body
        self.post("/stop", {})
        told = json.loads(body)
        return told["success"], told["message"]

    @property
    def state(self) -> str:
        """Whether a test has been started."""
        with urllib.request.urlopen(f"{self.url}/stats/requests", timeout=30) as response:
            return str(json.load(response)["state"])


@pytest.fixture(scope="module")
def web_ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebUi]:
    folder, port = tmp_path_factory.mktemp("locust"), free_port()
    words = ["--web-host", "127.0.0.1", "--web-port", str(port), "--results-dir", str(folder), "--skip-report"]
    words += ["--web-names", "box.example, other.example"]
    with running_server("sse", "--auth-token", TOKEN) as server:
        process = locust(*words, "--auth-token", TOKEN, "--finish", "0", log=folder / "log", sse=server.url)
        try:
            _wait_for(port)
            yield WebUi(f"http://127.0.0.1:{port}", server.url)
            assert "Traceback" not in (folder / "log").read_text()
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(port: int) -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("no web UI")


@pytest.mark.parametrize("path", ["/swarm", "/stop", "/stats/reset", "/user"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},  # another port of the same machine is another origin
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_another_site_s_page_changes_nothing(web_ui: WebUi, path: str, headers: dict[str, str]) -> None:
    status, body = web_ui.post(path, {"user_count": "1", "spawn_rate": "1"}, **headers)
    assert (status, body) == (403, "Only a page of this web UI may do that.")
    assert web_ui.state in ("ready", "stopped")


@pytest.mark.parametrize("path", ["/swarm", "/stop", "/tokenderby/live"])
@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::", "localhost.evil"])
def test_nobody_else_s_name_leads_to_it(web_ui: WebUi, path: str, name: str) -> None:
    """DNS rebinding: the page and its target are one site then, and have one name, which is not the web UI's."""
    host = f"{name}:{web_ui.url.rpartition(':')[2]}"
    for headers in ({"Origin": f"http://{host}"}, {"Origin": f"http://{host}", "Sec_Fetch_Site": "same-origin"}, {}):
        status, body = web_ui.post(path, {"user_count": "1", "spawn_rate": "1"}, Host=host, **headers)
        assert (status, "--web-names" in body) == (403, True), body
    assert web_ui.state in ("ready", "stopped")


def test_its_own_names_lead_to_it(web_ui: WebUi) -> None:
    port = web_ui.url.rpartition(":")[2]
    for name in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]", "box.example", "Other.Example"):
        host = f"{name}:{port}"
        assert web_ui.post("/stop", {}, Host=host, Origin=f"http://{host}")[0] == 200, name


def test_who_listens_everywhere_is_known_by_every_address_but_by_no_name() -> None:
    names = OwnNames.of("*", "")
    assert names.has("192.0.2.7:8089")
    assert names.has("[2001:db8::7]:8089")
    assert not names.has("evil.example:8089")
    assert not OwnNames.of("192.0.2.8", "").has("192.0.2.7:8089")
    assert OwnNames.of("192.0.2.8", "").has("192.0.2.8")


def test_its_own_page_and_a_script_may(web_ui: WebUi) -> None:
    for headers in ({"Origin": web_ui.url}, {"Sec_Fetch_Site": "same-origin", "Origin": web_ui.url}, {}):
        assert web_ui.post("/stop", {}, **headers)[0] == 200


def test_the_token_goes_to_no_server_that_the_form_names(web_ui: WebUi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
        success, message = web_ui.swarm(sse_url=url)
        elsewhere.settimeout(0.2)
        with pytest.raises(TimeoutError):
            elsewhere.accept()
    assert not success
    assert message.startswith(f"--sse-url: {url!r} was not named when Locust was started")
    assert web_ui.swarm(sse_url=web_ui.sse_url)[0]


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("stream_parameters", "recording=answers.jsonl", "--stream-parameters: recording: only a plan can have one"),
        ("stream_parameters", "tokens=20000 gap_ms=1000", "the answer would last over 3600 s"),
        ("sse_url", "http://[", "--sse-url: takes an address"),
        ("results_dir", "/tmp/elsewhere", "--results-dir: not a field of the form"),
        ("auth_token", "", "--auth-token: not a field of the form"),
        ("skip_report", "true", "--skip-report: not a field of the form"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(web_ui: WebUi, field: str, value: str, told: str) -> None:
    success, message = web_ui.swarm(**{field: value})
    assert not success
    assert told in message
