"""The hash of what a run asks the simulated model for, so that two runs can be told to have had the same work."""

from __future__ import annotations

import hashlib
import json

from bench.plan import Plan
from bench.running.measure import wire_stream
from servers import recording
from servers.stream import StreamSpec, build, message_seed

FIRST_BLOCK = 1


def schedule_sha256(plan: Plan) -> str:
    """Hex SHA-256 over texts and due times of the measured messages of the first block, for each stream and load.

    The other blocks follow from the same seed by the same code; hashing them too would only take longer.
    """
    digest = hashlib.sha256()
    pairs = {(cell.stream, cell.load): cell for cell in plan.cells}
    for names, cell in sorted(pairs.items()):
        digest.update(json.dumps(names).encode())
        spec = _spec(plan.stream_of(cell))
        for k in range(plan.load_of(cell).streams):
            build(spec, message_seed(plan.seed, FIRST_BLOCK, k)).update_digest(digest)
    return digest.hexdigest()


def _spec(table: dict[str, object]) -> StreamSpec:
    stream, files = wire_stream(table)
    for file in files:
        recording.register(recording.load(file))
    return StreamSpec.parse(stream)
