"""The Celery application. Settings are in the top level module `celeryconfig`."""

from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from celery.signals import setup_logging
from kombu.connection import Connection

#: Seconds between two tries to reach a lost broker.
LONGEST_PAUSE = 2


class PatientConnection(Connection):
    """Asks for a lost broker every two seconds.

    Kombu's own pause grows to half a minute, so a broker's return would go unnoticed for
    longer than the jobs recorded meanwhile may wait.
    """

    def _ensure_connection(
        self,
        errback: Any = None,
        max_retries: Any = None,
        interval_start: Any = 1,
        interval_step: Any = 1,
        interval_max: Any = LONGEST_PAUSE,
        callback: Any = None,
        reraise_as_library_errors: Any = True,
        timeout: Any = None,
    ) -> Any:
        # Kombu passes these by position when sending finds the connection lost.
        return super()._ensure_connection(
            errback,
            max_retries,
            interval_start,
            interval_step,
            min(interval_max, LONGEST_PAUSE),
            callback,
            reraise_as_library_errors,
            timeout,
        )


class PatientAMQP(AMQP):  # type: ignore[misc]
    """Celery's messaging with `PatientConnection`."""

    Connection = PatientConnection


app = Celery("provisioning", amqp=PatientAMQP, include=["workers.tasks"])
app.config_from_object("celeryconfig")


@setup_logging.connect
def _keep_our_logs(**_: Any) -> None:
    """Keep Celery from setting up logs of its own."""
