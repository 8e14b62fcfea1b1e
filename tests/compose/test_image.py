"""Who builds the image, and that nobody builds it twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.composing import Compose, docker

pytestmark = [pytest.mark.compose, pytest.mark.slow]


def test_one_service_of_a_fresh_clone_builds_the_image_and_a_second_up_builds_nothing(
    compose: Compose, tmp_path: Path
) -> None:
    image = f"{compose.project}-fresh"
    services = compose("config", "--services").split()
    fresh = tmp_path / "fresh.json"
    fresh.write_text(json.dumps({"services": {name: {"image": image} for name in services if name != "redis"}}))
    compose.environment["COMPOSE_FILE"] = f"docker-compose.yml:{fresh}"
    try:
        for service in ("bench", "notebook"):
            compose("up", "--no-start", service, timeout_s=600)
            compose("down", "--timeout", "5")
            docker("image", "rm", image)
        compose("up", "--detach", "polling", timeout_s=600)
        before = docker("inspect", "--format", "{{.Id}}", image), compose.container("polling")
        again = compose("up", "--detach", "--build", "polling", timeout_s=600)
        steps = [line for line in again.splitlines() if "COPY" in line or " RUN " in line]
        assert len(steps) > 5
        assert all(f"{line.split()[0]} CACHED" in again for line in steps), again
        assert (docker("inspect", "--format", "{{.Id}}", image), compose.container("polling")) == before
        assert "COPY" not in compose("up", "--detach", "polling")
        assert (docker("inspect", "--format", "{{.Id}}", image), compose.container("polling")) == before
        assert "polling" in compose("ps", "--services", "--status", "running")
    finally:
        compose("down", "--timeout", "5")
        docker("image", "rm", "--force", image)
