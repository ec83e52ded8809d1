"""The browser tool works with real pages in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openk2.agent.tool import ToolError
from tests.agent.tools.browser_desk import Desk, need_chromium, ref


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    need_chromium()
    desk = Desk(tmp_path_factory.mktemp("browser"))
    yield desk
    desk.close()


def test_a_form_is_filled_in_and_leads_on(desk: Desk):
    page = desk.open("trip.html")
    assert page.content.startswith("Page: Trip\nAddress: http://127.0.0.1:") and page.untrusted
    desk.do(action="type", ref=ref(page, 'textbox "City"'), text="杭州")
    page = desk.do(action="select", ref=ref(page, 'combobox "Days"'), text="3 days")
    page = desk.do(action="click", ref=ref(page, 'checkbox "By train"'))
    page = desk.do(action="click", ref=ref(page, 'button "Order"'))
    assert "Page: Thanks" in page.content and 'heading "Ordered: 杭州-3 days-on"' in page.content
    page = desk.do(action="click", ref=ref(page, 'link "Again"'))
    assert page.details["title"] == "Trip"
    assert desk.do(action="back").details["title"] == "Thanks"


def test_enter_submits_what_is_typed(desk: Desk):
    page = desk.open("trip.html")
    page = desk.do(action="type", ref=ref(page, "textbox"), text="Xi'an", submit=True)
    assert "Ordered: Xi'an-1 day-off" in page.content.replace("''", "'")


def test_errors_of_the_page_and_its_console_are_listed(desk: Desk):
    events = desk.open("trouble.html").details["events"]
    assert any("page error: undefinedFunction is not defined" in event for event in events)
    assert any("console error: the score is NaN" in event for event in events)
    assert any("404" in event and "missing.js" in event for event in events)
    assert desk.do(action="snapshot").details["events"] == []


def test_a_status_is_told_with_the_page(desk: Desk):
    page = desk.open("gone")
    assert "! the server answered 410" in page.content and "It moved away" in page.content


def test_dialogs_are_answered_and_told(desk: Desk):
    page = desk.open("dialogs.html")
    told = desk.do(action="click", ref=ref(page, 'button "Alert"'))
    assert "alert dialog 'saved' was answered: accept" in told.content
    assert "after the alert" in told.content
    button = ref(page, 'button "Ask"')
    assert "paragraph [ref=" in (yes := desk.do(action="click", ref=button)).content
    assert yes.content.rstrip().endswith('"yes"')
    no = desk.do(action="click", ref=button, dialogs="dismiss")
    assert no.content.rstrip().endswith('"no"') and "dismiss" in no.content


def test_a_tab_that_opens_is_in_front_until_it_closes(desk: Desk):
    page = desk.open("dialogs.html")
    popup = desk.do(action="click", ref=ref(page, 'button "Open a tab"'))
    assert "in the popup" in popup.content and "a new tab opened" in popup.content
    page = desk.do(action="click", ref=ref(popup, 'button "Close me"'))
    assert page.details["title"] == "Dialogs"


def test_downloads_are_put_into_the_workspace(desk: Desk):
    page = desk.open("dialogs.html")
    done = desk.do(action="click", ref=ref(page, 'link "Data"'))
    assert done.artifacts == (desk.workspace / "downloads/data.csv",)
    assert done.artifacts[0].read_text() == "a,b\n1,2\n"
    done = desk.do(action="click", ref=ref(page, 'link "Evil name"'))
    (file,) = done.artifacts
    assert file.parent == desk.workspace / "downloads" and file.read_text() == "evil"


@pytest.mark.slow
def test_an_element_that_is_not_there_or_not_free_is_told(desk: Desk):
    page = desk.open("dialogs.html")
    with pytest.raises(ToolError, match="no e999 on the page"):
        desk.do(action="click", ref="e999")
    with pytest.raises(ToolError, match="in vain") as waited:
        desk.do(action="click", ref=ref(page, 'button "Never"'))
    assert waited.value.kind == "failed"
    with pytest.raises(ToolError, match="type needs ref and text"):
        desk.do(action="type")


@pytest.mark.slow
def test_a_page_that_hangs_is_closed_and_the_next_one_opens(desk: Desk):
    page = desk.open("dialogs.html")
    with pytest.raises(ToolError, match="the page hangs") as hung:
        desk.do(action="click", ref=ref(page, 'button "Hang"'))
    assert hung.value.kind == "timeout"
    with pytest.raises(ToolError, match="use open"):
        desk.do(action="snapshot")
    assert desk.open("trip.html").details["title"] == "Trip"


def test_a_game_of_the_workspace_is_played_with_keys(desk: Desk):
    desk.put("game.html", "speed.mjs")
    page = desk.do(action="open", url="game.html")
    assert page.details["title"] == "游戏" and "分数 0" in page.content
    assert page.details["events"] == [] and not page.untrusted
    page = desk.do(action="press", key="ArrowRight")
    assert "分数 5" in page.content
    assert "held" in desk.do(action="press", key="ArrowRight", seconds=0.5).content
    assert "分数" in desk.do(action="wait", text="held").content
    with pytest.raises(ToolError, match="wait"):
        desk.do(action="wait", text="no such text", seconds=0.2)


def test_a_screenshot_is_a_picture_in_the_workspace(desk: Desk):
    desk.put("game.html", "speed.mjs")
    desk.do(action="open", url="workspace://game.html#x")
    first = desk.do(action="screenshot")
    second = desk.do(action="screenshot", full_page=True)
    for result in (first, second):
        (file,) = result.artifacts
        assert file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 1000
        assert f"Saved screenshots/{file.name}" in result.content
    assert first.artifacts != second.artifacts


def test_scrolling_and_a_part_of_the_page(desk: Desk):
    (desk.workspace / "long.html").write_text(
        "<ul>" + "".join(f"<li>item {n}" for n in range(3000)) + "</ul><footer>end</footer>"
    )
    page = desk.do(action="open", url="long.html")
    assert "(cut: " in page.content and len(page.content) < 31_000
    part = desk.do(action="snapshot", ref=ref(page, "listitem"))
    assert "item 0" in part.content and "item 1" not in part.content
    desk.do(action="scroll", pixels=500)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("none.html", "`none.html` cannot be read.*begins with https"),
        ("example.com/page", "There is no `example.com/page`.*begins with https"),
        ("../secret", "leads out of the workspace"),
        ("file:///etc/passwd", "leads out of the workspace"),
        ("/etc/passwd", "leads out of the workspace"),
        ("chrome://version", "does not begin with http"),
        ("javascript:alert(1)", "does not begin with http"),
        ("http://[", "no web address"),
        ("http://example.invalid/", "has no address"),
        ("http://localhost:{port}/trip.html", "not on the public internet"),
        ("http://{site}/inner", "did not open: .*answer|did not open: net::"),
    ],
)
def test_what_cannot_be_opened_says_why(desk: Desk, url: str, problem: str):
    desk.asked.clear()
    port = desk.site.partition(":")[2]
    with pytest.raises(ToolError, match=problem):
        desk.do(action="open", url=url.format(site=desk.site, port=port))
    assert "/secret" not in desk.asked and "/trip.html" not in desk.asked


def test_a_call_says_what_it_would_touch(desk: Desk, tmp_path: Path):
    access = desk.tool.access
    assert access({"action": "open", "url": "https://a.example/x"}, tmp_path).hosts == (
        "a.example",
    )
    local = access({"action": "open", "url": "sub/game.html?x=1"}, tmp_path)
    assert local.reads == (tmp_path / "sub/game.html",) and local.executes and not local.hosts
    assert access({"action": "type", "ref": "e1", "text": "x"}, tmp_path).hosts == ("*",)
    assert access({"action": "press", "key": "a"}, tmp_path).hosts == ("*",)
    assert access({"action": "press", "key": "Enter"}, tmp_path).hosts == ()
    assert access({"action": "open", "url": "http://["}, tmp_path).hosts == ()
