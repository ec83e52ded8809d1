"""What verifiers share: numbers in prose, pictures, verdicts, a browser that reaches nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.checks import (
    Wrong,
    close,
    hues,
    judge,
    numbers,
    picture,
    read_json,
    read_text,
    require,
    require_number,
)
from examples.scenario import find, scenarios
from tests.examples.gold import needs_browser


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,234,567.5 CNY", [1234567.5]),
        ("-0.61 and −0.61", [-0.61, -0.61]),
        ("from 3 to 4,000", [3, 4000]),
        ("+12.47 %", [12.47]),
        ("p1 v2.0 x86", []),
        ("1,23", [1, 23]),
        ("", []),
    ],
)
def test_numbers_are_found_as_people_write_them(text: str, found: list[float]):
    assert numbers(text) == found


@given(st.floats(-1e9, 1e9), st.integers(0, 4))
def test_a_number_that_is_written_is_found(value: float, digits: int):
    text = f"about {value:,.{digits}f} in all"
    require_number(text, "it", round(value, digits), 10**-digits)


def test_true_is_no_number():
    assert not close(True, 1, 0.1)
    assert close(1.001, 1, 0.01) and not close(1.1, 1, 0.01)


def test_a_check_that_breaks_is_a_verdict_with_a_reason(tmp_path):
    def it_raises(workspace):
        return {}["absent"]

    def it_is_wrong(workspace):
        require(False, "expected 1, found 2")
        return ""

    broken, wrong = judge(tmp_path, [it_raises, it_is_wrong])
    assert (broken.name, broken.ok, broken.why) == ("it raises", False, "KeyError: 'absent'")
    assert (wrong.ok, wrong.why) == (False, "expected 1, found 2")


def test_links_and_empty_files_are_no_artefacts(tmp_path):
    (tmp_path / "link.json").symlink_to("/etc/passwd")
    (tmp_path / "empty.json").touch()
    (tmp_path / "list.json").write_text("[1]")
    for name in ("link.json", "empty.json", "list.json", "absent.json"):
        with pytest.raises(Wrong):
            read_json(tmp_path, name)
    (tmp_path / "good.md").write_text("x")
    assert read_text(tmp_path, "good.md") == "x"


def test_a_blank_picture_is_none(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    image.imsave(tmp_path / "blank.png", np.ones((500, 900, 3)))
    with pytest.raises(Wrong, match="blank"):
        picture(tmp_path, "blank.png")
    image.imsave(tmp_path / "small.png", np.random.default_rng(0).random((50, 90, 3)))
    with pytest.raises(Wrong, match="90x50"):
        picture(tmp_path, "small.png")


def test_hues_are_those_of_the_colour_wheel():
    colours = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0.5, 0.5, 0.5]]], dtype=float)
    assert sorted(hues(colours)) == [0, 60, 120, 240]


def test_six_scenarios_are_complete():
    found = scenarios()
    assert len(found) == 6
    for scenario in found:
        files = {path.name for path in scenario.folder.iterdir()}
        assert {
            "README.md",
            "goal.md",
            "goal.zh.md",
            "inputs.py",
            "verify.py",
            "script.py",
        } <= files
        assert len(scenario.turns()) >= 6
        named = {word for word in scenario.goal().split("`") if word.endswith((".md", ".html"))}
        assert all(word in scenario.goal("zh") for word in named)


@pytest.mark.parametrize("name", ["4", "04", "prices", "price", "04-price-indicators"])
def test_a_scenario_is_found_by_number_or_part_of_its_name(name: str):
    if name == "prices":
        with pytest.raises(LookupError, match="no scenario"):
            find(name)
    else:
        assert find(name).name == "04-price-indicators"


def test_inputs_are_the_same_every_time(tmp_path):
    for scenario in scenarios():
        if scenario.name.startswith("05"):
            continue  # 9 MB: its own tests make it
        for run in ("a", "b"):
            (tmp_path / run / scenario.name).mkdir(parents=True)
            scenario.make_inputs(tmp_path / run / scenario.name)
        for file in (tmp_path / "a" / scenario.name).iterdir():
            assert file.read_bytes() == (tmp_path / "b" / scenario.name / file.name).read_bytes()


def test_what_is_committed_is_small():
    files = [p for s in scenarios() for p in s.folder.rglob("*") if "__pycache__" not in p.parts]
    assert sum(path.stat().st_size for path in files if path.is_file()) < 300_000


@needs_browser
def test_a_page_under_test_reaches_nothing_and_its_complaints_are_kept(tmp_path):
    from examples.browser import opened, require_quiet

    (tmp_path / "page.html").write_text(
        "<body>x<img src='http://127.0.0.1:9/a.png'><img src='file:///etc/passwd'>"
        "<script>fetch('https://evil.example/'); console.error('oh'); null.x</script>"
    )
    with opened(tmp_path / "page.html") as look:
        look.page.wait_for_timeout(300)
        said = "\n".join(look.problems)
        assert "asks for http://127.0.0.1:9/a.png" in said
        assert "asks for https://evil.example/" in said
        assert "console: oh" in said and "exception: " in said
        with pytest.raises(Wrong):
            require_quiet(look)
