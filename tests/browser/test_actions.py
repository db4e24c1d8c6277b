"""Every action: what the page asks before it, what it sends, and what it says after it."""

from __future__ import annotations

import re
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Look
from tests.browser.world import World


def dialog(page: Any) -> Any:
    return page.locator("dialog[open]")


def toast(page: Any, text: str) -> None:
    expect(page.locator(".toasts")).to_contain_text(text)


def test_a_queue_is_paused_after_a_question_and_resumed_without_one(look: Look, world: World) -> None:
    page = look("/queues/default")
    page.click("button:text-is('Pause')")
    expect(dialog(page)).to_contain_text("Workers claim no more of its tasks")
    dialog(page).get_by_role("button", name="Pause").click()
    toast(page, "default is paused")
    page.click("button:text-is('Resume')")
    toast(page, "default is resumed")
    expect(page.locator("button:text-is('Pause')")).to_be_visible()
    assert [path for path, _ in world.changes] == ["queues/default/pause", "queues/default/resume"]


def test_a_cancelled_question_changes_nothing(look: Look, world: World) -> None:
    page = look("/queues/default")
    page.click("button:text-is('Pause')")
    expect(dialog(page)).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog(page)).to_have_count(0)
    page.click("button:text-is('Pause')")
    dialog(page).get_by_role("button", name="Cancel").click()
    expect(dialog(page)).to_have_count(0)
    assert world.changes == []


def test_a_purge_wants_the_name_of_the_queue(look: Look, world: World) -> None:
    page = look("/queues/default")
    page.click("text=Purge …")
    delete = dialog(page).get_by_role("button", name="Delete the waiting tasks")
    expect(delete).to_be_disabled()
    dialog(page).locator("input").fill("defaul")
    expect(delete).to_be_disabled()
    dialog(page).locator("input").fill("default")
    delete.click()
    toast(page, "1,961 tasks were deleted")
    assert world.changes == [("queues/default/purge", {"confirm": "default"})]


def test_a_refused_change_says_why_and_the_question_stays(look: Look, world: World) -> None:
    world.refuse = "you may view this fleet, and not change it"
    page = look("/queues/default")
    page.click("button:text-is('Pause')")
    dialog(page).get_by_role("button", name="Pause").click()
    expect(dialog(page).get_by_role("alert")).to_have_text("you may view this fleet, and not change it")


@pytest.mark.parametrize(
    "path", ["/queues/default", "/tasks/01J9", "/tasks/dead-0001", "/dead", "/schedules", "/workers"]
)
def test_a_viewer_sees_no_button_that_changes_anything(look: Look, world: World, path: str) -> None:
    world.may_change = False
    page = look(path)
    expect(page.locator("main .panel tbody tr, main .life li").last).to_be_visible()
    expect(
        page.locator(
            "main button:text-matches('^(Pause|Purge|Resume|Cancel|Retry|Requeue|Discard|Run now|Cordon|Uncordon)')"
        )
    ).to_have_count(0)
    expect(page.locator("nav").first).to_contain_text("may view only")


def test_a_running_task_is_cancelled(look: Look, world: World) -> None:
    page = look("/tasks/01J9")
    page.click("text=Cancel …")
    expect(dialog(page)).to_contain_text("Its worker stops it")
    dialog(page).get_by_role("button", name="Cancel the task").click()
    toast(page, "The task is cancelled")
    expect(page.locator(".page-head .state")).to_contain_text("cancelled")
    assert world.changes == [("tasks/01J9/cancel", {})]


def test_a_failed_task_is_retried(look: Look, world: World) -> None:
    page = look("/tasks/dead-0001")
    page.click("button:text-is('Retry')")
    toast(page, "The task is back in its queue")
    assert world.changes == [("tasks/dead-0001/retry", {})]


def test_one_dead_letter_is_inspected_and_requeued(look: Look, world: World) -> None:
    page = look("/dead")
    page.locator("tbody button.linky").nth(1).click()
    expect(dialog(page)).to_contain_text("Traceback (most recent call last)")
    expect(dialog(page)).to_contain_text("order-2917")
    dialog(page).get_by_role("button", name="Requeue …").click()
    expect(dialog(page)).to_contain_text("Requeue 1 dead letter?")
    dialog(page).get_by_role("button", name="Requeue").click()
    job = page.locator("[data-job]")
    expect(job).to_contain_text("0 of 1 requeued …")
    assert world.changes == [("dead/requeue", {"queue": "default", "ids": ["dead-0001"]})]
    world.finish("job-1")
    expect(job).to_contain_text("1 dead letter requeued.")
    expect(page.locator("tbody tr")).to_have_count(8)
    expect(job.get_by_role("button", name="Undo")).to_have_count(0)


