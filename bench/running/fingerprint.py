"""The hash of what a run asks the simulated model for, so that two runs can be told to have had the same work."""

from __future__ import annotations

import hashlib
import json

import msgspec

from bench.plan import Cell, Plan
from bench.running.scaling import scaled_load, scaled_stream
from bench.running.wire_stream import wire_stream
from bench.table_checks import PlanError
from clients.arrivals import PlannedMessage, plan_messages
from clients.job import Load
from servers.stream import StreamSpec, build
from servers.struct_words import explained
from servers.user_errors import StreamError

FIRST_BLOCK = 1
MAX_BUILT = 20_000  # answers whose texts and times are hashed: a few seconds' work


def schedule_sha256(plan: Plan) -> str:
    """Hex SHA-256 over starts, texts and due times of the first block's measured messages, for each stream and load.

    The other blocks follow from the same seed by the same code; hashing them too would only take longer. Where a plan
    has more than `MAX_BUILT` messages, the rest is hashed by starts and seeds. Times are the plan's, whatever its time
    scale. Raises PlanError if one of the answers cannot be.
    """
    digest = hashlib.sha256()
    pairs = {(cell.stream, cell.load): cell for cell in plan.cells}
    for names, cell in sorted(pairs.items()):
        digest.update(json.dumps(names).encode())
        try:
            _add(digest, messages_of(plan, cell), MAX_BUILT // len(pairs))
            _check_scaled(plan, cell)
        except StreamError as error:
            raise PlanError(f"[{f'streams.{cell.stream}' if cell.stream else 'stream'}]: {error}") from None
        except msgspec.ValidationError as error:
            where = f"[{f'loads.{cell.load}' if cell.load else 'load'}] and time_scale"
            scaled = msgspec.to_builtins(scaled_load(plan.load_of(cell), plan.time_scale))
            raise PlanError(f"{where}: {explained(error, scaled, Load)}") from None
    return digest.hexdigest()


def messages_of(plan: Plan, cell: Cell) -> list[PlannedMessage]:
    """The measured messages of `cell` in the first block."""
    stream, _ = wire_stream(plan.stream_of(cell))
    return plan_messages(plan.load_of(cell), stream, plan.seed, FIRST_BLOCK)


def _check_scaled(plan: Plan, cell: Cell) -> None:
    """Raise StreamError or ValidationError if the time scale, below 1, makes an answer or a limit too long."""
    if plan.time_scale < 1:
        msgspec.convert(msgspec.to_builtins(scaled_load(plan.load_of(cell), plan.time_scale)), Load)
        for message in messages_of(plan, cell):
            build(StreamSpec.parse(scaled_stream(dict(message.stream), plan.time_scale)), message.seed)


def _add(digest: hashlib._Hash, messages: list[PlannedMessage], most_built: int) -> None:
    for number, message in enumerate(messages):
        digest.update(f"{message.conversation} {message.turn} {message.offset_ns}\n".encode())
        if number < most_built:
            build(StreamSpec.parse(message.stream), message.seed).update_digest(digest)
        else:
            digest.update(f"{message.seed}\n".encode())
