"""The lines of docker-compose.yml and .env.example that name each transport: `python scripts/compose_services.py`.

Compose has no loops, so they are written from the registry (servers/transport.py), between `# transports: NAME` and
`# end`; everything else in these files is left alone.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from servers.transport import STREAMING, TRANSPORTS

PROJECT = Path(__file__).resolve().parents[1]
FIRST_PORT = 8001  # of the proxies, on 127.0.0.1
WATCH_PORTS = f"8010-{8010 + len(TRANSPORTS)}"  # of the race page and of each transport there
_SECTION = re.compile(r"^( *# transports: (\w+)\n).*?^( *# end\n)", re.MULTILINE | re.DOTALL)


def servers() -> Iterable[str]:
    """A service for each server."""
    for transport in TRANSPORTS.values():
        options = " --redis-url redis://redis:6379/0" if transport.needs_redis else ""
        options += " --heartbeat ${HEARTBEAT:-0}" if transport.streams else ""
        yield f"  {transport.name}:"
        yield "    <<: *server"
        yield f"    command: serve {transport.name} --host 0.0.0.0 --port 8000{options}"
        if transport.needs_redis:
            yield "    depends_on:"
            yield "      tokenderby: {condition: service_started}"
            yield "      redis: {condition: service_healthy}"


def proxies() -> Iterable[str]:
    """The timeout proxy before each server whose tokens can be watched, and its port."""
    settings = "--profile ${PROXY_PROFILE:-none} --time-scale ${PROXY_TIME_SCALE:-1}"
    for port, name in enumerate(STREAMING, FIRST_PORT):
        yield f"  proxy-{name}:"
        yield "    <<: *proxy"
        yield f"    command: proxy --upstream {name}:8000 --listen 0.0.0.0:8000 {settings}"
        yield f'    ports: ["127.0.0.1:${{{name.upper()}_PORT:-{port}}}:8000"]'
        yield f"    depends_on: [{name}]"


def watch() -> Iterable[str]:
    """The race page, and the ports behind it: the page has to know them, so they are the same inside and outside."""
    ports = f"${{WATCH_PORTS:-{WATCH_PORTS}}}"
    yield f"    command: watch --no-browser --host 0.0.0.0 --port {ports} --profile ${{PROXY_PROFILE:-none}}"
    yield f'    ports: ["127.0.0.1:{ports}:{ports}"]'


def watch_ports() -> Iterable[str]:
    """Their default, as a setting."""
    yield f"WATCH_PORTS={WATCH_PORTS}"


def bench() -> Iterable[str]:
    """Which servers the run uses, and that it is started after them."""
    yield "    command: >-"
    yield "      tokenderby run ${PLAN-full} ${RUN_OPTIONS:-} --target-wait 60 --redis-url redis://redis:6379/0"
    yield from (f"      --target {name}=http://{name}:8000" for name in TRANSPORTS)
    yield "    depends_on:"
    yield "      redis: {condition: service_healthy}"
    yield from (f"      {name}: {{condition: service_started}}" for name in TRANSPORTS)


def locust() -> Iterable[str]:
    """Where Locust's users find the proxies; the settings that follow belong to the same table."""
    yield f"  depends_on: [{', '.join(f'proxy-{name}' for name in STREAMING)}]"
    yield "  environment:"
    yield from (f"    TOKENDERBY_{name.upper()}_URL: http://proxy-{name}:8000" for name in STREAMING)


def ports() -> Iterable[str]:
    """The defaults of the proxies' ports, as settings."""
    yield from (f"{name.upper()}_PORT={port}" for port, name in enumerate(STREAMING, FIRST_PORT))


SECTIONS: dict[str, Callable[[], Iterable[str]]] = {
    f.__name__: f for f in (servers, proxies, watch, watch_ports, bench, locust, ports)
}
FILES = ("docker-compose.yml", ".env.example")


def written(text: str) -> str:
    """A file's text with its sections as the registry has them."""
    return _SECTION.sub(lambda found: "".join((found[1], *_lines(found[2]), found[3])), text)


def _lines(section: str) -> Iterable[str]:
    return (f"{line}\n" for line in SECTIONS[section]())


def main() -> None:
    """Write the files anew, and say which have changed."""
    argparse.ArgumentParser(description=__doc__).parse_args()  # who asks for help wants nothing written
    for path in (PROJECT / name for name in FILES):
        before = path.read_text()
        after = written(before)
        path.write_text(after)
        print(f"{path.name}: {'as it was' if after == before else 'written anew'}")


if __name__ == "__main__":
    main()
