"""What the tables of docs/migrate call ours exists; the guide for the crate has every name of its development guide."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.migrate import names_of_ours
from tests.migrate.names_of_ours import Missing, check, codes, tables
from tests.support.redis_server import RedisServer

GUIDES = Path(__file__).parents[2] / "docs" / "migrate"
PAGES = ["celery", "rq", "arq", "dramatiq", "bullmq", "rust-task-queue"]

# The public names of the development guide of rust-task-queue, in the order in which it has them.
CRATE = """
queue_names::DEFAULT queue_names::HIGH_PRIORITY queue_names::LOW_PRIORITY TaskExecutionContext SpawnResult
Worker::new Worker.with_max_concurrent_tasks Worker.with_task_registry Worker.with_backpressure_config
Worker.active_task_count WorkerBackpressureConfig WorkerBackpressureConfig.max_concurrent_tasks
WorkerBackpressureConfig.queue_size_threshold WorkerBackpressureConfig.backpressure_delay_ms
task-worker --workers task-worker-env-only
REDIS_URL REDIS_POOL_SIZE REDIS_CONNECTION_TIMEOUT REDIS_COMMAND_TIMEOUT
TASK_QUEUE_WORKERS TASK_QUEUE_AUTO_REGISTER TASK_QUEUE_SCHEDULER REDIS_TEST_URL RUST_LOG
redis.url redis.pool_size redis.connection_timeout redis.command_timeout
workers.initial_count workers.max_concurrent_tasks workers.heartbeat_interval workers.shutdown_grace_period
autoscaler.min_workers autoscaler.max_workers autoscaler.scale_up_threshold autoscaler.scale_down_threshold
autoscaler.scale_up_count autoscaler.scale_down_count
scheduler.enabled scheduler.tick_interval scheduler.max_tasks_per_tick auto_register.enabled
actix.auto_configure_routes actix.route_prefix actix.enable_metrics actix.enable_health_check
TaskQueueConfig TaskQueueConfig::default TaskQueueConfig.validate AutoScalerConfig AutoScalerConfig.validate
TaskQueueBuilder::new TaskQueueBuilder.initial_workers TaskQueueBuilder.auto_register_tasks
TaskQueueBuilder.with_scheduler TaskQueueBuilder.with_autoscaler TaskQueueBuilder.build
TaskQueue.broker TaskQueue.scheduler TaskQueue.autoscaler RedisBroker TaskScheduler AutoScaler TaskRegistry
Task Task.execute Task.name Task.max_retries Task.timeout_seconds TaskResult TaskId
TaskQueueError TaskQueueError::Redis TaskQueueError::Connection TaskQueueError::TaskExecution
TaskQueueError::TaskNotFound TaskQueueError::TaskTimeout TaskQueueError::Configuration
TaskQueue::new TaskQueue.start_workers TaskQueue.stop_workers TaskQueue.worker_count TaskQueue.enqueue
TaskQueue.schedule TaskQueue.health_check TaskQueue.get_metrics TaskQueue.start_scheduler TaskQueue.stop_scheduler
AutoRegisterTask register_task prelude HealthStatus TaskQueueMetrics TaskQueueMetrics.active_workers
TaskQueueMetrics.tasks_per_worker TaskQueueMetrics.total_pending_tasks TaskQueueMetrics.queue_metrics
pending_tasks processed_tasks failed_tasks
configure_task_queue_routes configure_task_queue_routes_auto auto_configure_task_queue create_task_queue_from_config
create_auto_registered_task_queue create_task_endpoint!
/tasks/health /tasks/status /tasks/metrics /tasks/metrics/system /tasks/metrics/performance /tasks/metrics/autoscaler
/tasks/metrics/queues /tasks/metrics/workers /tasks/metrics/memory /tasks/registered /tasks/registry /tasks/alerts
/tasks/sla /tasks/diagnostics /tasks/uptime
"""


def read(page: str) -> str:
    return (GUIDES / f"{page}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_name_that_a_table_calls_ours_exists(page: str) -> None:
    found = [code for _, ours in tables(read(page)) for code in codes(ours)]
    assert len(found) > 30
    missing = {}
    for code in found:
        try:
            check(code)
        except Missing as error:
            missing[code] = str(error)
    assert missing == {}


@pytest.mark.parametrize(
    "code",
    [
        "queue.enqeue(…)", "handle.get()", "Retry.fibonacci(1)", "task.options(countdown=1)",
        "@queue.task(acks_late=True)", "QueueOptions(name, lease=3)", "current_task().retries", "max_tries=3",
        "taskfleet inspect", "taskfleet task revoke",
        "--prefetch", "workers.concurrency", "TASK_QUEUE_THREADS", "/flower", "taskfleet.testing.stub", "Celery", "a b",
    ],
)  # fmt: skip
def test_a_name_that_is_not_there_is_found_out(code: str) -> None:
    with pytest.raises(Missing):
        check(code)


def test_the_guide_has_every_name_of_the_crate_and_ours_beside_it() -> None:
    ours = {code: codes(second) for first, second in tables(read("rust-task-queue")) for code in codes(first)}
    assert [name for name in CRATE.split() if name not in ours] == []
    assert [name for name in CRATE.split() if not ours[name]] == ["SpawnResult"]  # private in the crate


def test_the_guide_has_every_route_of_the_router() -> None:
    told = {code for _, ours in tables(read("rust-task-queue")) for code in codes(ours) if code.startswith("/")}
    routes = names_of_ours.routes()  # also one for each class task that the process has imported, by POST
    gets = {path.removeprefix("/tasks") for path, methods in routes.items() if "get" in methods and "{" not in path}
    assert told == gets


def test_the_program_for_those_who_come_from_the_crate_prints_the_shown_output(tmp_path: Path) -> None:
    page = read("rust-task-queue")
    files = re.findall(r"```python\n(# (\w+\.py)\n.*?)```", page, re.DOTALL)
    for source, name in files:
        (tmp_path / name).write_text(source, encoding="utf-8")
    (shown,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    with RedisServer() as server:
        done = subprocess.run(
            [sys.executable, "main.py"],
            cwd=tmp_path,
            env={**os.environ, "REDIS_URL": server.url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, shown), done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_a_guide_has_no_code_block_that_no_test_runs(page: str) -> None:
    languages = re.findall(r"^```(\w+)$", read(page), re.MULTILINE)
    applications = ["javascript", "python"] if page == "bullmq" else ["python", "python"]
    expected = (
        ["python", "python", "text"] if page == "rust-task-queue" else [*applications, "console", "console", "text"]
    )
    assert languages == expected
    assert re.findall(r"^```$", read(page), re.MULTILINE) == ["```"] * len(languages)
