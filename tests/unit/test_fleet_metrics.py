"""The metrics of queues, fleets and Redis servers, and that names from Redis neither break nor flood them."""

from __future__ import annotations

from dataclasses import replace

from taskfleet.fleet_metrics import FleetCollector, FleetFigures, Readings, RedisServers
from taskfleet.process.exposition import exposition
from taskfleet.protocol.stats import QueueStats, ServerMemory
from taskfleet.protocol.worker_info import serving
from tests.unit.operator.builders import STATS, worker

OWNER = ("namespace", "name")
ORDERS = ("shop", "orders")


def text_of(readings: Readings, owner: tuple[str, ...] = OWNER) -> list[str]:
    return exposition(FleetCollector(lambda: readings, owner))[0].decode().splitlines()


def fleet() -> FleetFigures:
    own = [
        replace(worker("a", busy=2), stuck=1, clock_skew_seconds=-7.5, oldest_run_seconds=60.0),
        worker("b", state="draining"),
        worker("b/1", state="\x1b[31m"),
    ]
    other = replace(worker("other", busy=4), stuck=4, queues=("default/1", "mail"))
    return FleetFigures(ORDERS, {"default": STATS}, [*own], serving([*own, other]), {"default": 30.0})


def test_the_figures_of_a_queue_are_shown_with_their_owner() -> None:
    lines = text_of(Readings([fleet()]))
    label = '{name="orders",namespace="shop",queue="default"}'
    for metric, value in {
        "ready": 7, "running": 2, "delayed": 5, "dead": 1, "oldest_age_seconds": 4, "paused": 0, "target_seconds": 30,
        "enqueued_total": 100, "finished_total": 90, "failed_total": 1, "busy_seconds_total": 45,
        "workers": 2,  # `a`, and `other`, which serves a partition of it; those that drain claim nothing
    }.items():  # fmt: skip
        assert f"taskfleet_queue_{metric}{label} {float(value)}" in lines


def test_the_workers_of_a_fleet_are_its_own() -> None:
    lines = text_of(Readings([fleet()]))
    label = 'name="orders",namespace="shop"'
    assert f'taskfleet_fleet_workers{{{label},state="running"}} 1.0' in lines
    assert f'taskfleet_fleet_workers{{{label},state="draining"}} 1.0' in lines
    assert f'taskfleet_fleet_workers{{{label},state="other"}} 1.0' in lines
    assert f"taskfleet_fleet_slots{{{label}}} 12.0" in lines
    assert f"taskfleet_fleet_busy_slots{{{label}}} 2.0" in lines
    assert f"taskfleet_fleet_stuck_slots{{{label}}} 1.0" in lines
    assert f"taskfleet_fleet_clock_skew_seconds{{{label}}} 7.5" in lines
    assert f"taskfleet_fleet_oldest_run_seconds{{{label}}} 60.0" in lines


def test_a_reader_of_one_redis_has_no_owner() -> None:
    lines = text_of(Readings([FleetFigures(queues={"default": STATS}, workers=fleet().workers)]), ())
    assert 'taskfleet_queue_ready{queue="default"} 7.0' in lines
    assert "taskfleet_fleet_stuck_slots 1.0" in lines


def test_queues_beyond_the_cap_share_one_label_and_the_others_keep_theirs() -> None:
    seen = [{f"q{number}": STATS for number in range(5)}]
    collector = FleetCollector(lambda: Readings([FleetFigures(queues=seen[-1])]), most_queues=3)

    def ready() -> dict[str, float]:
        family = next(one for one in collector.collect() if one.name == "taskfleet_queue_ready")
        return {sample.labels["queue"]: sample.value for sample in family.samples}

    assert ready() == {"q0": 7, "q1": 7, "q2": 7, "other": 14}
    seen.append({"a": STATS, **seen[-1]})
    assert ready() == {"q0": 7, "q1": 7, "q2": 7, "other": 21}
    seen.append({"a": STATS, "q0": STATS, "q4": STATS})
    assert ready() == {"q0": 7, "a": 7, "q4": 7}


