from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

from console.history import History
from scenarios.picture import draw
from tests.console.made_up import START, launched, sized, snapshot, utc


def story_time(real: float) -> datetime:
    """Four minutes of the story a second, as the launch day is played."""
    return utc(START) + timedelta(seconds=(real - START) * 240)


def drawn(history: History, path: Path) -> bytes:
    draw(history, path, title="Launch day", story_time=story_time)
    return path.read_bytes()


def test_the_picture_is_an_svg_and_the_same_history_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (drawn(launched(), tmp_path / f"{name}.svg") for name in "ab")
    assert first == second
    assert ET.fromstring(first).tag == "{http://www.w3.org/2000/svg}svg"
    assert b"<dc:date>" not in first


def test_the_picture_names_its_panels_tiers_and_openings(tmp_path: Path) -> None:
    picture = drawn(launched(), tmp_path / "day.svg").decode()
    for words in (
        "Launch day",
        "04 Mar 2026, 10:00–13:56",
        "Share of Free let in by the gate",
        "GPUs",
        "Requests a second, admitted by tier",
        "Queue wait, seconds",
        "Free 25%",
        "waits, told 13:20–14:40",
    ):
        assert f"<!-- {words} -->" in picture


def test_a_story_in_which_nothing_was_heard_is_an_empty_frame(tmp_path: Path) -> None:
    history = History()
    history.miss(START, "redis: no answer.")
    ET.fromstring(drawn(history, tmp_path / "day.svg"))


def test_a_story_with_holes_in_everything_is_drawn(tmp_path: Path) -> None:
    history = History()
    history.hear(START, snapshot(), [], [], [sized(1, START)])
    for second in range(1, 20):
        history.miss(START + second, "redis: no answer.")
    ET.fromstring(drawn(history, tmp_path / "day.svg"))
