"""A refusal ends an activity for good; what is unavailable is tried again."""

import pytest
from temporalio.exceptions import ApplicationError

from activities.refusing import refusals_are_final
from tidegate.errors import Refused, Unavailable


def test_a_refusal_is_final_and_keeps_its_words() -> None:
    with pytest.raises(ApplicationError) as error, refusals_are_final():
        raise Refused("legal holds it.", code="refused")
    assert error.value.message == "legal holds it."
    assert error.value.type == "Refused"
    assert error.value.non_retryable


def test_what_is_unavailable_is_left_to_be_tried_again() -> None:
    with pytest.raises(Unavailable), refusals_are_final():
        raise Unavailable("nobody answers", code="temporal-unavailable")
