"""Our tab in Locust's web UI: live figures by transport, and a check of the start form before a test begins.

Locust draws a tab's name and a table, no charts; so its page gets one script more (tab.js), which asks for the figures
every second and draws them while our tab is open.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, request, send_file

from clients.locusts.coordinator import Coordinator
from clients.locusts.live import FIGURES, Live, Point, for_json
from clients.locusts.options import NOT_IN_FORM, OptionError
from clients.locusts.own_names import OwnNames, is_foreign
from clients.minima import MESSAGES_NEEDED
from servers.transport import TRANSPORTS

KEY = "tokenderby"
_SCRIPT = Path(__file__).with_name("tab.js")


def add_to(web_ui: Any, coordinator: Coordinator) -> None:
    """Add the tab, its data, a link to the report, and the check of the form."""
    given = coordinator.environment.parsed_options
    pages = Blueprint(KEY, __name__, url_prefix=f"{given.web_base_path or ''}/{KEY}")
    protected = web_ui.auth_required_if_enabled

    @pages.route("/tab.js")
    def script() -> Response:
        return send_file(_SCRIPT, mimetype="text/javascript", max_age=0)

    @pages.route("/live")
    @protected  # type: ignore[untyped-decorator]
    def live() -> Response:
        return jsonify(live_json(coordinator.live) | {"finding": coordinator.farewell.partition(": ")[2]})

    @pages.route("/report")
    @protected  # type: ignore[untyped-decorator]
    def report() -> Response | tuple[str, int]:
        if not coordinator.report_path:
            return "There is no report yet: it is written when a test has ended.", 404
        return send_file(coordinator.report_path, max_age=0)

    web_ui.app.register_blueprint(pages)
    own_names = OwnNames.of(given.web_host, given.web_names)
    web_ui.app.before_request(lambda: _refuse_foreign_names(own_names))
    web_ui.app.before_request(_refuse_foreign_pages)
    web_ui.app.before_request(lambda: _check_form(web_ui, coordinator))
    web_ui.app.after_request(_with_script)
    web_ui.template_args |= {
        "extended_tabs": [{"title": "Tokenderby", "key": KEY}],
        "extended_csv_files": [{"href": f"./{KEY}/report", "title": "Open the Tokenderby report of the last test"}],
    }


def live_json(live: Live) -> dict[str, Any]:
    """The figures as the script takes them; unknown is null."""
    lines = {transport: _columns([*line]) for transport, line in list(live.lines.items())}
    look = {t.name: {"title": t.title, "colour": t.colour} for t in TRANSPORTS.values()}
    figures = [{"figure": figure, "title": title} for figure, title in FIGURES.items()]  # a list keeps its order
    return {"figures": figures, "transports": look, "lines": lines, "p99_needs": MESSAGES_NEEDED[0.99]}


def _columns(line: list[tuple[float, Point]]) -> dict[str, list[Any]]:
    figures = {figure: [for_json(point[figure]) for _, point in line] for figure in FIGURES}
    return {"t": [at_s for at_s, _ in line], **figures}


def _with_script(response: Response) -> Response:
    """Locust's own page, and ours at its end."""
    if request.endpoint == "locust.index" and response.mimetype == "text/html" and not response.direct_passthrough:
        page = response.get_data(as_text=True)
        # Our classes have addresses of their own; the form is checked when it is sent.
        page = page.replace('"missing_host_warning": true', '"missing_host_warning": false')
        response.set_data(page.replace("</body>", f'<script src="./{KEY}/tab.js" defer></script></body>'))
    return response


def _refuse_foreign_names(own_names: OwnNames) -> tuple[str, int, dict[str, str]] | None:
    """Nothing is shown or done under a name that anybody may have led here."""
    if own_names.has(request.host):
        return None
    told = f"{request.host!r} is no name of this web UI: open it by its address, or start Locust with --web-names.\n"
    return told, 403, {"Content-Type": "text/plain; charset=utf-8"}


def _refuse_foreign_pages() -> tuple[str, int] | None:
    """Nothing is started, stopped or changed by a page from elsewhere; its reader does not even see it happen."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if request.method in ("GET", "HEAD", "OPTIONS") or not is_foreign(site, origin, request.host):
        return None
    return "Only a page of this web UI may do that.", 403


def _check_form(web_ui: Any, coordinator: Coordinator) -> Response | None:
    """Before a test starts: what is wrong with the form, in words; None if nothing is."""
    if request.endpoint != "locust.swarm":
        return None
    environment = coordinator.environment
    given = vars(environment.parsed_options)
    if hidden := sorted(NOT_IN_FORM & set(request.form)):
        return _told(
            f"--{hidden[0].replace('_', '-')}: not a field of the form; give it when Locust is started", coordinator
        )
    wanted = given | {key: value for key, value in request.form.items() if key in given}
    names = request.form.getlist("user_classes")
    if web_ui.userclass_picker_is_active and names:
        classes = [c for c in coordinator.every_class if c.__name__ in names]
    else:
        classes = coordinator.with_server(wanted)
    try:
        coordinator.options(wanted, classes, request.form.get("host") or environment.host)
    except OptionError as error:
        return _told(str(error), coordinator)
    if not web_ui.userclass_picker_is_active:
        environment.user_classes = classes
    return None


def _told(message: str, coordinator: Coordinator) -> Response:
    """What Locust's form shows instead of starting."""
    return jsonify({"success": False, "message": message, "host": coordinator.environment.host})
