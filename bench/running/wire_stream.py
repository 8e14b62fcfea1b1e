"""A plan's stream as requests carry it: a recording goes by its id, and is read once."""

from __future__ import annotations

from functools import lru_cache

from servers import recording


def wire_stream(table: dict[str, object]) -> tuple[dict[str, object], list[str]]:
    """A plan's stream table as requests carry it, and the recordings' files."""
    file = table.get("recording")
    if file is None:
        return table, []
    return table | {"recording": _registered(str(file))}, [str(file)]


@lru_cache(maxsize=32)
def _registered(file: str) -> str:
    """The id of a recording, known to this process from now on. Raises servers.user_errors.StreamError."""
    loaded = recording.load_recording(file)
    recording.register(loaded)
    return loaded.id
