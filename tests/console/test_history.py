from console.history import History, Quantity
from tests.console.made_up import (
    PAID,
    START,
    event,
    feature,
    gate,
    gateway,
    launched,
    node,
    sized,
    snapshot,
)
from tidegate.snapshot import Snapshot


def heard(history: History, second: float, *, waits_s: tuple[float | None, ...] = (0.5,)) -> None:
    now = START + second
    history.hear(now, snapshot(), [node(now, waits_s)], [gateway(now)], [])


def test_queue_wait_is_the_mean_over_engines() -> None:
    history = History()
    heard(history, 0, waits_s=(1.0, 3.0, None))
    assert history.series(Quantity.QUEUE_WAIT_S, "image").last == 2.0


def test_an_absent_queue_wait_is_a_hole_and_never_zero() -> None:
    history = History()
    heard(history, 0)
    heard(history, 1, waits_s=(None, None))
    history.hear(START + 2, snapshot(), [], [], [])
    values = [value for _, value in history.series(Quantity.QUEUE_WAIT_S, "image").points]
    assert values == [0.5, None, None]


def test_a_stale_node_is_a_hole() -> None:
    history = History()
    history.hear(START + 60, snapshot(), [node(START)], [], [])
    assert history.series(Quantity.QUEUE_WAIT_S, "image").last is None
    assert history.nodes == ()


def test_demand_is_added_up_over_gateways() -> None:
    history = History()
    gateways = [gateway(START, name="a"), gateway(START, name="b")]
    history.hear(START, snapshot(), [], gateways, [])
    assert history.series(Quantity.ADMITTED_RPS, "image", "pro").last == 20.0


def test_demand_is_a_hole_while_one_gateway_is_late_and_whole_once_it_has_gone() -> None:
    history = History()
    late, fresh = gateway(START, name="a"), gateway(START + 20, name="b")
    history.hear(START + 20, snapshot(), [], [late, fresh], [])
    assert history.series(Quantity.ADMITTED_RPS, "image", "pro").last is None
    history.hear(START + 90, snapshot(), [], [late, gateway(START + 90, name="b")], [])
    assert history.series(Quantity.ADMITTED_RPS, "image", "pro").last == 10.0


def test_a_tier_that_no_gateway_mentions_is_absent() -> None:
    history = History()
    heard(history, 0)
    assert history.series(Quantity.ADMITTED_RPS, "image", "team").last is None


def test_gpus_are_placed_when_they_changed_not_when_that_was_heard() -> None:
    history = History()
    history.hear(START + 30, snapshot(), [], [], [sized(1, START + 10), sized(2, START + 20)])
    history.hear(START + 31, snapshot(), [], [], [sized(3, START + 30, ready=5)])
    ready = history.series(Quantity.READY_GPUS, "image")
    assert list(ready.points) == [(START + 10, 2.0), (START + 30, 5.0)]


def test_an_event_heard_twice_does_nothing_twice() -> None:
    history = History()
    once = event(1, "stage.due")
    history.hear(START, snapshot(), [], [], [once, once])
    history.hear(START + 1, snapshot(), [], [], [once])
    assert list(history.events) == [once]
    assert history.events_heard == 1


def test_events_since_are_those_not_told_yet() -> None:
    history = History()
    history.hear(START, snapshot(), [], [], [event(1, "stage.due")])
    told = history.events_heard
    history.hear(START, snapshot(), [], [], [event(2, "stage.approved")])
    assert [e.sequence for e in history.events_since(told)] == [2]
    assert history.events_since(history.events_heard) == ()


def test_a_second_without_an_answer_is_a_hole_in_everything_and_the_state_stays() -> None:
    history = History()
    heard(history, 0)
    history.miss(START + 1, "redis: no answer.")
    assert history.series(Quantity.EXPOSURE, "image", "pro").last is None
    assert history.series(Quantity.QUEUE_WAIT_S, "image").last is None
    assert history.snapshot == snapshot()
    assert history.heard_at == START
    heard(history, 2)
    assert history.silent_because is None
    assert history.series(Quantity.EXPOSURE, "image", "pro").last == 1.0


def test_gpus_are_known_again_after_a_silence_although_no_event_repeats_them() -> None:
    history = History()
    history.hear(START, snapshot(), [], [], [sized(1, START)])
    history.miss(START + 1, "redis: no answer.")
    heard(history, 2)
    assert history.series(Quantity.READY_GPUS, "image").last == 2.0


def test_a_lost_snapshot_is_a_hole_in_exposure_and_gate() -> None:
    history = History()
    heard(history, 0)
    history.hear(START + 1, Snapshot(), [], [], [])
    assert history.series(Quantity.EXPOSURE, "image", "pro").last is None
    assert history.series(Quantity.CEILING, "image", "free").last is None


def test_nothing_is_counted_as_a_change_while_nothing_changes() -> None:
    history = History()
    heard(history, 0)
    changes = history.changes
    heard(history, 1)
    assert history.changes == changes
    history.hear(START + 2, snapshot(feature(PAID | {"free": 0.1}), gate(0.5)), [], [], [])
    assert history.changes > changes


def test_an_hour_is_bounded_to_the_half_hour_kept() -> None:
    history = History(keep_s=600)
    for second in range(1500):
        heard(history, second, waits_s=(second / 10,))
    assert len(history.series(Quantity.QUEUE_WAIT_S, "image").points) <= 602
    assert history.began_at() == history.now - 600


def test_events_kept_are_bounded_and_the_newest_stay() -> None:
    history = History()
    history.hear(START, snapshot(), [], [], [event(n, "stage.due") for n in range(1, 5001)])
    assert len(history.events) <= 2000
    assert history.events[-1].sequence == 5000
    assert history.events_heard == 5000


def test_tiers_are_named_in_the_order_they_are_served() -> None:
    assert launched().tiers() == ("pro", "plus", "team", "free")
