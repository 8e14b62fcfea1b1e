"""The real proxies that speak TLS and HTTP/2: what they offer, and what becomes of their key."""

from __future__ import annotations

import json
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.programs import program

from bench.proxy import real
from bench.proxy.certificate import CertificateError, make_certificate
from bench.proxy.real import KINDS, SECURE, Running, real_proxy

Start = Callable[[], Running]
NOBODY = "127.0.0.1", 9


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.needs(KINDS[name].program)) for name in SECURE])
def secure(request: pytest.FixtureRequest) -> str:
    program("openssl")
    return str(request.param)


@pytest.fixture
def running(secure: str) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(real_proxy(secure, NOBODY))


def shake_hands(address: tuple[str, int], cafile: Path, *protocols: str, name: str = "127.0.0.1") -> str | None:
    """The protocol that the server chooses of these."""
    context = ssl.create_default_context(cafile=cafile)
    context.set_alpn_protocols(protocols)
    with socket.create_connection(address, timeout=5) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
        return tls.selected_alpn_protocol()


def test_both_versions_of_http_over_tls_that_is_trusted(running: Start) -> None:
    found = running()
    assert found.cafile is not None
    assert found.plain is not None
    assert (found.url[:8], found.plain_url[:7]) == ("https://", "http://")
    for name in ("127.0.0.1", "localhost"):
        assert shake_hands(found.address, found.cafile, "h2", "http/1.1", name=name) == "h2"
    assert shake_hands(found.address, found.cafile, "http/1.1") == "http/1.1"
    with socket.create_connection(found.plain, timeout=5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert plain.recv(9).startswith(b"HTTP/1.1 ")


def test_nobody_else_can_read_the_key_and_it_goes_with_its_proxy(secure: str) -> None:
    with real_proxy(secure, NOBODY) as running:
        assert running.cafile is not None
        folder = running.cafile.parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        keys = [path for path in folder.glob("*.pem") if b"PRIVATE KEY" in path.read_bytes()]
        assert len(keys) == 2
        assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}
    assert not folder.exists()


def test_as_a_command(secure: str) -> None:
    command = [sys.executable, "-m", "bench.proxy", "--profile", f"real:{secure}", "--upstream", "127.0.0.1:9"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        ready = json.loads(process.stdout.readline())
        cafile = Path(ready["cafile"])
        assert ready["plain_url"].startswith("http://127.0.0.1:")
        host, _, port = ready["url"].removeprefix("https://").rpartition(":")
        assert shake_hands((host, int(port)), cafile, "h2") == "h2"
        process.terminate()
        assert process.wait(10) == 0
    assert not cafile.parent.exists()


@pytest.mark.parametrize(
    ("version", "word", "line"),
    [("1.22.1", " http2", ""), ("1.25.0", " http2", ""), ("1.25.1", "", "http2 on;"), ("1.29.6", "", "http2 on;")],
)
def test_each_nginx_is_told_in_its_own_way(tmp_path: Path, version: str, word: str, line: str) -> None:
    nginx = tmp_path / "nginx"
    nginx.write_text(f"#!/bin/sh\necho 'nginx version: nginx/{version} (Debian)' >&2\n")
    nginx.chmod(0o700)
    assert real._http2_words(str(nginx)) == {"http2_word": word, "http2_line": line}


def test_without_openssl_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CertificateError, match="on Debian: apt-get install openssl"):
        make_certificate(tmp_path)


def test_a_certificate_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    program("openssl")
    with pytest.raises(CertificateError, match=r"openssl makes no certificate: .+"):
        make_certificate(tmp_path, "WHAT:is-this")
