"""Fewer resamples for every test in this folder."""

from support.resamples import fewer_resamples

__all__ = ["fewer_resamples"]
