"""An alarm clock for an event loop, more exact than its own timers.

uvloop's timers (libuv's) have whole milliseconds, which is more than a loopback transport takes; Linux's timerfd has
nanoseconds. Elsewhere the loop's own timer serves, and the lateness that every run records shows what that costs.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
_TFD_TIMER_ABSTIME = 1
_HAS_TIMERFD: bool = sys.platform.startswith("linux")


class Alarm(Protocol):
    """Calls back once, at or after the CLOCK_MONOTONIC nanosecond that it was last set to, never before it."""

    def set(self, deadline_ns: int) -> None:
        """Ring at `deadline_ns` (as soon as possible when it has passed); replaces what was set before."""

    def close(self) -> None:
        """Free what the alarm holds; it never rings again."""


def alarm(callback: Callable[[], object]) -> Alarm:
    """The most exact alarm for the running event loop."""
    loop = asyncio.get_running_loop()
    kind = _TimerFd if _HAS_TIMERFD else _LoopTimer
    return kind(loop, callback)


class _ITimerSpec(ctypes.Structure):
    """`struct itimerspec` of <time.h> on 64-bit Linux: interval, then first expiry, each in s and ns."""

    _fields_ = (
        ("interval_s", ctypes.c_int64),
        ("interval_ns", ctypes.c_int64),
        ("value_s", ctypes.c_int64),
        ("value_ns", ctypes.c_int64),
    )


class _TimerFd:
    """timerfd_create(2) through ctypes; Python itself has it from 3.13 on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._settime = libc.timerfd_settime
        self._fd: int = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._spec = _ITimerSpec(0, 0, 0, 0)
        self._reference = ctypes.byref(self._spec)
        self._loop, self._callback = loop, callback
        loop.add_reader(self._fd, self._ring)

    def set(self, deadline_ns: int) -> None:
        spec = self._spec
        # An expiry of 0 would disarm the timer.
        spec.value_s, spec.value_ns = divmod(max(deadline_ns, 1), 1_000_000_000)
        self._settime(self._fd, _TFD_TIMER_ABSTIME, self._reference, None)

    def _ring(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # set anew between the expiry and this call
            return
        self._callback()

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


class _LoopTimer:
    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
        self._loop, self._callback = loop, callback
        self._handle: asyncio.TimerHandle | None = None
        self._deadline_ns = 0

    def set(self, deadline_ns: int) -> None:
        self.close()
        self._deadline_ns = deadline_ns
        delay_s = max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9)
        self._handle = self._loop.call_later(delay_s, self._ring)

    def _ring(self) -> None:
        if time.monotonic_ns() < self._deadline_ns:  # a loop may round down
            self.set(self._deadline_ns)
        else:
            self._handle = None
            self._callback()

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
