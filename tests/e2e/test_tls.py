"""Targets behind a real nginx that speaks TLS, from `tokenderby run` and from Locust."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.locusts import locust
from support.processes import RunningServer
from support.tls import certificate, nginx_with_tls

from bench.proxy.certificate import Certificate
from bench.store import RunFolder
from servers.transport import STREAMING, TRANSPORTS

from .conftest import Bench

pytestmark = pytest.mark.slow
ALL = f"[[cells]]\ntransport = {json.dumps(list(TRANSPORTS))}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def urls(
    made: Certificate, server: Callable[[str], RunningServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Each transport's https address; a WebSocket's as wss."""
    with ExitStack() as stack:
        found = {
            transport: stack.enter_context(
                nginx_with_tls(server(transport).url, made, tmp_path_factory.mktemp(transport))
            )
            for transport in TRANSPORTS
        }
        yield found | {"websocket": found["websocket"].replace("https", "wss")}


def test_a_run_against_https_and_wss(bench: Bench, urls: dict[str, str], made: Certificate) -> None:
    words = [word for transport, url in urls.items() for word in ("--target", f"{transport}={url}")]
    done = bench.run("run", bench.plan(ALL), *words, "--cafile", str(made.cert))
    assert done.returncode == 0, done.stderr
    folder, run = bench.only_run()
    assert {cell.transport: cell.failed_messages for cell in run.cells} == dict.fromkeys(TRANSPORTS, 0)
    import pyarrow.parquet as pq

    streams = pq.read_table(folder.streams_path).to_pandas()
    opened = streams[streams.connections > 0]
    assert set(streams.outcome) == {"ok"}
    assert (opened.tls_ms > 0).all()
    assert (streams[streams.connections == 0].tls_ms == 0).all()


@pytest.mark.parametrize(
    ("scheme", "words", "told"),
    [
        ("https", [], "is not trusted (self-signed certificate); see --cafile and --insecure"),
        ("https", ["--cafile", "nowhere.pem"], "--cafile: nowhere.pem: No such file or directory"),
        ("https", ["--cafile", __file__], "takes a file of certificates in PEM form"),
        ("http", [], "answers 400 (“400 The plain HTTP request was sent to HTTPS port”); GET /healthz"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_said(
    bench: Bench, urls: dict[str, str], scheme: str, words: list[str], told: str
) -> None:
    target = f"sse={urls['sse'].replace('https', scheme)}"
    done = bench.run("run", bench.plan('[[cells]]\ntransport = "sse"\n'), "--target", target, *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, done.stderr.count("\n")), done.stderr
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.extra
def test_locust_against_https_and_wss(tmp_path: Path, urls: dict[str, str], made: Certificate) -> None:
    process = locust(
        *("--headless", "-u", "8", "-r", "8", "-t", "6s", "--stream-parameters", "tokens=8 ttft_ms=50 gap_ms=10"),
        *("--think-time", "0.2", "--poll-interval", "0.1", "--results-dir", str(tmp_path), "--skip-report"),
        *("--cafile", str(made.cert)),
        log=None,
        **{transport: urls[transport] for transport in STREAMING},
    )
    _, said = process.communicate(timeout=60)
    (path,) = [path for path in tmp_path.iterdir() if path.name != "latest"]
    cells = RunFolder(path).load().cells
    assert {cell.transport for cell in cells} == set(STREAMING), said
    assert sum(cell.messages for cell in cells) > 20
    assert sum(cell.failed_messages for cell in cells) == 0
