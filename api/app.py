"""The WSGI application."""

import gc
import threading

from flask import Flask

from api import (
    access_log,
    audit,
    backends,
    credentials,
    health,
    job_events,
    job_stream,
    manage,
    manage_orphans,
    manage_servers,
    metrics,
    queue,
    requests,
    responses,
    sandboxes,
)
from api.waiting import WaitingRoom
from provisioning.configuration.starting import load_or_exit
from provisioning.installation import Installation, build_installation
from provisioning.orphans.restore import notice_restore
from provisioning.state import failpoints


def create_app(installation: Installation | None = None) -> Flask:
    """Build the application; without an installation, one from the environment."""
    if installation is None:
        settings = load_or_exit()
        failpoints.watch(settings.provisioning_failpoints)
        installation = build_installation(settings)
        notice_restore(installation)
    app = Flask("api", static_folder=None)
    app.extensions["installation"] = installation
    #: Set by the web server when the process was told to stop.
    app.extensions["stopping"] = threading.Event()
    # Werkzeug cuts a body without a length at the limit; one byte more shows that it was cut.
    app.config["MAX_CONTENT_LENGTH"] = installation.config.body_limit_bytes + 1
    # A path means what it says: no redirect to a "better" one (contract 1.6).
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.extensions["waiting_room"] = WaitingRoom(
        installation.database,
        installation.config.waiting_requests,
        installation.config.streams,
    )
    if installation.config.access_log:
        access_log.install(app)
    requests.install(app)
    responses.install(app)
    if installation.config.metrics_token.reveal():
        metrics.install(app)
        app.register_blueprint(metrics.blueprint)
    _spare_the_collector()
    for module in (
        backends,
        credentials,
        sandboxes,
        queue,
        job_events,
        job_stream,
        manage,
        manage_servers,
        audit,
        manage_orphans,
        health,
    ):
        app.register_blueprint(module.blueprint)
    return app


def _spare_the_collector() -> None:
    """Take what was loaded so far out of the garbage collector's rounds, and make them rarer.

    It is there to stay, and walking it over and over is a noticeable share of each request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
