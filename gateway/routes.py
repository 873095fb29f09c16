"""Every endpoint of the gateway, in one list."""

from gateway.admit import AdmitHandler
from gateway.app import BROKEN, App, Below, Handler, broken
from gateway.check import CHECK_PATH, CheckHandler
from gateway.evaluate import Evaluator
from gateway.health import HealthHandler
from gateway.identity import Identity, NotBelieved
from gateway.models import MODELS_PATH, ModelsHandler
from gateway.ofrep import FLAGS_PATH, OfrepHandler
from gateway.replies import Answer, Reply, Request, Stream, json_reply
from gateway.streams import EVENTS_PATH, Streams
from gateway.waitlist import WaitlistHandler
from gateway.why import WhyHandler


def build_app(
    evaluator: Evaluator, health: HealthHandler, streams: Streams, identity: Identity
) -> App:
    """Join the handlers into the application that is served."""
    admit, ofrep = AdmitHandler(evaluator), OfrepHandler(evaluator)
    models = ModelsHandler(evaluator)
    return App(
        {
            (b"POST", b"/v1/admit"): admit,
            (b"POST", b"/v1/sessions"): admit.begin_session,
            (b"POST", b"/v1/waitlist"): WaitlistHandler(evaluator),
            (b"GET", b"/v1/why"): WhyHandler(evaluator),
            (b"GET", b"/v1/snapshot"): _for_servers(identity, streams.snapshot),
            (b"GET", b"/v1/snapshot/stream"): _for_servers(identity, streams.follow),
            (b"POST", FLAGS_PATH): ofrep.all,
            (b"GET", EVENTS_PATH): streams.refetch,
            (b"GET", MODELS_PATH): models.all,
            (b"GET", b"/healthz"): health.alive,
            (b"GET", b"/readyz"): health.ready,
            (b"GET", b"/metrics"): health.metrics,
        },
        below=(
            Below(b"POST", FLAGS_PATH + b"/", ofrep.one),
            Below(b"GET", MODELS_PATH + b"/", models.one),
            Below(b"*", CHECK_PATH, CheckHandler(evaluator)),
        ),
        broken=broken_as_asked,
    )


def _for_servers(identity: Identity, handler: Handler) -> Handler:
    """Guard what holds invite lists and signed orders."""

    def guarded(request: Request) -> Answer | Stream:
        try:
            identity.require_server(request)
        except NotBelieved as refused:
            return refused.reply
        return handler(request)

    return guarded


def broken_as_asked(request: Request) -> Reply:
    """Tell of a defect of ours in the form that the client's protocol knows."""
    if request.path.startswith(FLAGS_PATH):
        return json_reply(500, {"errorDetails": BROKEN})
    return broken(request)
