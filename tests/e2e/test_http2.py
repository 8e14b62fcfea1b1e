"""HTTP/1.1, TLS and HTTP/2 through a real nginx by `tokenderby run`, and a connection lost with all that it carries."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from support.programs import program

from .conftest import Bench

pytestmark = [pytest.mark.slow, pytest.mark.needs("nginx")]
CELLS = """
[[cells]]
transport = "sse"
profile = "real:nginx-h2"
tls = true
http = [1, 2]

[[cells]]
transport = "sse"
profile = "cut.toml"
recovery = "resume"
tls = true
http = 2
"""
CUT = """
[[behaviour]]
type = "cut"
action = "rst"
after_s = 0.5
"""


def test_nothing_is_lost_and_a_cut_connection_costs_each_of_its_streams(bench: Bench) -> None:
    program("openssl")
    (bench.folder / "cut.toml").write_text(CUT)
    stream = "tokens = 30\nttft_ms = 20\ngap_ms = 20\ngap_sigma = 0"
    done = bench.run("run", bench.plan(CELLS, stream=stream, streams=20))
    assert done.returncode == 0, done.stderr
    folder, run = bench.only_run()
    assert {cell.cell: (cell.status, cell.failed_messages) for cell in run.cells} == {
        "sse tls=on real:nginx-h2": ("ok", 0),
        "sse http=2 tls=on real:nginx-h2": ("ok", 0),
        "sse http=2 tls=on cut resume": ("ok", 0),
    }
    streams = pq.read_table(folder.streams_path).to_pandas()
    assert set(streams.outcome) == {"ok"}
    assert (streams.tokens_lost.sum(), streams.tokens_duplicated.sum()) == (0, 0)
    kept = streams.groupby("cell").connections.sum()
    assert kept["sse http=2 tls=on real:nginx-h2"] <= 1 < kept["sse tls=on real:nginx-h2"]
    assert (streams.tls_ms[streams.connections > 0] > 0).all()
    assert (streams.tls_ms[streams.connections == 0] == 0).all()
    cut = streams[streams.profile == "cut"]
    assert cut.drops.sum() > cut.connections.sum() > 0  # one connection, many drops
    assert set("; ".join(cut.noticed_by[cut.drops > 0]).split("; ")) == {"rst"}
    assert all((cell.proxy_cpu_s or 0) > 0 for cell in run.cells)  # nginx is somebody's child, and counts
