"""Everything can be reached and done with the keyboard alone."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Look
from tests.browser.paths import PAGES
from tests.browser.world import World


def test_the_skip_link_comes_first_and_leads_to_the_content(look: Look) -> None:
    page = look("/")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_contain_text("Skip to the content")
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("o", "/"),
        ("t", "/tasks"),
        ("d", "/dead"),
        ("s", "/schedules"),
        ("w", "/workers"),
        ("k", "/keys"),
        ("a", "/autoscaler"),
        ("u", "/audit"),
    ],
)
def test_g_and_a_letter_go_to_a_page(look: Look, key: str, path: str) -> None:
    page = look("/audit" if path == "/" else "/")
    page.clock.set_fixed_time(dt.datetime.now(dt.UTC))  # the letter must follow within a moment
    page.keyboard.press("g")
    page.keyboard.press(key)
    page.wait_for_url(f"**{path}")
    expect(page.locator("main h1"), "the focus follows to the new page").to_be_focused()


def test_a_question_mark_lists_the_shortcuts(look: Look) -> None:
    page = look("/")
    page.keyboard.press("?")
    expect(page.locator("dialog[open]")).to_contain_text("search on this page")
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)


def test_a_slash_searches_and_escape_leaves(look: Look) -> None:
    page = look("/")
    expect(page.locator("main [data-search]")).to_be_visible()
    page.keyboard.press("/")
    expect(page.locator("main [data-search]")).to_be_focused()
    page.keyboard.type("mail?gt")  # letters in a field are no shortcuts
    expect(page.locator("dialog[open]")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.locator(":focus")).to_have_count(0)
    look_elsewhere = look("/audit")
    look_elsewhere.keyboard.press("/")
    expect(look_elsewhere.locator("#jump")).to_be_focused()


@pytest.mark.parametrize("name", list(PAGES))
def test_the_focus_walks_through_a_page_and_is_always_seen(look: Look, name: str) -> None:
    """Tab reaches every control, in the order of the page, and each shows that it has the focus."""
    page = look(PAGES[name][0])
    expect(page.locator("main > :nth-child(2)")).to_be_visible()
    expect(page.locator("main").get_by_text("Loading …")).to_have_count(0)
    unseen, steps = [], 0
    seen: set[str] = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        state = page.evaluate(
            """() => { const e = document.activeElement; if (!e || e === document.body) return null;
            const s = getComputedStyle(e); const b = e.getBoundingClientRect();
            return [e.outerHTML.slice(0, 120), s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2,
            b.width > 0 && b.height > 0]; }"""
        )
        if state is None:
            break
        steps += 1
        seen.add(state[0])
        if not (state[1] and state[2]):
            unseen.append(state[0])
    assert unseen == []
    assert steps >= 12
    assert len(seen) > 10, "the focus is not caught anywhere"


def test_a_chart_is_read_with_the_arrow_keys(look: Look) -> None:
    page = look("/queues/default")
    plot = page.get_by_role("slider", name="Tasks: point in time")
    plot.focus()
    latest = plot.get_attribute("aria-valuetext")
    assert latest is not None
    assert "ready" in latest
    plot.press("ArrowLeft")
    expect(plot).not_to_have_attribute("aria-valuetext", latest)
    plot.press("Home")
    expect(plot).to_have_attribute("aria-valuenow", "0")
    plot.press("End")
    expect(plot).to_have_attribute("aria-valuetext", latest)


def test_each_chart_has_a_table(look: Look) -> None:
    page = look("/queues/default")
    chart = page.locator("figure.chart").first
    chart.get_by_role("button", name="Table").press("Enter")
    expect(chart.locator("tbody tr")).to_have_count(240)
    expect(chart.locator("tbody tr", has_text="\u2013").first).to_be_attached()  # the time that nobody recorded
    chart.get_by_role("button", name="Chart").press("Enter")
    expect(chart.get_by_role("slider")).to_be_visible()


def test_a_decision_is_picked_in_the_chart_with_enter(look: Look, world: World) -> None:
    page = look("/autoscaler/shop/orders")
    plot = page.get_by_role("slider", name="Workers: point in time")
    plot.focus()
    plot.press("Home")
    plot.press("Enter")
    first = (world.born - dt.timedelta(seconds=239 * 15)).astimezone(ZoneInfo("Europe/Berlin"))
    expect(page.locator("#decision-title")).to_have_text(f"Decision of {first:%H:%M:%S}")


def test_a_workflow_is_walked_with_arrows_and_enter(look: Look) -> None:
    page = look("/tasks/01J9")
    graph = page.get_by_role("application")
    graph.focus()
    now = page.locator("#graph-now")
    expect(now).to_contain_text("(this task)")
    graph.press("ArrowLeft")
    expect(now).to_contain_text("shop.orders.open")
    graph.press("ArrowRight")
    graph.press("ArrowRight")
    first = now.inner_text()
    graph.press("ArrowDown" if "reserve" in first else "ArrowUp")
    expect(now).not_to_have_text(first)
    graph.press("ArrowRight")
    expect(now).to_contain_text("shop.orders.close")
    graph.press("Enter")
    page.wait_for_url("**/tasks/end")


def test_a_workflow_is_walked_with_the_mouse_and_as_a_list(look: Look) -> None:
    page = look("/tasks/01J9")
    page.locator("[data-node=g2]").click()
    expect(page.locator("#graph-now")).to_contain_text("shop.mail.receipt")
    page.locator("[data-node=g2]").click()
    page.wait_for_url("**/tasks/g2")
    workflow = page.locator("section[aria-labelledby=workflow-title]")
    workflow.get_by_role("button", name="List").click()
    expect(workflow.locator("tbody tr")).to_have_count(5)


def test_a_link_can_be_opened_in_another_tab(look: Look) -> None:
    page = look("/")
    with page.context.expect_page() as opened:
        page.click("nav >> text=Workers", modifiers=["ControlOrMeta"])
    opened.value.wait_for_url("**/workers")
    assert page.url.endswith("/")
    expect(page.locator("h1")).to_have_text("Overview")


def test_a_dialog_gives_the_focus_back(look: Look, world: World) -> None:
    page = look("/queues/default")
    button = page.locator("button:text-is('Pause')")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open]")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)  # it has a button of that name, too
    expect(button).to_be_focused()
    assert world.changes == []


def test_the_menu_of_a_narrow_page_opens_and_closes(look: Look) -> None:
    page = look("/", width=360)
    nav = page.locator("#nav")
    expect(nav).to_be_hidden()
    page.click("button:has-text('Menu')")
    expect(nav).to_be_visible()
    nav.get_by_text("Schedules").click()
    page.wait_for_url("**/schedules")
    expect(nav).to_be_hidden()