def test_the_counters_of_the_others_only_grow_and_only_by_what_happened() -> None:
    def counted(**totals: int) -> dict[str, QueueStats]:
        return {name: replace(STATS, failed_total=total) for name, total in totals.items()}

    seen = [counted(a=5, b=900, c=100_000)]
    collector = FleetCollector(lambda: Readings([FleetFigures(queues=seen[-1])]), most_queues=1)

    def failed() -> float:
        family = next(one for one in collector.collect() if one.name == "taskfleet_queue_failed")
        return {sample.labels["queue"]: sample.value for sample in family.samples}["other"]

    assert failed() == 0  # what was before this process is in no difference that it shows
    for now, grown in (
        (counted(a=5, b=902, c=100_000), 2),
        (counted(a=5, b=902), 2),  # c has gone
        (counted(a=5, b=903, c=100_000), 3),  # it could not be read for a moment
        (counted(b=903, c=100_001, d=7), 4),  # a has gone, and b has its label
        (counted(b=903, c=1, d=8), 6),  # the counters of c have started anew
    ):
        seen.append(now)
        assert failed() == grown
        assert failed() == grown


def test_a_failover_that_loses_the_last_writes_is_no_fall_of_a_counter() -> None:
    seen, now = [1000], [0.0]

    def readings() -> Readings:
        return Readings([FleetFigures(queues={"a": replace(STATS, failed_total=seen[-1])} if seen[-1] >= 0 else {})])

    collector = FleetCollector(readings, clock=lambda: now[-1])

    def failed() -> list[float]:
        family = next(one for one in collector.collect() if one.name == "taskfleet_queue_failed")
        return [sample.value for sample in family.samples]

    for total, told in ((1000, 1000), (990, 1000), (999, 1000), (1001, 1001), (3, 3), (2, 3), (0, 0), (1000, 1000)):
        seen.append(total)
        assert failed() == [told]
    seen.append(-1)  # no reading, as in the moments of a failover
    assert failed() == []
    seen.append(990)
    assert failed() == [1000]
    seen.append(-1)
    now.append(700.0)
    assert failed() == []
    seen.append(990)  # a queue that was gone for long is a new one
    assert failed() == [990]


def test_names_that_are_shown_alike_are_added_up() -> None:
    names = ["other", "x" * 300 + "a", "x" * 300 + "b"]
    figures = FleetFigures(
        queues=dict.fromkeys([*names, "y", "z"], STATS),
        serving={names[1]: 2, names[2]: 3, "z": 4},
        targets={"other": 30.0, names[1]: 5.0, names[2]: 7.0, "z": 9.0},
    )
    collector = FleetCollector(lambda: Readings([figures]), most_queues=4)
    for metric, each in (("ready", STATS.ready), ("enqueued", STATS.enqueued_total)):
        family = next(one for one in collector.collect() if one.name == f"taskfleet_queue_{metric}")
        values = sorted(sample.value for sample in family.samples)
        if metric == "ready":
            assert values == [each, 2 * each, 2 * each]  # y; other and z; both long names
        else:
            assert values == [each, each, 2 * each]  # z was there before the first look
    target = next(one for one in collector.collect() if one.name == "taskfleet_queue_target_seconds")
    assert [(sample.labels["queue"][0], sample.value) for sample in target.samples] == [("o", 30.0), ("x", 5.0)]
    # The same processes may claim from several of them.
    workers = next(one for one in collector.collect() if one.name == "taskfleet_queue_workers")
    found = [(sample.labels["queue"][0], sample.value) for sample in workers.samples]
    assert found == [("o", 4.0), ("x", 3.0), ("y", 0.0)]


def test_a_name_cannot_break_the_text() -> None:
    hostile = 'x"} 1\n# EOF\ny\x1b[31m' + 400 * "z"
    servers = [RedisServers(hostile, reachable=True, servers=[ServerMemory(hostile, 1, 2)])]
    lines = text_of(Readings([FleetFigures((hostile, "n"), {hostile: STATS})], servers))
    assert "# EOF" not in lines
    assert not any("\x1b" in line for line in lines)
    assert all(line.startswith(("# ", "taskfleet_")) for line in lines)
    assert max(map(len, lines)) < 1500


def test_a_redis_is_up_when_all_of_its_users_reach_it() -> None:
    servers = [
        RedisServers("a:6379", reachable=True, servers=[ServerMemory("a:6379", 80, 100)]),
        RedisServers("a:6379", reachable=False),
        RedisServers("b:6379", reachable=True),
    ]
    lines = text_of(Readings(redis=servers))
    assert 'taskfleet_redis_up{redis="a:6379"} 0.0' in lines
    assert 'taskfleet_redis_up{redis="b:6379"} 1.0' in lines
    assert 'taskfleet_redis_used_bytes{redis="a:6379",server="a:6379"} 80.0' in lines
    assert 'taskfleet_redis_max_bytes{redis="a:6379",server="a:6379"} 100.0' in lines
    assert not any(line.startswith('taskfleet_redis_used_bytes{redis="b') for line in lines)
