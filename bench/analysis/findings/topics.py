"""What a run is asked, and the numbers that answer it (pure)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """A question, and the columns that may answer it: the first that the run can give of all contestants.

    `as_waited` are those as the user waits, the model's own time included: where no contestant tells that time.
    `title` heads the scoreboard's row, `measure` says what the number is, `lead` what the best one does: "brings the
    first token soonest". Smaller numbers are better, except for COMPLETED.
    """

    id: str
    title: str
    question: str
    columns: tuple[str, ...]
    lead: str
    measure: str = ""
    on_board: bool = True  # else it is answered in words only
    as_waited: tuple[str, ...] = ()


COMPLETED = "completed_ratio"

TOPICS = (
    Topic(
        "first_token",
        "First token",
        "Who brought the first token soonest?",
        ("ttft_overhead_ms_p50",),
        "brings it soonest",
        "over the model's own time, at the median",
        as_waited=("ttft_ms_p50",),
    ),
    Topic(
        "first_token_tail",
        "First token, 99th percentile",
        "Who brought the first token soonest?",
        ("ttft_overhead_ms_p99",),
        "brings it soonest",
        "over the model's own time",
        on_board=False,
        as_waited=("ttft_ms_p99",),
    ),
    Topic(
        "smoothness",
        "Smoothness",
        "Whose tokens came with the least delay?",
        ("wait_s_per_answer", "delay_ms_p99", "delay_ms_p95", "delay_ms_p50"),
        "brings its tokens most smoothly",
        as_waited=("itl_ms_p99", "itl_ms_p95"),
    ),
    Topic(
        "bursts",
        "Bursts",
        "Whose tokens came least in bursts?",
        ("burst_tokens_mean",),
        "brings the fewest tokens at a time",
        on_board=False,
    ),
    Topic("survival", "Survival", "Did everything arrive?", (COMPLETED,), "brings most messages whole"),
    Topic(
        "requests", "Requests", "What did it cost?", ("requests_per_message",), "takes the fewest requests per message"
    ),
    Topic(
        "traffic",
        "Traffic",
        "What did it cost?",
        ("wire_bytes_per_token", "bytes_per_token"),
        "sends the fewest bytes per token",
    ),
    Topic(
        "cpu",
        "CPU",
        "What did it cost?",
        ("cpu_us_per_token",),
        "takes the least processor time per token",
        "of client, server and Redis",
    ),
)
SHARED_MACHINE_TOPICS = ("survival", "requests")
"""The topics of which a run still tells something whose cells shared the machine."""
FELT = ("first_token", "smoothness")
"""What whoever reads an answer feels."""
SPENT = ("requests", "traffic", "cpu")
"""What it costs."""