def test_chosen_dead_letters_are_discarded_with_progress_and_come_back(look: Look, world: World) -> None:
    page = look("/dead")
    for i in (1, 2, 4):  # two of "default", one of "mail"
        page.locator("tbody input[type=checkbox]").nth(i).check()
    expect(page.locator(".bulk")).to_contain_text("3 chosen")
    page.click("text=Discard chosen")
    expect(dialog(page)).to_contain_text("For ten minutes this can be undone")
    dialog(page).get_by_role("button", name="Discard").click()
    expect(page.locator("[data-job]")).to_have_count(2)  # ids are those of one queue
    assert [(path, order["queue"], order["ids"]) for path, order in world.changes] == [
        ("dead/discard", "default", ["dead-0001", "dead-0002"]), ("dead/discard", "mail", ["dead-0004"]),
    ]  # fmt: skip
    world.jobs["job-1"]["done"] = 1
    world.touch()
    expect(page.locator("[data-job=running]").first).to_contain_text("1 of 2 discarded …")
    world.finish("job-1")
    world.finish("job-2")
    expect(page.locator("tbody tr")).to_have_count(6)
    done = page.locator("[data-job=done]", has_text="2 dead letters discarded.")
    expect(done).to_contain_text("They can come back until")
    done.get_by_role("button", name="Undo").click()
    expect(page.locator("[data-job=undone]")).to_contain_text("Undone")
    expect(page.locator("tbody tr")).to_have_count(8)


def test_a_job_that_has_begun_is_shown_when_the_next_is_refused(look: Look, world: World) -> None:
    page = look("/dead")
    for i in (1, 4):  # of "default" and "mail"
        page.locator("tbody input[type=checkbox]").nth(i).check()
    page.click("text=Discard chosen")

    def second_fails(route: Any) -> None:
        if "mail" in route.request.post_data:
            route.fulfill(status=429, json={"error": "4 jobs run already: wait for one to end"})
        else:
            route.continue_()

    page.route("**/api/dead/discard", second_fails)
    dialog(page).get_by_role("button", name="Discard").click()
    expect(dialog(page).get_by_role("alert")).to_have_text("4 jobs run already: wait for one to end")
    page.keyboard.press("Escape")
    world.finish("job-1")
    expect(page.locator("[data-job=done]").get_by_role("button", name="Undo")).to_be_visible()


def test_letters_of_more_queues_than_jobs_are_shown_for_are_not_begun(look: Look, world: World) -> None:
    world.scattered = True
    page = look("/dead")
    page.get_by_label("Choose this page").check()
    page.click("text=Discard chosen")
    toast(page, "These are of 9 queues, and 8 at a time is the most: choose fewer")
    expect(dialog(page)).to_have_count(0)
    page.locator("tbody input[type=checkbox]").first.uncheck()
    page.click("text=Discard chosen")
    dialog(page).get_by_role("button", name="Discard").click()
    expect(page.locator("[data-job]")).to_have_count(8)
    assert len(world.changes) == 8


def test_who_has_closed_the_question_is_told_that_the_change_has_failed(look: Look) -> None:
    page = look("/queues/default")
    held: list[Any] = []
    page.route("**/pause", lambda route: held.append(route))  # it must be a function
    page.click("button:text-is('Pause')")
    with page.expect_request("**/pause"):
        dialog(page).get_by_role("button", name="Pause").click()
    page.keyboard.press("Escape")
    page.click("text=Purge …")  # and asks another one
    [route] = held
    route.fulfill(status=503, json={"error": "Redis at redis:6379 cannot be reached"})
    toast(page, "Redis at redis:6379 cannot be reached")
    expect(dialog(page)).to_contain_text("It cannot be undone")
    expect(dialog(page).get_by_role("alert")).to_have_count(0)


def test_all_dead_letters_that_match_are_requeued(look: Look, world: World) -> None:
    page = look("/dead?reason=timeout")
    expect(page.locator("tbody tr")).to_have_count(3)
    page.click("text=Requeue all that match …")
    expect(dialog(page)).to_contain_text("reason: timeout")
    dialog(page).get_by_role("button", name="Requeue all").click()
    expect(page.locator("[data-job]")).to_contain_text("0 of 3 requeued …")
    assert world.changes == [("dead/requeue", {"match": {"reason": "timeout"}})]


def test_to_discard_everything_wants_a_word(look: Look, world: World) -> None:
    page = look("/dead")
    page.click("text=Discard all that match …")
    button = dialog(page).get_by_role("button", name="Discard all")
    expect(button).to_be_disabled()
    dialog(page).locator("input").fill("all")
    button.click()
    expect(page.locator("[data-job]")).to_be_visible()
    assert world.changes == [("dead/discard", {"match": {}})]


