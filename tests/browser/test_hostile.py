"""Whatever a task holds is text: no script, no markup, no escape, in every field of every page."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Look
from tests.browser.paths import PAGES
from tests.browser.world import HOSTILE, World

TYPED = ["/", "/tasks", "/dead", "/workers", "/keys"]


# Elements and attributes that text would have made, had it been read as markup.
ALIVE = """() => [...document.querySelectorAll(
  'main script, iframe, object, embed, img, [onerror], [onload], [onmouseover], [srcdoc], [style],' +
  'a[href^="javascript" i]'
)].map(e => e.outerHTML.slice(0, 200))"""

# All of the corpus at once, and what works only at the beginning of a text or by its length.
TEXTS = {"all": " ".join(HOSTILE[:-1]), "script": HOSTILE[0], "link": "javascript:window.hacked=1", "long": HOSTILE[-1]}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_hostile_text_in_every_field_of_every_page_stays_text(look: Look, world: World, text: str) -> None:
    world.text = text
    page = look("/")
    before = page.evaluate("document.querySelectorAll('script').length")
    for path, _ in PAGES.values():
        page.goto(page.url.split("/", 3)[0] + "//" + page.url.split("/", 3)[2] + path)
        page.wait_for_selector("[data-link=live]")
        expect(page.locator("main > :nth-child(2)")).to_be_visible()
        closed = page.locator("details:not([open]) > summary")
        while closed.count():
            closed.first.click()
        for _ in range(2):  # and once more as a live update: the second comes after all of the first
            world.touch(dead_letters=world.dead_letters + 1)
            expect(page.locator("nav .mark")).to_have_text(str(world.dead_letters))
        found = page.evaluate(ALIVE)
        assert found == [], path
        assert page.evaluate("document.querySelectorAll('script').length") == before
        assert page.evaluate("window.hacked") == 0
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, path


@pytest.mark.parametrize("name", list(PAGES))
def test_hostile_text_does_not_widen_a_narrow_page(look: Look, world: World, name: str) -> None:
    world.text = HOSTILE[-1]
    page = look(PAGES[name][0], width=360)
    expect(page.locator("main > :nth-child(2)")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_characters_that_hide_are_shown_by_their_code(look: Look, world: World) -> None:
    world.text = HOSTILE[6]
    page = look("/tasks/01J9")
    expect(page.locator("main")).to_contain_text("\\u202eexe.txt")
    expect(page.locator("main")).to_contain_text("\\u001b[31m")
    expect(page.locator("main").get_by_text("Loading …")).to_have_count(0)
    text = page.locator("main").inner_text()
    assert "\x1b" not in text
    assert "\u202e" not in text


# What is invisible in the corpus, where it is read as it is written: texts, names for screen readers, the tab.
UNSEEN = r"""() => {
  const unseen = /[\u202e\u202c\u001b\u200b\u0000]/, found = unseen.test(document.title) ? ["title of the tab"] : [];
  for (const e of document.querySelectorAll("body *")) {
    for (const a of e.attributes) if (unseen.test(a.value)) found.push(`${e.tagName} ${a.name}`);
    for (const t of e.childNodes) if (t.nodeType === 3 && unseen.test(t.data)) found.push(`${e.tagName} text`);
  }
  return found;
}"""


@pytest.mark.parametrize("name", list(PAGES))
def test_nothing_on_a_page_hides_or_turns_the_direction_of_reading(look: Look, world: World, name: str) -> None:
    world.text = HOSTILE[6]
    page = look(PAGES[name][0])
    expect(page.locator("main > :nth-child(2)")).to_be_visible()
    expect(page.locator("main").get_by_text("Loading …")).to_have_count(0)
    expect(page.locator("main").get_by_text("\\u202eexe.txt").first).to_be_attached()
    assert page.evaluate(UNSEEN) == []
    button = page.locator("main .row-acts button:enabled:text-matches('Run now|^Cordon'), main button:text-is('Pause')")
    if button.count():
        button.first.click()
        expect(page.locator("dialog[open]")).to_be_visible()
        assert page.evaluate(UNSEEN) == []


@pytest.mark.parametrize("path", TYPED)
def test_hostile_text_that_a_reader_types_or_gets_in_a_link_stays_text(look: Look, path: str) -> None:
    page = look(
        f"{path}?q=%3Cimg%20src=x%20onerror=window.hacked=1%3E&search=%3Cscript%3Ewindow.hacked=1%3C/script%3E&queue=%22%3E%3Csvg%20onload=window.hacked=1%3E"
    )
    field = page.locator("main [data-search]").first
    field.fill("<img src=y onerror=window.hacked=1>")
    if path == "/workers":
        expect(page.locator(".empty", has_text="No worker matches.")).to_be_visible()
    else:
        page.wait_for_url("**%3Cimg+src%3Dy+onerror%3Dwindow.hacked%3D1%3E**")
    expect(page.locator("main").get_by_text("Loading …")).to_have_count(0)
    expect(page.locator("main img, main svg[onload]")).to_have_count(0)
    assert page.evaluate("window.hacked") == 0


def test_numbers_are_shown_as_they_were_written(look: Look) -> None:
    """JavaScript would round a large number and drop a zero: the text of the payload is never parsed."""
    page = look("/tasks/01J9")
    expect(page.get_by_label("Positional arguments", exact=True)).to_contain_text("12345678901234567890")
    expect(page.get_by_label("Positional arguments", exact=True)).to_contain_text("19.90")


def test_a_dead_letter_in_a_dialog_is_text_too(look: Look, world: World) -> None:
    world.text = HOSTILE[0]
    page = look("/dead")
    page.locator("tbody button.linky").first.click()
    expect(page.locator("dialog[open] pre").first).to_contain_text("<script>")
    assert page.evaluate("window.hacked") == 0
    assert page.locator("dialog script").count() == 0
