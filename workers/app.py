"""The Celery application. Settings are in the top level module `celeryconfig`."""

from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from celery.signals import setup_logging
from kombu.connection import Connection

from provisioning import config
from provisioning.logs import configure_logs


class PatientConnection(Connection):
    """Asks for a lost broker every two seconds.

    Kombu's own pause grows to half a minute, so a broker's return would go unnoticed for
    longer than the jobs recorded meanwhile may wait.
    """

    def _ensure_connection(self, *arguments: Any, **options: Any) -> Any:
        options.setdefault("interval_start", 1)
        options.setdefault("interval_step", 1)
        options.setdefault("interval_max", 2)
        return super()._ensure_connection(*arguments, **options)  # type: ignore[no-untyped-call]


class PatientAMQP(AMQP):  # type: ignore[misc]
    """Celery's messaging with `PatientConnection`."""

    Connection = PatientConnection


app = Celery("provisioning", amqp=PatientAMQP, include=["workers.tasks"])
app.config_from_object("celeryconfig")


@setup_logging.connect
def _keep_our_logs(**_: Any) -> None:
    """Log the way the front does instead of Celery's way."""
    settings = config.load()
    configure_logs(settings["LOG_FORMAT"], settings["LOG_LEVEL"])
