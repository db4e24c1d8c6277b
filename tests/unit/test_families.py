"""The figures of worker processes: bounded labels, sums over processes, and counters that never go back."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from taskfleet import TaskQueue, tracing
from taskfleet.process import families
from taskfleet.process.exposition import exposition
from taskfleet.process.families import Distribution, Family
from taskfleet.process.figures_pipe import FiguresReport, FiguresSender
from taskfleet.process.merged_figures import MergedFigures
from taskfleet.process.metrics import WorkerCollector
from taskfleet.protocol import outcome
from taskfleet.protocol.partitions import Partition
from taskfleet.runtime.state.tally import BOUNDS, MOST_PAIRS, MOST_QUEUES, MOST_TASKS, Labels
from taskfleet.runtime.worker import Worker

MAIL = Partition("mail")
NONE = (len(BOUNDS) + 1) * [0]


def collector() -> tuple[Worker, WorkerCollector]:
    worker = Worker(TaskQueue("memory://figures"))
    return worker, WorkerCollector.of(worker)


def by_name(found: list[Family]) -> dict[str, Family]:
    return {one.name: one for one in found}


async def test_a_run_is_in_the_histograms_of_its_task() -> None:
    worker, figures = collector()
    task = worker.tally.task(Partition("mail/3"), "send")
    task.ended(outcome.SUCCEEDED, 0.2, 0.02)
    worker.tally.task(MAIL, "send").ended(outcome.RETRIED, -0.1, 90.0)
    text, content_type = exposition(figures)
    assert content_type.startswith("text/plain; version=0.0.4")
    lines = text.decode().splitlines()
    assert 'taskfleet_tasks_total{outcome="succeeded",queue="mail",task="send"} 1.0' in lines
    assert 'taskfleet_tasks_total{outcome="retried",queue="mail",task="send"} 1.0' in lines
    assert 'taskfleet_task_run_seconds_bucket{le="0.01",queue="mail",task="send"} 0.0' in lines
    assert 'taskfleet_task_run_seconds_bucket{le="0.025",queue="mail",task="send"} 1.0' in lines
    assert 'taskfleet_task_run_seconds_bucket{le="+Inf",queue="mail",task="send"} 2.0' in lines
    assert 'taskfleet_task_run_seconds_sum{queue="mail",task="send"} 90.02' in lines
    assert 'taskfleet_task_wait_seconds_bucket{le="0.1",queue="mail",task="send"} 1.0' in lines
    assert 'taskfleet_task_wait_seconds_bucket{le="0.25",queue="mail",task="send"} 2.0' in lines
    assert 'taskfleet_task_wait_seconds_count{queue="mail",task="send"} 2.0' in lines
    assert 'taskfleet_task_wait_seconds_sum{queue="mail",task="send"} 0.2' in lines
    assert 'taskfleet_task_busy_seconds_total{queue="mail"} 90.02' in lines


async def test_what_a_worker_has_lost_and_taken_over_is_told_by_queue() -> None:
    worker, figures = collector()
    worker.tally.lost_acks = 3
    worker.tally.taken_over.update({Partition("mail/1"): 2, Partition("mail/2"): 1})
    worker.tally.unrun[Partition("mail/2"), outcome.DEAD] += 4
    found = by_name(figures.families())
    assert found["taskfleet_lost_acks"].values == {(): 3}
    assert found["taskfleet_taken_over_tasks"].values == {("mail",): 3, ("default",): 0}
    assert found["taskfleet_tasks"].values == {("mail", "", "dead"): 4}
    # Of several processes, the task that has waited longest counts.
    assert found["taskfleet_newer_version_wait_seconds"].kind == "largest"


async def test_tasks_and_queues_beyond_the_cap_share_one_label() -> None:
    worker, figures = collector()
    for number in range(3 * MOST_PAIRS):
        worker.tally.task(Partition(f"queue-{number % 150}"), f"task-{number}").ended(outcome.SUCCEEDED, 0.0, 1.0)
    ended = by_name(figures.families())["taskfleet_tasks"]
    queues, tasks = ({labels[at] for labels in ended.values} for at in (0, 1))
    assert len(queues) == MOST_QUEUES + 1
    assert len(tasks) <= MOST_TASKS + 1
    assert "other" in queues & tasks
    assert len(ended.values) <= MOST_PAIRS + MOST_QUEUES + 1
    assert sum(ended.values.values()) == 3 * MOST_PAIRS


async def test_a_name_cannot_break_the_text() -> None:
    worker, figures = collector()
    worker.tally.task(MAIL, 'x"} 1\ny\x1b[31m' + 300 * "z").ended(outcome.SUCCEEDED, 0.0, 1.0)
    for accept in ("", "application/openmetrics-text"):
        text = exposition(figures, accept)[0].decode()
        (line,) = (line for line in text.splitlines() if line.startswith("taskfleet_tasks_total{"))
        assert "\x1b" not in text
        assert 'task="x\\"} 1\\\\ny\\\\x1b[31mzzz' in line
        assert len(line) < 600


def test_labels_stay_what_they_were() -> None:
    labels = Labels()
    first = [labels.pair("q", f"t{n}") for n in range(150)]
    assert [labels.pair("q", f"t{n}") for n in range(150)] == first
    assert first[0] == ("q", "t0")
    assert first[-1] == ("q", "other")


@pytest.fixture
def traced() -> Iterator[None]:
    token = tracing.RUN.set(tracing.TraceSpan("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True))
    yield
    tracing.RUN.reset(token)


@pytest.mark.usefixtures("traced")
async def test_openmetrics_shows_the_trace_of_a_run() -> None:
    worker, figures = collector()
    worker.tally.task(MAIL, "send").ended(outcome.SUCCEEDED, 0.0, 0.7)
    asked = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    text, content_type = exposition(figures, asked)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")
    parsed = {one.name: one for one in text_string_to_metric_families(text.decode())}
    shown = [one for one in parsed["taskfleet_task_run_seconds"].samples if one.exemplar]
    assert [(one.labels["le"], one.exemplar.labels, one.exemplar.value) for one in shown if one.exemplar] == [
        ("1.0", {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"}, 0.7)
    ]
    assert b"trace_id" not in exposition(figures)[0]


@pytest.mark.parametrize("version", ["banana", "x.y", "1.", ";;", "99", "-1", "0" * 5000])
@pytest.mark.parametrize("kind", ["application/openmetrics-text", "text/plain", "*/*"])
async def test_whatever_a_scrape_asks_for_it_gets_the_figures(kind: str, version: str) -> None:
    _, figures = collector()
    text, content_type = exposition(figures, f"{kind}; version={version}")
    assert b"taskfleet_worker_slots " in text
    assert content_type.startswith(("text/plain; version=", "application/openmetrics-text; version="))


def report(count: float, running: float, *, queue: str = "mail", waits: float = 0.0) -> FiguresReport:
    ended = Family("ended", "counter", "…", ("queue", "task"), {(queue, "send"): count})
    took = Family("took", "histogram", "…", ("queue", "task"))
    buckets = [int(count), *NONE[1:]]
    took.add_distribution((queue, "send"), Distribution(buckets, count / 10, {0: ({"trace_id": queue}, 0.1, count)}))
    gauge = Family("running", "gauge", "…", (), {(): running})
    return FiguresReport("", "", [ended, took, gauge, Family("oldest", "largest", "…", (), {(): waits})])


class Process:
    """The end of a worker process in this one."""

    def __init__(self, merged: MergedFigures, number: int) -> None:
        self.merged, self.number, self.report = merged, number, report(0, 0)
        reader = merged.adopt(number)
        self.descriptor = os.dup(reader.write_end)
        reader.started()
        reader.start()

    def tells(self, told: FiguresReport) -> None:
        """Its last words: they are in the pipe when it is killed."""
        sender = FiguresSender(self.descriptor, lambda: told)
        sender._ended.set()
        sender.start()
        sender.close()


def shown(merged: MergedFigures) -> dict[str, object]:
    found = by_name(merged.families())
    return {
        "ended": found["ended"].values.get(("mail", "send"), 0.0),
        "took": sum(found["took"].distributions[("mail", "send")].buckets),
        "running": found["running"].values.get((), 0.0),
        "oldest": found["oldest"].values.get((), 0.0),
        "restarts": found["taskfleet_worker_restarts"].values[()],
    }


def test_processes_are_added_up_and_no_counter_goes_back_when_one_is_replaced() -> None:
    merged = MergedFigures(2)
    first, second = Process(merged, 0), Process(merged, 1)
    first.tells(report(3, 2, waits=7.0))
    second.tells(report(4, 5, waits=1.0))
    merged._readers[0].finish()
    merged._readers[1].finish()
    assert shown(merged) == {"ended": 7, "took": 7, "running": 7, "oldest": 7.0, "restarts": 0}
    assert by_name(merged.families())["took"].distributions["mail", "send"].exemplars[0][2] == 4  # the latest
    merged.retire(0, replaced=True)
    assert shown(merged) == {"ended": 7, "took": 7, "running": 5, "oldest": 1.0, "restarts": 1}
    Process(merged, 0).tells(report(2, 1))
    merged._readers[0].finish()
    assert shown(merged) == {"ended": 9, "took": 9, "running": 6, "oldest": 1.0, "restarts": 1}


def test_the_last_report_of_a_process_counts_though_nobody_has_looked() -> None:
    merged = MergedFigures(1)
    Process(merged, 0).tells(report(11, 1))
    merged.retire(0, replaced=False)
    assert shown(merged) == {"ended": 11, "took": 11, "running": 0, "oldest": 0, "restarts": 0}


def test_a_report_that_was_cut_off_leaves_the_one_before() -> None:
    merged = MergedFigures(1)
    process = Process(merged, 0)
    os.write(
        process.descriptor,
        families.to_json({"alive": "", "ready": "", "families": families.dumped(report(5, 1).families)}),
    )
    os.write(process.descriptor, b'{"alive":"","fam')
    os.close(process.descriptor)
    merged.retire(0, replaced=True)
    assert shown(merged)["ended"] == 5


def test_together_processes_have_no_more_labels_than_one() -> None:
    merged = MergedFigures(3)
    for number in range(3):
        found = Family("ended", "counter", "…", ("queue", "task"))
        for n in range(MOST_TASKS):
            found.add(("mail", f"{number}-{n}"), 1)
        Process(merged, number).tells(FiguresReport("", "", [found]))
        merged.retire(number, replaced=True)
    ended = by_name(merged.families())["ended"]
    assert len(ended.values) == MOST_TASKS + 1
    assert ended.values["mail", "other"] == 2 * MOST_TASKS


def test_together_processes_have_no_more_labels_of_queues_than_one() -> None:
    merged = MergedFigures(1)
    found = Family("taken_over", "counter", "…", ("queue",), {(f"q{n}",): 1.0 for n in range(3 * MOST_QUEUES)})
    Process(merged, 0).tells(FiguresReport("", "", [found]))
    merged.retire(0, replaced=True)
    values = by_name(merged.families())["taken_over"].values
    assert len(values) == MOST_QUEUES + 1
    assert values[("other",)] == 2 * MOST_QUEUES


def test_what_was_dumped_is_loaded() -> None:
    before = report(3, 2).families
    line = families.to_json({"families": families.dumped(before)})
    import json

    assert families.loaded(json.loads(line)["families"]) == before


def test_the_health_of_all_is_that_of_each() -> None:
    merged = MergedFigures(2)
    assert merged.alive
    assert merged.why_not_ready() == "2 of 2 processes do not run"
    first, second = Process(merged, 0), Process(merged, 1)
    assert merged.alive
    assert merged.why_not_ready() == "process 0 starts"
    first.tells(report(0, 0))
    merged._readers[0].finish()
    second.tells(FiguresReport("the event loop stands still", "draining", []))
    merged._readers[1].finish()
    assert merged.why_not_alive() == "process 1: the event loop stands still"
    assert merged.why_not_ready() == "process 1: draining"
    merged.retire(1, replaced=True)
    assert merged.alive
    assert merged.why_not_ready() == "1 of 2 processes do not run"
    merged.draining = True
    assert merged.why_not_ready() == "draining"


def test_a_process_that_tells_nothing_and_a_supervisor_that_stands_still_are_not_alive() -> None:
    merged = MergedFigures(1)
    process = Process(merged, 0)
    merged._readers[0]._heard -= 31
    assert merged.why_not_alive() == "", "it has not told anything yet: it starts"
    process.tells(report(0, 0))
    merged._readers[0].finish()
    assert merged.why_not_alive() == ""
    merged._readers[0]._heard -= 31
    assert merged.why_not_alive() == "process 0 has told nothing for 31 s"
    assert not merged.alive
    merged._beat -= 31
    assert merged.why_not_alive() == "the supervisor stands still"
    merged.beat()
    merged.retire(0, replaced=True)
    assert merged.why_not_alive() == ""
