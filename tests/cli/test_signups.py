"""Sign-ups at the command line: what is typed wrong is told before anybody is asked."""

import pytest

from tests.cli.test_exit_codes import types
from tidegate.cli.suspending import Asked, read_order
from tidegate.messages.feature import SignupsOrder, SignupsVerb

WHY = ["--reason", "a surge"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["close"], 'signups: got "close", expected suspend or reopen. Write one of the two.'),
        (["open"], 'signups: got "open", expected suspend or reopen. Did you mean "reopen"?'),
        (
            ["suspend"],
            "--reason: got nothing, expected why. Say it; whoever is refused is shown it.",
        ),
        (
            ["suspend", *WHY, "--cohort", "beta"],
            (
                '--cohort: got "beta", expected none, as suspending is for everybody outside. '
                "Suspend first, then reopen."
            ),
        ),
        (
            ["reopen", "--cohort", "beta,staff"],
            (
                '--cohort: got "beta,staff", expected one name without commas. '
                "Name each cohort by itself."
            ),
        ),
        (
            ["reopen", "--share", "10"],
            '--share: got "10", expected 0% to 100%. Write the share reached, such as "2.5%".',
        ),
        (
            ["reopen", "--share", "0%"],
            (
                "--share: got 0%, expected more than 0%. "
                'Write the share to let in, such as "10%", or suspend.'
            ),
        ),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(words: list[str], message: str) -> None:
    assert types("signups", "image", *words, temporal="nobody:1") == (2, [message])


@pytest.mark.parametrize("words", [["--share", ""], ["--cohort", ""]])
def test_what_a_script_failed_to_fill_in_does_not_reopen_for_all(words: list[str]) -> None:
    code, (line,) = types("signups", "image", "reopen", *words, temporal="nobody:1")
    assert (code, line.startswith(f'{words[0]}: got "", expected ')) == (2, True)


def test_what_is_typed_well_is_what_the_feature_is_asked() -> None:
    asked = Asked("image", "reopen", ("beta", "staff"), "2.5%", "it calms", "mara")
    assert read_order(asked) == SignupsOrder(
        verb=SignupsVerb.REOPEN,
        cohorts=("beta", "staff"),
        share=0.025,
        reason="it calms",
        by="mara",
    )
    for_all = read_order(Asked("image", "reopen", (), None, "", "mara"))
    assert (for_all.cohorts, for_all.share) == ((), None)
