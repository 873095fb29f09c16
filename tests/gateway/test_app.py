"""How a handler is found, and what is answered where one has a defect."""

import json

import pytest

from gateway.app import App, Below
from gateway.ofrep import FLAGS_PATH
from gateway.replies import Reply, Request
from gateway.routes import broken_as_asked
from tests.gateway.asking import Asked
from tests.gateway.test_models import held


def fails(_: Request) -> Reply:
    raise ZeroDivisionError


FAILING = App(
    {(b"POST", FLAGS_PATH): fails, (b"POST", b"/v1/admit"): fails},
    below=(Below(b"POST", FLAGS_PATH + b"/", fails),),
    broken=broken_as_asked,
)


def answered(app: App, method: bytes, target: bytes) -> Reply:
    reply = app.answer(Request(method, target))
    assert isinstance(reply, Reply)
    return reply


@pytest.mark.parametrize("path", [FLAGS_PATH, FLAGS_PATH + b"/image", FLAGS_PATH + b"?a=b"])
def test_a_defect_is_told_over_ofrep_as_the_protocol_has_it(path: bytes) -> None:
    reply = answered(FAILING, b"POST", path)
    assert (reply.status, set(json.loads(reply.body))) == (500, {"errorDetails"})


def test_a_defect_is_a_problem_document_everywhere_else() -> None:
    reply = answered(FAILING, b"POST", b"/v1/admit")
    assert (reply.status, json.loads(reply.body)["code"]) == (500, "broken")


async def test_a_head_below_a_path_is_a_get() -> None:
    asked = Asked(held())
    of_get = await asked.get("/v1/models/image-latest")
    assert await asked.get("/v1/models/image-latest", method="HEAD") == of_get
    refused = await asked.get("/v1/models/image-latest", method="DELETE")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")


class Prefix(bytes):
    """A prefix that tells whether anybody looked at it."""

    looked_at = 0

    def __len__(self) -> int:
        self.looked_at += 1
        return super().__len__()


def test_no_query_and_no_long_path_pushes_out_what_is_remembered() -> None:
    prefix = Prefix(b"/flags/")
    app = App(
        {(b"GET", b"/why"): lambda _: Reply(200, b"", ())},
        below=(Below(b"POST", prefix, lambda _: Reply(200, b"", ())),),
    )
    assert answered(app, b"POST", b"/flags/image").status == 200
    searched = prefix.looked_at
    assert searched
    for n in range(2_000):
        assert answered(app, b"GET", b"/why?user=%d" % n).status == 200
        assert answered(app, b"POST", b"/flags/%d%s" % (n, b"a" * 300)).status == 200
    searched = prefix.looked_at
    assert answered(app, b"POST", b"/flags/image").status == 200
    assert prefix.looked_at == searched
