"""Every page, in both themes, narrow and wide, and what axe says about it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import FRONT, TIER, Look
from tests.browser.fixture_server import FixtureServer
from tests.browser.paths import PAGES
from tests.browser.world import World
from tests.support import requirements

SCHEMES = ["light", "dark"]

PAINTED = """() => new Promise(done => new PerformanceObserver(
  list => list.getEntriesByName("first-contentful-paint").forEach(each => done(each.name))
).observe({type: "paint", buffered: true}))"""

each_page = pytest.mark.parametrize("name", list(PAGES))


def settled(page: Any) -> None:
    """Wait until nothing is loading any more."""
    expect(page.locator("main > :nth-child(2)")).to_be_visible()
    expect(page.locator("main").get_by_text("Loading …")).to_have_count(0)


def overflow(page: Any) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


@pytest.fixture(scope="session")
def axe(request: pytest.FixtureRequest) -> str:
    path = FRONT / "node_modules" / "axe-core" / "axe.min.js"
    if not path.exists():
        requirements.cannot_run(request.config, TIER, "there is no axe; tests/browser/install.sh installs it")
    return path.read_text()


def complaints(page: Any, axe: str) -> list[str]:
    """What axe finds on the page, by the rules of WCAG 2.2 AA and by its own best practices."""
    page.evaluate(axe)
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {each['help']}: {[node['html'][:160] for node in each['nodes'][:3]]}"
        for each in result["violations"]
    ]


@each_page
def test_a_page_shows_its_heading_and_title_at_its_own_address(look: Look, name: str) -> None:
    path, heading = PAGES[name]
    page = look(path)
    settled(page)
    expect(page.locator("main h1")).to_have_text(heading)
    expect(page).to_have_title(re.compile("· Taskfleet$"))
    assert page.locator("h1").count() == 1


@each_page
def test_axe_finds_nothing_in_either_theme(look: Look, axe: str, name: str) -> None:
    page = look(PAGES[name][0])
    settled(page)
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        assert complaints(page, axe) == [], scheme


@pytest.mark.parametrize("name", ["overview", "task", "autoscaler", "dead"])
def test_axe_finds_nothing_on_a_narrow_page(look: Look, axe: str, name: str) -> None:
    page = look(PAGES[name][0], width=360, scheme="dark")
    settled(page)
    assert complaints(page, axe) == []


DIALOGS = {
    "shortcuts": ("/", "[title='Shortcuts (?)']"),
    "pause": ("/queues/default", "button:text-is('Pause')"),
    "purge": ("/queues/default", "text=Purge …"),
    "cancel": ("/tasks/01J9", "text=Cancel …"),
    "letter": ("/dead", "tbody button.linky >> nth=0"),
    "discard": ("/dead", "text=Discard all that match …"),
    "run": ("/schedules", "button:has-text('Run now') >> nth=0"),
}


@pytest.mark.parametrize("name", list(DIALOGS))
def test_axe_finds_nothing_in_a_dialog(look: Look, axe: str, name: str) -> None:
    path, button = DIALOGS[name]
    page = look(path)
    page.click(button)
    expect(page.locator("dialog[open]")).to_be_visible()
    expect(page.locator("dialog[open]").get_by_text("Loading …")).to_have_count(0)
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        assert complaints(page, axe) == [], scheme


def test_axe_finds_nothing_in_what_comes_after_a_change(look: Look, world: World, axe: str) -> None:
    page = look("/dead")
    page.locator("tbody input[type=checkbox]").first.check()
    page.click("text=Discard chosen")
    page.locator("dialog[open]").get_by_role("button", name="Discard").click()
    expect(page.locator("[data-job=running]")).to_be_visible()
    world.finish("job-1")
    expect(page.locator("[data-job=done]")).to_be_visible()
    world.deaf = True
    expect(page.locator(".banner")).to_be_visible()
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        assert complaints(page, axe) == [], scheme


@each_page
def test_a_page_never_scrolls_sideways_from_360_pixels_on(look: Look, name: str) -> None:
    page = look(PAGES[name][0], width=360)
    settled(page)
    for width in (360, 480, 768, 1024):
        page.set_viewport_size({"width": width, "height": 800})
        assert overflow(page) <= 0, width


def test_the_theme_follows_the_system_and_the_button(look: Look) -> None:
    page = look("/", scheme="dark")

    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))

    dark = ground()
    page.click("[data-theme-button]")  # light
    light = ground()
    assert light != dark
    page.reload()
    page.wait_for_selector("main h1")
    assert ground() == light, "the choice is remembered"
    page.click("[data-theme-button]")  # dark
    assert ground() == dark
    page.click("[data-theme-button]")  # the system's again
    assert page.evaluate("document.documentElement.dataset.theme") is None


def test_the_theme_can_be_chosen_where_a_page_may_store_nothing(look: Look) -> None:
    page = look("/", scheme="light")
    page.evaluate("Object.defineProperty(window, 'localStorage', {get() { throw new Error('forbidden'); }})")
    for theme in ("light", "dark", "system"):
        page.click("[data-theme-button]")
        expect(page.locator("[data-theme-button]")).to_contain_text(f"Theme: {theme}")


def test_the_first_paint_waits_for_no_figures(look: Look, world: World) -> None:
    """Whatever the figures of a large Redis take, the page stands before them."""
    world.queues = 1000
    page = look("/", live=False)
    held: list[Any] = []

    def hold(route: Any) -> None:
        if route.request.url.endswith("/api/session"):
            route.continue_()
        else:
            held.append(route)

    page.route("**/api/**", hold)
    with page.expect_request("**/api/overview**"):
        page.reload(wait_until="commit")
    page.wait_for_selector("header >> text=Taskfleet")
    assert page.evaluate(PAINTED) == "first-contentful-paint"
    assert held
    assert page.locator("tbody tr").count() == 0
    page.unroute("**/api/**")  # this lets go what is held
    page.wait_for_selector("text=1\u201350 of 1,000")


def test_a_thousand_queues_come_a_page_at_a_time(look: Look, world: World) -> None:
    world.queues = 1000
    page = look("/")
    rows = page.locator("#queues-title >> xpath=ancestor::section//tbody/tr")
    page.wait_for_selector("text=1\u201350 of 1,000")
    assert rows.count() == 50
    page.click("text=Next →")
    page.wait_for_selector("text=51\u2013100 of 1,000")
    page.fill("main [data-search]", "queue-0777")
    expect(rows).to_have_count(1)
    page.wait_for_url("**search=queue-0777**")
    expect(rows).to_contain_text("queue-0777")


SPANS = {"1h": ("1 hour", 240), "24h": ("24 hours", 288), "7d": ("7 days", 336)}


@pytest.mark.parametrize("span", list(SPANS))
def test_a_queue_is_charted_over_an_hour_a_day_and_a_week(look: Look, span: str) -> None:
    label, points = SPANS[span]
    page = look("/queues/default" if span != "1h" else "/queues/default?span=7d")
    page.get_by_role("group", name="Span").get_by_role("button", name=label).click()
    page.wait_for_function("span => (new URLSearchParams(location.search).get('span') ?? '1h') === span", arg=span)
    for title in ("Tasks", "Rates", "Oldest waiting task", "Busy slots"):
        plot = page.get_by_role("slider", name=f"{title}: point in time")
        expect(plot).to_have_attribute("aria-valuemax", str(points - 1))
        expect(plot.locator(".line").first).to_be_visible()


def test_each_line_of_a_chart_is_of_its_own_figure(look: Look) -> None:
    """The last points of the fixture lead to the figures of now."""
    page = look("/queues/default")
    latest = {
        "Tasks": "ready 1,840, running 42, delayed 118, dead 7",
        "Rates": "in 83, out 98, failed 0.12",
        "Oldest waiting task": "age 31 s",
        "Busy slots": "busy 42",
    }
    for title, figures in latest.items():
        plot = page.get_by_role("slider", name=f"{title}: point in time")
        expect(plot).to_have_attribute("aria-valuetext", re.compile(f": {figures}$"))
    latest = {
        "Workers": "wanted 8, there 7, busy 7",
        "What the number is made of": "needed 64.8, steady 50, drain 14.8, late 0",
    }
    scaler = look("/autoscaler/shop/orders")
    for title, figures in latest.items():
        plot = scaler.get_by_role("slider", name=f"{title}: point in time")
        expect(plot).to_have_attribute("aria-valuetext", re.compile(f": {figures}$"))


def test_an_autoscaler_is_charted_over_a_day_by_the_minute(look: Look) -> None:
    page = look("/autoscaler/shop/orders")
    page.get_by_role("button", name="24 hours").click()
    page.wait_for_url("**/autoscaler/shop/orders?span=24h")
    plot = page.get_by_role("slider", name="Workers: point in time")
    expect(plot).to_have_attribute("aria-valuemax", "1439")
    expect(page.locator("#decisions-title")).to_have_count(0)  # a day has no reasons
    labels = plot.locator(".grid text[text-anchor=middle]").all_text_contents()
    assert len(set(labels)) == len(labels) >= 3


def test_a_point_of_a_chart_is_shown_under_the_mouse_and_picked_with_a_click(look: Look) -> None:
    page = look("/autoscaler/shop/orders")
    settled(page)
    plot = page.get_by_role("slider", name="Workers: point in time")
    expect(plot.locator(".line").first).to_be_visible()
    box = plot.bounding_box()
    latest = page.locator("#decision-title").inner_text()
    plot.hover(position={"x": box["width"] / 2, "y": 50})
    expect(plot).to_have_attribute("aria-valuenow", re.compile(r"^1[01]\d$"))
    expect(plot.locator(".cursor circle").first).to_be_visible()
    plot.click(position={"x": box["width"] / 2, "y": 50})
    expect(page.locator("#decision-title")).not_to_have_text(latest)


def test_the_queues_are_sorted_by_the_server(look: Look) -> None:
    page = look("/")
    page.click("button.sort:has-text('Ready')")
    page.wait_for_selector("th[aria-sort=descending]:has-text('Ready')")
    expect(page.locator("#app table tbody th").first).to_have_text("default")


def test_the_overview_says_why_there_are_so_many_workers(look: Look) -> None:
    page = look("/")
    scalers = page.locator("#scalers-title >> xpath=ancestor::section")
    expect(scalers).to_contain_text("8 workers because the waiting tasks are to be done within the target")
    expect(scalers).to_contain_text("workers may be added only so fast")
    expect(page.locator(".stats")).to_contain_text("gone in 2 min 37 s")


def test_a_page_that_does_not_exist_says_so(look: Look) -> None:
    page = look("/nowhere/at/all")
    expect(page.locator("h1")).to_have_text("There is no such page")


def test_a_task_that_does_not_exist_says_so(look: Look) -> None:
    page = look("/tasks/nowhere")
    page.wait_for_selector("[role=alert]:has-text('there is no such thing')")


def test_a_server_without_redis_is_one_clear_line(look: Look, world: World) -> None:
    world.down = True
    page = look("/", live=False)
    page.wait_for_selector("[role=alert]:has-text('Redis at redis:6379 cannot be reached')")
    world.down = False
    page.click("text=Try again")
    page.wait_for_selector("h1:has-text('Overview')")


def test_the_login_page_takes_a_token_and_is_clean(look: Look, world: World, axe: str) -> None:
    world.token = "secret"
    page = look("/workers", live=False)
    page.wait_for_selector("input[type=password]")
    assert complaints(page, axe) == []
    page.fill("input[type=password]", "wrong")
    page.click("button:has-text('Log in')")
    page.wait_for_selector("[role=alert]:has-text('not the right one')")
    page.fill("input[type=password]", "secret")
    page.click("button:has-text('Log in')")
    page.wait_for_selector("h1:has-text('Workers')")
    page.click("nav >> text=Log out")
    expect(page.locator("input[type=password]")).to_be_visible()


def test_no_file_is_larger_than_its_budget(fixture_server: FixtureServer) -> None:
    import gzip

    from tests.browser.fixture_server import STATIC

    scripts = sum(len(gzip.compress(path.read_bytes(), 9, mtime=0)) for path in (STATIC / "assets").glob("*.js"))
    assert scripts < 80 * 1024


@pytest.mark.parametrize("path", ["/tasks", "/dead", "/keys", "/queues/default"])
def test_a_page_says_in_one_line_what_it_lacks(look: Look, world: World, path: str) -> None:
    world.problems = ["key 'taskfleet:{<b>mail</b>}:dead' holds a string, where we keep a zset"]
    page = look(path)
    expect(page.get_by_label("What cannot be read").first).to_have_text(world.problems[0])
    expect(page.locator("tbody tr").last).to_be_visible()
