"""The page: words, verdicts and figures are in it; nothing in it comes from elsewhere."""

import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from hf_seqmodels.tasks.compare import texts
from hf_seqmodels.tasks.compare.claim import Cell, Claim, Verdict
from hf_seqmodels.tasks.compare.configuration import parameters_of, seeds_of, settings_of
from hf_seqmodels.tasks.compare.figures import panels
from hf_seqmodels.tasks.compare.page import render
from hf_seqmodels.tasks.compare.results import Result, Run
from hf_seqmodels.tasks.compare.svg import svg_panels
from tests.tasks.compare import toys

MACHINE = {
    **{"processor": "A <fast> one", "cores": 2, "gpu": None, "system": "Linux"},
    **{"python": "3.11", "torch": "2", "transformers": "5", "hf_seqmodels": "0"},
}
RUN = Run("standard", "python scripts/compare.py --out report", [MACHINE], ["2026-11-25"])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        toys.use(patch, tmp_path_factory.mktemp("page") / "texts")
        return render(toys.results(), RUN, "en")


def test_everything_is_said(page: str) -> None:
    for text in (
        "Long &lt;inputs&gt; &amp; forgetting",
        "RNN reaches 0.94 at length 4",  # a verdict's number, and a model's name in words
        "It holds after 12,345 steps.",
        "They are not: 3.",
        "1 of 2 claims hold in this run.",
        "A &lt;fast&gt; one, 2 cores",
        "3 seeds; bars are ± one standard deviation over them",
        "parameters RNN 1,000, LSTM 1,001, deep &lt;RNN&gt; 1,002",
        "no seeds, nothing here depends on chance",
        "12 min 35 s over 10 measurements",
        '<a href="data/gating.csv">',
    ):
        assert text in page, text
    assert "It fails." not in page and "They are." not in page, "one of the two verdicts"
    assert "deep <" not in page and "<fast>" not in page, "everything is escaped"
    verdicts = re.findall(r'<span class="verdict (\w+)"><span aria-hidden="true">(.)</span> ([^<]+)</span>', page)
    assert verdicts == [("holds", "✓", "holds"), ("fails", "✗", "does not hold")] * 2, "in the table, and in sections"


def test_it_needs_nothing_from_elsewhere(page: str) -> None:
    assert "<script" not in page and "<link" not in page and "@import" not in page and "<?xml" not in page
    assert not re.findall(r'(?:src|href)="(?!#|data/|results\.json)[^"]*"', page)
    assert set(re.findall(r"url\(([^)#]*)", page)) <= {""}
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/1999/xlink"}, "a name, not an address"


def test_ids_are_unique_and_references_lead_somewhere(page: str) -> None:
    ids = Counter(re.findall(r'\sid="([^"]+)"', page))
    assert ids and max(ids.values()) == 1
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= ids.keys()


def test_figures_are_told_to_those_who_cannot_see_them(page: str) -> None:
    svgs = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(svgs) == 4, "each panel is one picture"
    titles = [ElementTree.fromstring(svg)[0].text for svg in svgs]
    assert titles[:2] == ["Accuracy against length. (1/2)", "Accuracy against length. (2/2)"]
    assert all('role="img" aria-label=' in svg for svg in svgs)
    assert ">accuracy</text>" in svgs[0] and ">deep &lt;RNN&gt;</text>" in svgs[0], "text is text"
    assert "font-family" not in "".join(svgs), "in the reader's fonts"


