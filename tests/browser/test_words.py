"""What a newcomer reads: numbers, times and sentences that are right at any moment of a fleet."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any
from zoneinfo import ZoneInfo

from playwright.sync_api import expect

from tests.browser.conftest import Look
from tests.browser.world import World, at


def section(page: Any, title: str) -> Any:
    return page.locator(f"#{title}-title >> xpath=ancestor::section")


def test_the_most_workers_of_the_hour_are_told_when_they_are_gone(look: Look, world: World) -> None:
    world.earlier = {
        "at": at(900), "until": at(600), "desired": 12, "reason": "DrainTime", "message": "slots = 90 / 8 → 12",
        "limited_by": "TooManyReplicas",
    }  # fmt: skip
    told = re.compile(
        r"Most in the last hour: 12 workers from \d\d:\d\d:\d\d to \d\d:\d\d:\d\d, because the waiting tasks are to be "
        r"done within the target; the maximum allows no more\."
    )
    expect(section(look("/"), "scalers")).to_contain_text(told)
    expect(look("/autoscaler/shop/orders").locator(".explain")).to_contain_text(told)


def test_rates_that_are_not_known_yet_are_no_backlog_that_does_not_fall(look: Look, world: World) -> None:
    world.rates_known = False
    page = look("/")
    ready = page.locator(".stat", has_text="Ready").first
    expect(ready).to_contain_text("rates not known yet")
    assert "not falling" not in page.locator("main").inner_text()
    expect(look("/queues/default").locator(".stats")).to_contain_text("rates not known yet")


def test_an_id_that_is_shown_in_short_is_copied_in_full(look: Look) -> None:
    page = look("/tasks")
    link = page.locator("tbody a.id").first
    expect(link).to_be_visible()
    whole = link.get_attribute("title")
    copied = link.evaluate("link => { const s = getSelection(); s.selectAllChildren(link); return s.toString(); }")
    assert len(whole) > 14
    assert copied == whole
    assert link.evaluate("link => link.getBoundingClientRect().width") < 160


def test_a_term_of_many_slots_keeps_its_zeros(look: Look, world: World) -> None:
    world.slots = 119.7
    page = look("/autoscaler/shop/orders")
    expect(page.locator(".steps")).to_contain_text("120 slots are needed")


def test_a_chart_puts_each_point_at_its_time(look: Look, world: World) -> None:
    world.thinned = True  # of the first half of the hour two points are left
    page = look("/autoscaler/shop/orders")
    path = page.locator(".plot .line").first.get_attribute("d")
    places = [float(x) for x in re.findall(r"[MH](\d+\.\d)", path)]
    assert places[1] - places[0] > 20 * (places[-1] - places[-2]), path
    labels = page.locator(".plot").first.locator(".grid text[text-anchor=middle]").all_text_contents()
    assert len(set(labels)) == len(labels) >= 3


def test_what_has_ended_and_keeps_its_result_alone_is_not_called_unreadable(look: Look, world: World) -> None:
    world.nameless = True
    world.state = "succeeded"
    page = look("/tasks")
    expect(page.locator("tbody")).to_contain_text("not kept")
    expect(look("/tasks/01J9").locator("h1")).to_have_text("01J9")


def test_a_traceback_is_shown_once(look: Look, world: World) -> None:
    page = look("/tasks/dead-1")
    expect(page.locator("#errors-title")).to_be_visible()
    expect(page.locator(".attempts pre").last).to_contain_text("Traceback")
    expect(page.locator("#traceback-title")).to_have_count(0)


def test_the_corner_does_not_say_live_while_redis_is_gone(look: Look, world: World) -> None:
    page = look("/")
    expect(page.locator("[data-link=live]")).to_contain_text("Live")
    world.touch(no_redis=True)
    expect(page.locator("[data-link=live]")).to_contain_text("No figures")
    expect(page.locator("main [role=alert]")).to_contain_text("cannot be reached")
    world.touch(no_redis=False)
    expect(page.locator("[data-link=live]")).to_contain_text("Live")


def test_the_overview_counts_the_workers_by_what_they_do(look: Look) -> None:
    page = look("/")
    workers = page.locator(".stat", has_text="Workers").first
    expect(workers.locator(".stat-value")).to_have_text("10")
    expect(workers).to_contain_text("7 busy, 1 idle, 1 cordoned, 1 draining")
    row = page.locator("tbody tr", has=page.get_by_role("link", name="default", exact=True))
    cells = {name: row.locator(f"[data-label='{name}']") for name in ("Ready", "Running", "Oldest", "In /s", "Out /s")}
    assert {name: cell.inner_text() for name, cell in cells.items()} == {
        "Ready": "1,840", "Running": "42", "Oldest": "31 s", "In /s": "83", "Out /s": "98",
    }  # fmt: skip
    expect(row.locator("[data-label='Failed /s']")).to_have_text("0.12")
    expect(row.locator("[data-label='Gone in']")).to_have_text("2 min 9 s")
    spark = row.get_by_role("img", name=re.compile(r"default, ready tasks: now [\d,]+, most [\d,]+ in the last hour"))
    expect(spark.locator(".line")).to_be_visible()


def test_a_worker_tells_what_it_runs_and_what_is_wrong_with_it(look: Look) -> None:
    page = look("/workers")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(6)
    states = [row.locator("[data-label=State] .state").inner_text().lstrip("▶○⊟↓") for row in rows.all()]
    assert states == ["busy", "busy", "idle", "cordoned", "draining", "busy"]
    busy = rows.nth(0)
    expect(busy.locator("[data-label=Runs] li").first).to_have_text(
        re.compile(r"shop\.orders\.charge run-0-0 for 12 s")
    )
    expect(busy.locator("[data-label=Version]")).to_have_text("0.9.0")
    expect(busy.locator("[data-label=Started]")).to_have_text(re.compile("1 h [67] min ago"))
    expect(busy.locator("[data-label=Heartbeat] .tone-warn")).to_have_count(0)
    expect(busy.locator("[data-label=Clock]")).to_have_text("right")
    expect(rows.nth(4).locator("[data-label=Heartbeat] .tone-warn")).to_have_text("17 s")
    expect(rows.nth(4).locator("[data-label=Clock]")).to_have_text("+2.4 s")
    expect(rows.nth(5).locator("[data-label=State]")).to_contain_text("1 slot stuck")


def test_a_queue_tells_its_limits_with_their_use_and_its_heaviest_keys(look: Look) -> None:
    page = look("/queues/default")
    limits = section(page, "limits").locator(".limits li")
    expect(limits).to_have_text(
        [re.compile("concurrency.*42 of 48"), re.compile("rate.*97.6 of 120 a second"), re.compile("at most 2")]
    )
    keys = section(page, "keys")
    expect(keys).to_contain_text("of a part of the tasks")
    expect(keys.locator("table").first.locator("tbody tr").first).to_contain_text("customer-0")
    expect(keys.locator("table").nth(1).locator("tbody tr").first).to_contain_text("tenant-0")
    keys.get_by_role("link", name="customer-0").click()
    page.wait_for_url("**/tasks?queue=default&key=customer-0")


def test_a_schedule_tells_its_ticks_in_its_zone_and_how_it_went(look: Look, world: World) -> None:
    page = look("/schedules")
    row = page.locator("tbody tr", has_text="sync-stock")
    [row_of] = [each for each in world.schedules()["items"] if each["name"] == "sync-stock"]
    ticks = row.locator("time")
    expect(ticks.nth(2)).to_be_visible()
    for shown in ticks.all()[:3]:
        moment = dt.datetime.fromisoformat(shown.get_attribute("datetime"))
        assert shown.inner_text().endswith(f"{moment.astimezone(ZoneInfo(row_of['time_zone'])):%H:%M}")
    expect(row).to_contain_text("nothing kept of it")
    expect(page.locator("tbody tr", has_text="clean-up").locator("[data-label=Last]")).to_contain_text("failed")


KWARGS = """{
  "currency": "EUR",
  "password": "***",
  "note": "as agreed",
  "nested": {
    "a": [],
    "b": [
      1,
      {}
    ]
  }
}"""


def test_a_task_tells_its_life_what_it_holds_and_how_it_ended(look: Look, world: World) -> None:
    world.state = "succeeded"
    page = look("/tasks/01J9")
    life = page.locator(".life li")
    expect(life).to_have_count(8)
    told = [
        ("enqueued", "", "by shop-web-5c7:81"), ("ready", "", ""),
        ("claimed", "+8.6 s", "attempt 1 by orders-7d9f-x2/0"),
        ("attempt failed", "+12 s", "CardDeclined: insufficient funds"), ("retry due", "+10 s", "after 10 s"),
        ("claimed", "+1.1 s", "attempt 2 by orders-7d9f-x2/0"), ("progress", "+20 s", "3 of 8: capturing"),
        ("ended", "+7 s", ""),
    ]  # fmt: skip
    for each, (what, gap, detail) in zip(life.all(), told, strict=True):
        expect(each.locator("b")).to_have_text(what)
        expect(each).to_contain_text(detail)
        if gap:
            expect(each.locator(".life-gap")).to_have_text(gap)
    assert page.get_by_label("Named arguments", exact=True).inner_text() == KWARGS
    expect(page.get_by_label("The result, as JSON", exact=True)).to_have_text('{ "receipt": "r-1" }')
    facts = section(page, "facts")
    expect(facts.locator("dl > div", has_text="Attempt")).to_contain_text("2 of 4")
    expect(facts.locator("dl > div", has_text="Claims")).to_contain_text("2")
    expect(section(page, "payload")).to_contain_text("masked: password")
    attempts = page.locator(".attempts > li")
    expect(attempts.locator("summary .state")).to_have_text(["✕Attempt 2", "✕Attempt 1"])  # the last comes first
    expect(attempts.nth(0).locator("details[open]")).to_contain_text("in charge")
    expect(attempts.nth(1).locator("details[open]")).to_have_count(0)


def test_times_that_are_typed_are_those_of_the_reader(look: Look) -> None:
    page = look("/dead")
    with page.expect_request(re.compile(r"/api/dead\?.*since=2026-01-02T02%3A04%3A00.000Z")):
        page.get_by_label("From").fill("2026-01-02T03:04")  # in Berlin
    with page.expect_request(re.compile(r"/api/dead\?.*until=2026-07-02T01%3A04%3A00.000Z")):
        page.get_by_label("Before").fill("2026-07-02T03:04")
    page.click("text=Requeue all that match …")
    page.locator("dialog[open]").get_by_role("button", name="Requeue all").click()
    expect(page.locator("[data-job]")).to_be_visible()


def test_the_record_of_changes_tells_what_was_refused_and_is_paged(look: Look) -> None:
    page = look("/audit")
    outcomes = page.locator("tbody [data-label=Outcome] .state")
    expect(outcomes.nth(0)).to_have_text("✕refused: viewers may not")
    expect(outcomes.nth(1)).to_have_text("✓done")
    pager = page.locator("nav[aria-label='Pages of the listing']")
    with page.expect_request("**/api/audit?cursor=1"):
        pager.get_by_text("Next →").click()
    expect(pager).to_contain_text("Page 2")
    pager.get_by_text("← Previous").click()
    expect(pager).to_contain_text("Page 1")
    expect(pager.get_by_text("← Previous")).to_be_disabled()


def test_a_job_tells_what_stayed_and_how_much_can_come_back(look: Look, world: World) -> None:
    page = look("/dead?reason=timeout")
    page.click("text=Discard all that match …")
    page.locator("dialog[open]").get_by_role("button", name="Discard all").click()
    job = page.locator("[data-job]")
    expect(job).to_contain_text("0 of 3 discarded …")
    world.finish("job-1")
    world.jobs["job-1"] |= {"stayed": 2, "undoable": 1, "state": "failed", "error": "Redis is out of memory"}
    world.touch()
    expect(job).to_contain_text("Stopped after 3 discarded.")
    expect(job).to_contain_text("2 stay: cancelled, damaged, or their unique key is taken.")
    expect(job).to_contain_text("Redis is out of memory")
    expect(job).to_contain_text("1 letter can come back until")
    world.touch(no_redis=True)
    expect(job).to_contain_text("Redis at redis:6379 cannot be reached")
    expect(job.get_by_role("button", name="Undo")).to_be_visible()  # its way back stays in sight
    job.get_by_role("button", name="Close this message").click()
    expect(job).to_have_count(0)
