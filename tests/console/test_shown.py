import json
import re

from console.history import History
from console.links import workflow_urls
from console.shown import charts, texts
from tests.console.made_up import START, event, launched, snapshot, utc
from tidegate.settings import Settings

URL = workflow_urls(Settings(temporal_ui="http://127.0.0.1:8233/"))


def series(chart: object) -> list[dict[str, object]]:
    drawn = json.loads(json.dumps(chart))["series"]
    assert isinstance(drawn, list)
    return drawn


def test_every_chart_is_json_and_has_a_lane_for_each_tier() -> None:
    drawn = charts(launched())
    assert [curve["name"] for curve in series(drawn.exposure)] == ["Pro", "Plus", "Team", "Free"]
    pool = drawn.pools["image"]
    assert [curve["name"] for curve in series(pool.gate)] == ["Pro", "Plus", "Team", "Free"]
    assert len(series(pool.demand)) == 3 * 4
    assert [curve["name"] for curve in series(pool.gpus)] == [
        "arriving",
        "ready",
        "installed",
        "needed",
    ]


def test_absent_seconds_are_holes_in_the_wait_chart() -> None:
    (wait,) = series(charts(launched()).pools["image"].wait)
    data = wait["data"]
    assert isinstance(data, list)
    assert sum(value is None for _, value in data) == 3
    assert all(value is None or value > 0 for _, value in data[1:])


def test_what_gpus_arrive_stands_on_what_is_ready() -> None:
    arriving, ready, *_ = series(charts(launched()).pools["image"].gpus)
    assert isinstance(arriving["data"], list)
    assert isinstance(ready["data"], list)
    assert (arriving["data"][-1][1], ready["data"][-1][1]) == (3, 2)


def test_a_chart_stays_light_after_half_an_hour() -> None:
    history = launched()
    for second in range(60, 1800):
        history.hear(START + second, history.snapshot, history.nodes, history.gateways, [])
    drawn = charts(history).pools["image"]
    assert len(json.dumps(drawn.demand)) < 150_000
    assert len(json.dumps(drawn.wait)) < 20_000


def test_before_anything_is_heard_the_page_says_so() -> None:
    history = History()
    said = texts(history, utc, URL)
    assert "no intent was heard yet" in said.stages
    assert "no event was heard yet" in said.decisions
    assert charts(history).exposure is None


def test_decisions_come_newest_first_with_their_reasons() -> None:
    said = texts(launched(), utc, URL).decisions
    assert said.index("advanced 25%") < said.index("tightened") < said.index("forecast")
    assert "queue wait 2.10 s is over 1.00 s" in said


def test_features_and_stages_link_to_their_workflows() -> None:
    stages = texts(launched(), utc, URL).stages
    base = "http://127.0.0.1:8233/namespaces/default/workflows"
    assert f'href="{base}/feature%2Fimage"' in stages
    assert f'href="{base}/rollout%2Flaunch"' in stages


def test_what_people_wrote_is_escaped() -> None:
    history = History()
    attack = '<img src=x onerror="alert(1)">'
    evil = event(1, "stage.due", feature=attack, stage=attack, tier="pro", reason=attack)
    history.hear(START, snapshot(), [], [], [evil])
    said = texts(history, utc, URL)
    assert not re.search(r"<img", said.decisions + said.stages)
    assert "&lt;img" in said.decisions
