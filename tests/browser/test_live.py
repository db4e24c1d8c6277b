"""Live figures, and what a page says when its connection is lost."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import expect

from tests.browser.conftest import Look
from tests.browser.fixture_server import FixtureServer
from tests.browser.world import World
from tests.support.redis_server import wait_until


def stat(page: Any, label: str) -> Any:
    return page.locator(".stat", has_text=label).first.locator(".stat-value")


_STREAMS = """() => {
  window.streams = [];
  window.EventSource = class extends window.EventSource {
    constructor(address) { super(address); window.streams.push(this); }
  };
}"""


def own_clock(page: Any) -> None:
    """Give the page a clock of its own, and remember the streams that it opens from now on."""
    page.evaluate(_STREAMS)
    page.clock.install()


def stand_still(page: Any) -> None:
    """Stop the clock of a page that has one of its own: the machine's time is none of the page's until it resumes.

    The clock goes on to a moment at which the page may try to connect; that attempt has ended, too.
    """
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 10"))
    for _ in range(400):
        if page.evaluate("(window.streams || []).every((stream) => stream.readyState === EventSource.CLOSED)"):
            return
        page.wait_for_timeout(50)
    raise AssertionError("an attempt to connect has not ended")


def test_the_overview_follows_the_fleet(look: Look, world: World) -> None:
    page = look("/")
    expect(stat(page, "Ready")).to_have_text("2,141")
    world.touch(ready=5000)
    expect(stat(page, "Ready")).to_have_text("5,301")
    expect(page.locator("tbody tr", has_text="default")).to_contain_text("5,000")


def test_a_searched_overview_follows_too_and_stays_searched(look: Look, world: World) -> None:
    page = look("/?search=default")
    expect(page.locator("tbody tr")).to_have_count(1)
    world.touch(ready=5000)
    expect(page.locator("tbody tr")).to_contain_text("5,000")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_a_queue_and_a_task_follow(look: Look, world: World) -> None:
    queue, task = look("/queues/default"), look("/tasks/01J9")
    world.touch(ready=7, state="succeeded")
    expect(stat(queue, "Ready")).to_have_text("7")
    expect(task.locator(".page-head .state")).to_contain_text("succeeded")
    expect(task.locator("#result-title")).to_be_visible()


# When a page has read the answers that it has, and has drawn them: a further one comes after them.
_DRAWN = """async () => {
  await (await fetch("api/session")).text();
  for (let i = 0; i < 3; i++) await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
}"""


def test_an_answer_that_comes_late_does_not_replace_what_is_newer(look: Look, world: World) -> None:
    page = look("/workers")
    held: list[tuple[Any, Any]] = []
    page.route("**/api/tasks/01J9", lambda route: held.append((route, route.fetch())))
    page.fill("#jump", "01J9")
    page.keyboard.press("Enter")
    state = page.locator(".page-head .state")
    expect(state).to_contain_text("running")  # by an event
    world.touch(state="succeeded")
    expect(state).to_contain_text("succeeded")
    [(route, old)] = held
    with page.expect_response("**/api/tasks/01J9") as answered:
        route.fulfill(response=old)
    answered.value.finished()
    page.evaluate(_DRAWN)
    expect(state).to_contain_text("succeeded")


_SHOW = """hidden => {
  Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_page_that_nobody_sees_gives_its_connection_back(
    look: Look, world: World, fixture_server: FixtureServer
) -> None:
    world.refused = {"queue:default"}  # so that it would try again by itself
    page = look("/queues/default")
    page.clock.install()
    wait_until(lambda: fixture_server.streams == 1, "its stream")
    stand_still(page)
    page.evaluate(_SHOW, True)
    page.clock.fast_forward(29_000)
    assert fixture_server.streams == 1
    page.clock.fast_forward(2_000)
    wait_until(lambda: fixture_server.streams == 0, "the end of its stream")
    opened = fixture_server.opened
    page.clock.fast_forward(120_000)
    page.click("nav >> text=Workers")  # other topics
    page.clock.fast_forward(60_000)
    assert (fixture_server.streams, fixture_server.opened) == (0, opened)
    world.touch(dead_letters=11)
    page.evaluate(_SHOW, False)
    page.clock.resume()
    expect(page.locator("nav .mark")).to_have_text("11")


def test_a_stream_that_has_fallen_silent_is_opened_anew(look: Look, fixture_server: FixtureServer) -> None:
    page = look("/workers")
    opened = fixture_server.opened
    page.clock.install()
    page.clock.fast_forward(46_000)
    wait_until(lambda: fixture_server.opened > opened, "another stream")
    expect(page.locator("[data-link=live]")).to_be_visible()


def test_one_connection_carries_all_topics_of_a_page(look: Look) -> None:
    page = look("/")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/events" in request.url else None)
    page.click("nav >> text=Workers")
    page.wait_for_selector("h1:has-text('Workers')")
    expect(page.locator("[data-link=live]")).to_be_visible()
    with page.expect_request(re.compile(r"/api/events.*(overview%2Cschedules|schedules%2Coverview)")):
        page.click("nav >> text=Schedules")
    page.wait_for_selector("h1:has-text('Schedules')")
    expect(page.locator("tbody tr")).to_have_count(3)
    assert all("overview" in url for url in asked), asked


def test_a_lost_connection_says_since_when_and_the_figures_stay(look: Look, world: World) -> None:
    page = look("/")
    expect(stat(page, "Ready")).to_have_text("2,141")
    own_clock(page)
    world.deaf = True
    banner = page.locator(".banner")
    expect(banner).to_contain_text(re.compile(r"No connection since \d\d:\d\d:\d\d \(\d+ s\)"))
    expect(page.locator("[data-link=lost]")).to_be_visible()
    expect(stat(page, "Ready")).to_have_text("2,141")
    stand_still(page)  # so that it does not try by itself
    world.touch(deaf=False, ready=10)
    page.click("text=Try now")
    page.clock.run_for(1)
    expect(page.locator("[data-link=live]")).to_be_visible()
    page.clock.resume()
    expect(banner).to_have_count(0)
    expect(stat(page, "Ready")).to_have_text("311")


def test_a_page_reconnects_by_itself(look: Look, world: World) -> None:
    page = look("/workers")
    world.deaf = True
    expect(page.locator("[data-link=lost]")).to_be_visible()
    world.deaf = False
    expect(page.locator("[data-link=live]")).to_be_visible()


def test_another_dashboard_at_the_same_address_is_not_taken_for_the_old_one(look: Look, world: World) -> None:
    page = look("/workers")
    expect(page.locator(".where")).to_have_text("redis://redis:6379/0")
    world.deaf = True
    expect(page.locator("[data-link=lost]")).to_be_visible()
    world.touch(redis="redis://other:6379/0", deaf=False)
    expect(page.locator(".where")).to_have_text("redis://other:6379/0")
    expect(page.locator("h1")).to_have_text("Workers")


def test_a_dashboard_that_was_started_again_takes_changes_of_an_open_page(look: Look, world: World) -> None:
    page = look("/queues/default")
    world.deaf = True
    expect(page.locator("[data-link=lost]")).to_be_visible()
    with page.expect_response("**/api/session") as answered:
        world.touch(csrf="csrf-2", deaf=False)
    answered.value.finished()
    page.evaluate(_DRAWN)
    page.click("button:text-is('Pause')")
    page.locator("dialog[open]").get_by_role("button", name="Pause").click()
    expect(page.locator(".page-head .state")).to_contain_text("paused")


def test_a_login_that_has_ended_shows_the_login(look: Look, world: World, fixture_server: FixtureServer) -> None:
    page = look("/queues/default")
    world.token = "new"
    page.click("button:has-text('Refresh')")
    expect(page.locator("input[type=password]")).to_be_visible()


def test_a_login_that_ends_while_nobody_touches_the_page_shows_the_login(look: Look, world: World) -> None:
    page = look("/queues/default")
    world.token = "new"
    world.deaf = True  # the stream ends, and the next one is refused
    expect(page.locator("input[type=password]")).to_be_visible()


def test_a_stream_that_is_refused_says_why_in_the_banner(look: Look, world: World) -> None:
    page = look("/workers")
    own_clock(page)
    world.deaf_since = "500 pages are open already, which is the most"
    world.deaf = True
    expect(page.locator(".banner")).to_contain_text("500 pages are open already, which is the most")
    stand_still(page)  # so that it does not try by itself
    world.deaf = False
    page.click("text=Try now")
    page.clock.run_for(1)
    expect(page.locator("[data-link=live]")).to_be_visible()
    page.clock.resume()
    expect(page.locator(".banner")).to_have_count(0)


def test_a_page_whose_topic_has_no_room_says_so_and_keeps_what_it_had(look: Look, world: World) -> None:
    world.refused = {"queue:default"}
    page = look("/queues/default")
    # In each panel that has no data of its own yet, or in one of them.
    expect(page.get_by_text("64 topics are watched already; queue:default is not among them").first).to_be_visible()
    expect(stat(page, "Ready")).to_be_visible()