def test_dead_letters_are_filtered_in_the_address(look: Look) -> None:
    page = look("/dead")
    expect(page.locator("tbody tr")).to_have_count(9)
    page.get_by_label("Task name").fill("shop.mail.send")
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_label("From").fill("2026-01-02T03:04")
    page.wait_for_url("**/dead?*since=2026-01-02T03*")
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.get_by_label("Task name")).to_have_value("shop.mail.send")


def test_a_worker_is_cordoned_after_a_question_and_uncordoned_without_one(look: Look, world: World) -> None:
    page = look("/workers")
    page.get_by_role("button", name="Cordon orders-7d9f-x0", exact=True).click()
    expect(dialog(page)).to_contain_text("It claims nothing more")
    dialog(page).get_by_role("button", name="Cordon").click()
    toast(page, "orders-7d9f-x0 is cordoned")
    page.get_by_role("button", name="Uncordon orders-7d9f-x0", exact=True).click()
    toast(page, "orders-7d9f-x0 is no longer cordoned")
    expect(page.get_by_role("button", name="Cordon orders-7d9f-x0", exact=True)).to_be_visible()
    assert [path for path, _ in world.changes] == [f"workers/orders-7d9f-x0/{act}" for act in ("cordon", "uncordon")]


def test_a_schedule_runs_now_and_is_paused(look: Look, world: World) -> None:
    page = look("/schedules")
    row = page.locator("tbody tr", has_text="clean-up")
    row.get_by_role("button", name="Run now").click()
    expect(dialog(page)).to_contain_text("beside its ticks")
    dialog(page).get_by_role("button", name="Run now").click()
    toast(page, "clean-up runs now: task 01J9RUNNOW")
    row.get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("none while it is paused")
    row.get_by_role("button", name="Resume").click()
    expect(row).not_to_contain_text("none while it is paused")
    assert [path for path, _ in world.changes] == [
        f"schedules/reports/clean-up/{act}" for act in ("run", "pause", "resume")
    ]


def test_a_schedule_of_a_resource_is_not_paused_here(look: Look) -> None:
    page = look("/schedules")
    row = page.locator("tbody tr", has_text="nightly-report")
    expect(row.get_by_role("button", name="Pause")).to_be_disabled()
    expect(row.locator("time").first).to_have_attribute("datetime", re.compile("Z$"))


def test_tasks_are_searched_filtered_and_paged_by_the_server(look: Look) -> None:
    page = look("/queues/default")
    expect(page.locator("#tasks-title")).to_be_visible()
    page.get_by_label("State").select_option("dead")
    page.wait_for_url("**/queues/default?state=dead")
    states = page.locator("section[aria-labelledby=tasks-title] tbody .state")
    expect(states.first).to_have_text("✕dead")
    page.locator("nav[aria-label='Pages of the listing'] >> text=Next →").click()
    expect(page.locator("nav[aria-label='Pages of the listing']")).to_contain_text("Page 2")
    page.locator("main [data-search]").fill("nothing")
    expect(page.locator(".empty", has_text="No task matches.")).to_be_visible()


def test_the_id_of_a_task_opens_it(look: Look) -> None:
    page = look("/workers")
    page.fill("#jump", "01J9ZZZ")
    page.keyboard.press("Enter")
    page.wait_for_url("**/tasks/01J9ZZZ")
    expect(page.locator("h1")).to_have_text("shop.orders.charge")


def test_what_if_the_target_were_halved(look: Look, world: World) -> None:
    page = look("/autoscaler/shop/orders")
    page.click("text=Halve the target")
    answer = page.locator("[data-answer]")
    expect(answer).to_contain_text("at most 13 workers in place of 7")
    expect(answer.locator("svg .line").first).to_be_visible()
    ((path, order),) = world.changes
    assert path == "scalers/shop/orders/what-if"
    assert order == {"targetLatencySeconds": 30}, "also for queues with a target of their own"
    page.get_by_label("Maximum").fill("5")
    with page.expect_response("**/what-if"):
        page.click("text=See what it would decide")
    expect(page.locator("[data-answer]")).to_be_visible()
    assert world.changes[-1][1]["maxReplicas"] == 5


def test_a_decision_is_chosen_and_its_terms_are_shown(look: Look, world: World) -> None:
    page = look("/autoscaler/shop/orders")
    panel = page.locator("section[aria-labelledby=decision-title]")
    latest = f"Decision of {world.born.astimezone(ZoneInfo('Europe/Berlin')):%H:%M:%S}"  # the zone of the reader
    expect(panel).to_contain_text(latest)
    page.locator("section[aria-labelledby=decisions-title] tbody button.linky").nth(3).click()
    expect(panel).not_to_contain_text(latest)
    expect(panel.locator(".steps")).to_contain_text("slots to work off what waits")
    panel.locator("summary", has_text="Terms of 2 queues").click()
    expect(panel.locator("td", has_text="900")).to_have_count(2)
