"""A real nginx that speaks TLS in front of a server, with a certificate made for the test."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.programs import program

from bench.proxy.certificate import LOCAL_NAMES, Certificate, make_certificate
from bench.proxy.real import NGINX_HEAD
from servers.process import free_port

_NGINX = (
    f"master_process off;\n{NGINX_HEAD}"
    """
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    location / {{
      proxy_pass {upstream};
      proxy_buffering off;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      {extra}
    }}
  }}
}}
"""
)


def certificate(folder: Path, names: str = LOCAL_NAMES) -> Certificate:
    """Make one for `names`; without openssl the test is skipped."""
    program("openssl")
    return make_certificate(folder, names)


@contextmanager
def nginx_with_tls(upstream: str, certificate: Certificate, folder: Path, extra: str = "") -> Iterator[str]:
    """nginx in front of `upstream`; its https URL. `extra` stands in its location."""
    nginx = program("nginx")
    port = free_port("127.0.0.1")
    config = folder / "nginx.conf"
    files = {"cert": certificate.cert, "key": certificate.key, "folder": folder}
    config.write_text(_NGINX.format(port=port, upstream=upstream, extra=extra, **files))
    process = subprocess.Popen([nginx, "-e", f"{folder}/error.log", "-c", str(config)], stderr=subprocess.PIPE)
    try:
        _wait_for(port, process)
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(500):
        assert process.poll() is None, process.communicate()[1]
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.01)
    raise AssertionError("nginx does not listen")
