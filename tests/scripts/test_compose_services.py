"""The Compose file has every transport of the registry."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(PROJECT / "scripts" / "compose_services.py"))


@pytest.mark.parametrize("name", SCRIPT["FILES"])
def test_the_files_are_as_the_registry_has_them(name: str) -> None:
    text = (PROJECT / name).read_text()
    assert SCRIPT["written"](text) == text, "python scripts/compose_services.py (or make fix) writes it"


def test_the_addresses_that_people_rely_on() -> None:
    proxies, bench, locust = ("\n".join(SCRIPT[section]()) for section in ("proxies", "bench", "locust"))
    for port, name in enumerate(("polling", "websocket", "chunked", "sse"), 8001):
        assert f'["127.0.0.1:${{{name.upper()}_PORT:-{port}}}:8000"]' in proxies
        assert f"TOKENDERBY_{name.upper()}_URL: http://proxy-{name}:8000" in locust
        assert f"--target {name}=http://{name}:8000" in bench
