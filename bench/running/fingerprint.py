"""The hash of what a run asks the simulated model for, so that two runs can be told to have had the same work."""

from __future__ import annotations

import hashlib
import json

from bench.plan import Plan
from bench.running.measure import wire_stream
from clients.arrivals import plan_messages
from servers import recording
from servers.stream import StreamSpec, build

FIRST_BLOCK = 1


def schedule_sha256(plan: Plan) -> str:
    """Hex SHA-256 over starts, texts and due times of the first block's measured messages, for each stream and load.

    The other blocks follow from the same seed by the same code; hashing them too would only take longer.
    """
    digest = hashlib.sha256()
    pairs = {(cell.stream, cell.load): cell for cell in plan.cells}
    for names, cell in sorted(pairs.items()):
        digest.update(json.dumps(names).encode())
        for message in plan_messages(plan.load_of(cell), _known(plan.stream_of(cell)), plan.seed, FIRST_BLOCK):
            digest.update(f"{message.conversation} {message.turn} {message.offset_ns}\n".encode())
            build(StreamSpec.parse(message.stream), message.seed).update_digest(digest)
    return digest.hexdigest()


def _known(table: dict[str, object]) -> dict[str, object]:
    """A stream as requests carry it, its recording known to this process."""
    stream, files = wire_stream(table)
    for file in files:
        recording.register(recording.load(file))
    return stream