def test_a_page_is_the_same_each_time(page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    toys.use(monkeypatch, tmp_path / "texts")
    assert page == render(toys.results(), RUN, "en")


def test_korean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    toys.use(monkeypatch, tmp_path / "texts")
    claim = toys.CLAIMS["gating"]
    rows = toys.count(lambda share: None)
    page = render([Result(claim, claim.cells("quick"), {"count": 0.5}, rows, claim.judge(rows))], RUN, "ko")
    assert '<html lang="ko">' in page and "성립하지 않음" in page and ">게이트의 수</text>" in page
    assert not recwarn.list, "letters that matplotlib's font lacks are no reason to warn"


def test_texts_and_figures_have_to_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    toys.use(monkeypatch, tmp_path / "texts")
    claim = toys.CLAIMS["gating"]
    rows = toys.count(lambda share: None)

    def rendered(claim: Claim, verdict: Verdict) -> str:
        return render([Result(claim, [Cell("count", toys.count)], {"count": 1.0}, rows, verdict)], RUN, "en")

    with pytest.raises(ValueError, match=r"en/gating.yaml: no value for \{gates\} in"):
        rendered(claim, Verdict(True, {}))
    with pytest.raises(ValueError, match=r"en/gating.yaml: .*format code 'f'"):
        rendered(claim, Verdict(True, {"gates": "three"}))
    other = Claim("gating", claim.cells, claim.judge, lambda rows, labels: {"other": panels(1)[0]})
    with pytest.raises(ValueError, match=r"captions of \['gates'\]; figures are \['other'\]"):
        rendered(other, Verdict(True, {"gates": 1}))
    with pytest.raises(ValueError, match="lang='de'"):
        render([], RUN, "de")


def test_words() -> None:
    words = texts.Words("x.yaml", {"rnn": "RNN", "many": "{model} has {count:,}"})
    assert words("many", model="rnn", count=1234) == "RNN has 1,234"
    assert words("64") == "64", "a number is its own word"
    with pytest.raises(ValueError, match=r"x\.yaml: no text 'rn'. Did you mean rnn"):
        words("rn")


def test_configuration_in_short() -> None:
    cells = [
        Cell(f"{seed}{width}", toys.count, {"seed": seed, "width": width, "rate": 1e-3, "map": {"a": [1]}})
        for seed in range(3)
        for width in range(100, 1100, 100)
    ]
    assert settings_of(cells) == [("width", "100–1,000"), ("rate", "0.001"), ("map.a", "[1]")]
    assert seeds_of(cells, []) == 3 and seeds_of([], []) == 0
    rows = [{"model": "rnn", "num_parameters": 10}, {"model": "rnn", "num_parameters": 1200}, {"x": 1}]
    assert parameters_of(rows) == {"rnn": "10–1,200"}


def _with_bar() -> Figure:
    figure, axes = panels(4)
    figure.colorbar(axes[0].imshow([[0, 1]]), ax=axes[0])
    return figure


def test_there_is_room_for_korean() -> None:
    def left(label: str) -> float:
        figure, (axes,) = panels(1)
        axes.set_yticks([0], [label])
        svg_panels(figure, "room", "Room")
        return axes.get_position().x0

    assert left("가" * 10) == left("W" * 10) > left("n" * 10), "as wide as they are in every font"


def test_panels_come_apart() -> None:
    figure = _with_bar()
    apart = svg_panels(figure, "map", "A map")
    assert len(apart) == 4 and len(figure.axes) == 5, "a colour bar stays with its panel"
    assert apart[0].width == apart[2].width and apart[1].width == apart[3].width, "columns are of one width"
    heights = [ElementTree.fromstring(panel.svg).attrib["viewBox"].split()[3] for panel in apart]
    assert heights[0] == heights[1] and heights[2] == heights[3], "rows are of one height"
    assert [panel.svg.count("<image") for panel in apart][1:] == [0, 0, 0] and "<image" in apart[0].svg
    assert all(axes.get_visible() for axes in figure.axes)


def test_what_belongs_to_the_whole_figure_keeps_it_together() -> None:
    figure = _with_bar()
    figure.suptitle("All of it")
    (whole,) = svg_panels(figure, "map", "A map")
    assert whole.width == pytest.approx(figure.get_figwidth() * 72) and ">All of it</text>" in whole.svg
