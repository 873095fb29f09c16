import io
import re

from rich.console import Console, ConsoleDimensions

from console.history import History
from scenarios.frame import bar, draw_frame, spark
from scenarios.view import LiveView, PlainView, View, make_view
from tests.console.made_up import START, launched, sized, snapshot, utc

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def plain() -> tuple[View, io.StringIO]:
    out = io.StringIO()
    return make_view(headless=True, console=Console(file=out, width=60), clock=utc), out


def live() -> tuple[View, io.StringIO]:
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=True, width=120, height=40, _environ={"TERM": "xterm"}
    )
    return make_view(headless=False, console=console, clock=utc), out


def lines_of(history: History, *, width: int = 120, height: int = 30) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    frame = draw_frame(history, "10:01", utc, "", ConsoleDimensions(width, height))
    with console.capture() as captured:
        console.print(frame)
    return captured.get().splitlines()


def test_the_view_is_plain_where_headless_is_asked_or_nobody_watches() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"})
    pipe = Console(file=io.StringIO())
    assert isinstance(make_view(headless=True, console=terminal), PlainView)
    assert isinstance(make_view(headless=False, console=pipe), PlainView)
    assert isinstance(make_view(headless=False, console=terminal), LiveView)


def test_plain_lines_tell_each_event_once_with_the_story_time_and_its_reason() -> None:
    view, out = plain()
    view.start({"page": "http://127.0.0.1:8088", "Temporal UI": "http://127.0.0.1:8233"})
    view.say("$ tidegate approve image-launch pro [role] --by ada")
    history = launched()
    view.show(history, "10:42")
    view.show(history, "10:44")
    view.summary(["held  events-have-no-gap"])
    view.close()
    assert out.getvalue().splitlines() == [
        "page         http://127.0.0.1:8088",
        "Temporal UI  http://127.0.0.1:8233",
        "$ tidegate approve image-launch pro [role] --by ada",
        "10:42  image, stage pro, Pro: advanced 100%",
        "10:42  pool image: sized, needed 9, ready 2, arriving 1, installed 8",
        "10:42  image, stage free-first, Free: forecast 10:00:50–10:01:10 (4 GPUs lack)",
        "10:42  gate of image, Free: tightened 100% → 40% (queue wait 2.10 s is over 1.00 s)",
        "10:42  image, stage free-first, Free: advanced 25% (stage free-first opens for free)",
        "held  events-have-no-gap",
    ]
    assert not CONTROL.search(out.getvalue())


def test_plain_lines_leave_out_sizings_that_booked_nothing() -> None:
    view, out = plain()
    history = History()
    history.hear(START, snapshot(), [], [], [sized(1, START), sized(2, START, needed=12)])
    view.show(history, "10:00")
    assert len(out.getvalue().splitlines()) == 1


def test_the_live_view_keeps_commands_above_and_gives_the_cursor_back() -> None:
    view, out = live()
    view.start({"page": "http://127.0.0.1:8088"})
    view.show(launched(), "10:42")
    view.say("$ tidegate status image-launch")
    view.summary(["held  events-have-no-gap"])
    view.close()
    shown = out.getvalue()
    assert "$ tidegate status image-launch" in shown
    assert shown.endswith("held  events-have-no-gap\n")
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


def test_a_frame_tells_tiers_gate_gpus_wait_and_the_last_decisions() -> None:
    text = "\n".join(lines_of(launched()))
    for words in (
        "image: Pro, Plus, Team open; Free at 25%, more waits for 4 GPUs",
        "never gated",
        "throttled, lets in Free 40%",
        "2 ready, 1 arriving of 8 installed; 9 needed 7 short",
        "GPU use 50% over 1 GPU",
        "gate of image, Free: tightened 100% → 40%",
    ):
        assert words in text


def test_a_frame_fits_the_terminal() -> None:
    for width, height in ((80, 24), (100, 30), (160, 50)):
        shown = lines_of(launched(), width=width, height=height)
        assert len(shown) < height
        assert all(len(line) <= width for line in shown)


def test_a_frame_of_nothing_says_what_is_absent() -> None:
    text = "\n".join(lines_of(History()))
    assert "Nothing is published yet" in text
    history = History()
    history.miss(START, "redis: no answer.")
    assert "redis: no answer. Nothing was heard yet." in "\n".join(lines_of(history))


def test_bars_show_a_little_as_something_and_absent_as_dots() -> None:
    assert bar(None, 4) == "····"
    assert bar(0.0, 4) == "░░░░"
    assert bar(0.001, 4) == "▌░░░"
    assert bar(1.0, 4) == "████"


def test_sparklines_leave_absent_spans_blank_and_draw_zero() -> None:
    points = [(1.0 + second, 0.0 if second < 20 else None) for second in range(40)]
    points += [(41.0 + second, 8.0) for second in range(40)]
    assert spark(points, 80.0, 8.0) == "▁▁▁▁    ████████"
