"""Every endpoint of the gateway, in one list."""

from gateway.admit import AdmitHandler
from gateway.app import App
from gateway.evaluate import Evaluator
from gateway.health import HealthHandler
from gateway.ofrep import FLAGS_PATH, OfrepHandler
from gateway.why import WhyHandler


def build_app(evaluator: Evaluator, health: HealthHandler) -> App:
    """Join the handlers into the application that is served."""
    ofrep = OfrepHandler(evaluator)
    return App(
        {
            ("POST", "/v1/admit"): AdmitHandler(evaluator),
            ("GET", "/v1/why"): WhyHandler(evaluator),
            ("POST", FLAGS_PATH): ofrep.all,
            ("GET", "/healthz"): health.alive,
            ("GET", "/readyz"): health.ready,
            ("GET", "/metrics"): health.metrics,
        },
        one_flag=ofrep.one,
    )
