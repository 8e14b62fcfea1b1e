"""The words `tls`, `http` and `share` of a cell: what they take beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.proxy import profile as proxy_profiles
from bench.proxy.real import PREFIX, SECURE
from bench.proxy.rule import reads_http
from bench.table_checks import PlanError

if TYPE_CHECKING:
    from bench.plan import Cell


def is_secure(profile: str) -> bool:
    """Whether a profile is a real proxy that speaks TLS itself."""
    return profile.startswith(PREFIX) and profile.removeprefix(PREFIX) in SECURE


def check_secure(cell: Cell, where: str) -> None:
    """Raise PlanError where these words make no sense together, or with the cell's profile (which exists)."""
    if cell.http == 2 and not cell.tls:
        raise PlanError(f"{where} http: 2 goes over TLS, as browsers have it; takes tls = true beside it")
    if "share" in cell.variant and cell.http != 2:
        raise PlanError(f"{where} share: means nothing without http = 2")
    if cell.tls and cell.profile != "direct" and not is_secure(cell.profile) and _looks_into_http(cell.profile):
        takes = ", ".join(f"{PREFIX}{name}" for name in SECURE)
        raise PlanError(
            f"{where} tls: {cell.profile} looks into HTTP, which TLS hides from it; takes {takes}, "
            "or a profile that looks at connections alone, as mobile-nat"
        )


def _looks_into_http(profile: str) -> bool:
    return profile.startswith(PREFIX) or reads_http(proxy_profiles.load_profile(profile).rules)
