"""The pages on the real server: a real Valkey, a worker, and tasks that succeed, fail and wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.real_fleet import RealFleet
from tests.browser.world import HOSTILE
from tests.engine.conftest import redis_url, server

__all__ = ["redis_url", "server"]


@pytest.fixture(scope="module")
def fleet(redis_url: str) -> Iterator[RealFleet]:
    with RealFleet(redis_url).running() as fleet:
        yield fleet


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    problems: list[str] = []
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console", lambda message: problems.append(message.text) if "Content Security Policy" in message.text else None
    )
    yield page
    context.close()
    assert problems == []


def test_a_failure_appears_is_inspected_masked_and_requeued(fleet: RealFleet, page: Any) -> None:
    page.goto(f"{fleet.url}/")
    page.wait_for_selector("[data-link=live]")
    handle = fleet.call(fleet.tasks["charge"].enqueue("o-1", password="hunter2", note=HOSTILE[0]))
    failures = page.locator("#failures-title >> xpath=ancestor::section")
    expect(failures).to_contain_text("card declined for o-1 <script>window.hacked=1</script>")
    page.goto(f"{fleet.url}/tasks/{handle.id}")
    expect(page.locator(".page-head")).to_contain_text("failed")
    expect(page.locator("main")).to_contain_text("ValueError")
    assert "hunter2" not in page.content()
    assert page.evaluate("window.hacked") is None
    page.goto(f"{fleet.url}/dead?queue=default&reason=exception")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("tbody input[type=checkbox]").check()
    page.click("text=Discard chosen")
    page.locator("dialog[open]").get_by_role("button", name="Discard").click()
    done = page.locator("[data-job=done]")
    expect(done).to_contain_text("1 dead letter discarded.")
    expect(page.locator("tbody tr")).to_have_count(0)
    done.get_by_role("button", name="Undo").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.goto(f"{fleet.url}/audit")
    expect(page.locator("tbody")).to_contain_text("discard")


def test_a_running_task_shows_its_progress_its_worker_and_its_workflow(fleet: RealFleet, page: Any) -> None:
    end = fleet.call(fleet.workflow())
    page.goto(f"{fleet.url}/tasks/{end.id}")
    expect(page.locator(".page-head")).to_contain_text("blocked")
    graph = page.get_by_role("application")
    graph.focus()
    graph.press("ArrowLeft")
    expect(page.locator("#graph-now")).to_contain_text("shop.pack")
    graph.press("Enter")
    expect(page.locator("h1")).to_have_text("shop.pack")
    expect(page.locator(".progress-row")).to_contain_text("1 of 2 packing")
    expect(page.locator("#life-title >> xpath=ancestor::section")).to_contain_text("shop-1")
    fleet.open_gate()
    expect(page.locator(".page-head")).to_contain_text("succeeded")
    expect(page.get_by_label("The result, as JSON", exact=True)).to_contain_text("packed o-2")


def test_a_queue_is_paused_and_purged(fleet: RealFleet, page: Any) -> None:
    page.goto(f"{fleet.url}/queues/mail?state=ready")
    page.click("button:text-is('Pause')")
    page.locator("dialog[open]").get_by_role("button", name="Pause").click()
    expect(page.locator(".page-head .state")).to_contain_text("paused")
    fleet.call(fleet.tasks["send"].enqueue("hello"))
    expect(page.locator(".stat", has_text="Ready").locator(".stat-value")).to_have_text("1")
    expect(page.locator("section[aria-labelledby=tasks-title] tbody tr")).to_have_count(1)
    page.click("text=Purge …")
    page.locator("dialog[open] input").fill("mail")
    page.locator("dialog[open]").get_by_role("button", name="Delete the waiting tasks").click()
    expect(page.locator(".stat", has_text="Ready").locator(".stat-value")).to_have_text("0")
    page.click("button:text-is('Resume')")
    expect(page.locator("button:text-is('Pause')")).to_be_visible()


def test_a_schedule_is_shown_with_its_next_ticks_and_run(fleet: RealFleet, page: Any) -> None:
    send, zone = fleet.tasks["send"], "Europe/Berlin"
    nightly = {
        "name": "nightly",
        "schedule": "30 2 * * *",
        "task": send,
        "args": ["night"],
        "queue": "mail",
        "time_zone": zone,
    }
    fleet.call(fleet.queue.add_schedule(**nightly))
    page.goto(f"{fleet.url}/schedules")
    row = page.locator("tbody tr", has_text="nightly")
    expect(row.locator("time").first).to_contain_text("02:30")
    row.get_by_role("button", name="Run now").click()
    page.locator("dialog[open]").get_by_role("button", name="Run now").click()
    expect(page.locator(".toasts")).to_contain_text("nightly runs now")
    fleet.call(fleet.queue.remove_schedule("nightly"))


@pytest.mark.parametrize(
    "path", ["/", "/tasks", "/dead", "/schedules", "/workers", "/keys", "/autoscaler", "/audit", "/queues/default"]
)
def test_each_page_works_on_the_real_server(fleet: RealFleet, page: Any, path: str) -> None:
    page.goto(f"{fleet.url}{path}")
    page.wait_for_selector("[data-link=live]")
    expect(page.locator("main > :nth-child(2)")).to_be_visible()
    expect(page.locator("main [role=alert]")).to_have_count(0)


def test_a_mounted_dashboard_finds_its_files_its_api_and_its_pages(fleet: RealFleet, page: Any) -> None:
    page.goto(f"{fleet.mounted_url}/workers")
    page.wait_for_selector("[data-link=live]")
    expect(page.locator("tbody tr", has_text="shop-1")).to_be_visible()
    page.click("nav >> text=Dead letters")
    page.wait_for_url(f"{fleet.mounted_url}/dead")
    page.reload()
    expect(page.locator("h1")).to_have_text("Dead letters")
    page.go_back()
    expect(page.locator("h1")).to_have_text("Workers")
