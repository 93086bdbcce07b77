"""Tables of scores and the card."""

from __future__ import annotations

import dataclasses

from famcli.report import card, scores
from famcli.results.schema import Difference, Number, Results


def test_headline(results: Results) -> None:
    """The first row's numbers are large, with their intervals."""
    value = results.rows[0].metrics["gt_known"]
    made = scores.headline(results)
    assert f'<dt>GT-known</dt><dd>{value.value:.1f} <small class="interval">{value.low:.1f} to' in made
    assert "MaxBoxAcc" not in made


def test_rows(results: Results) -> None:
    """Every row is there with its threshold; what was not measured is empty; an oracle is explained."""
    made = scores.scores(results)
    assert '<th scope="row">FAM</th><td class="number">0.5 fixed</td>' in made
    assert '<th scope="row">CAM, oracle</th><td class="number">0.2 oracle</td>' in made
    assert "flatters" in made
    bare = dataclasses.replace(results.rows[1], metrics={}, empty=None, tau=None, tau_from="")
    made = scores.scores(dataclasses.replace(results, rows=(results.rows[0], bare)))
    assert f'<th scope="row">{bare.title}</th>' + 4 * '<td class="number"></td>' + "</tr>" in made
    assert "flatters" not in made


def test_differences(results: Results) -> None:
    """A difference has its sign; it is bold if its interval does not hold 0."""
    made = scores.scores(results)
    assert '<th scope="row">FAM minus CAM, oracle</th>' in made
    assert '<b>+12.5</b> <small class="interval">+3.0 to +22.0</small>' in made
    unclear = Difference("FAM", "CAM, oracle", "gt_known", Number(-1.0, -3.0, 2.0))
    made = scores.scores(dataclasses.replace(results, differences=(unclear,)))
    assert '"number">−1.0 <small class="interval">−3.0 to +2.0</small>' in made


def test_deltas_and_coco(results: Results) -> None:
    """COCO's precisions are columns; each δ is one with its accuracy and threshold."""
    row = dataclasses.replace(
        results.rows[0], coco={"AP": 12.34, "AP50": 50.0}, at_delta={"0.3": {"value": 91.0, "tau": 0.21}}
    )
    made = scores.scores(dataclasses.replace(results, rows=(row,), differences=()))
    assert "AP50</th>" in made
    assert "AP75" not in made
    assert '<td class="number">12.3</td>' in made
    assert '<th scope="col" class="number">IoU from 0.3</th>' in made
    assert '<td class="number">91.0 <small class="interval">τ = 0.21</small></td>' in made


def test_classes(results: Results) -> None:
    """Classes have sortable heads and link to their images; without classes there is no table."""
    made = scores.classes(results)
    assert made.count('<button type="button" class="sort">') == 6
    assert '<a href="#gallery" data-label="1">dog</a>' in made
    assert scores.classes(dataclasses.replace(results, classes=())) == ""
    boxes = tuple(dataclasses.replace(c, top1_loc=None, top1_cls=None) for c in results.classes)
    assert "Top-1" not in scores.classes(dataclasses.replace(results, classes=boxes))


def test_what_is_no_result_is_shouted(results: Results) -> None:
    """A smoke check, a partial evaluation and a model tuned on the test split say so in capitals."""
    assert card.warnings(results) == ""
    odd = dataclasses.replace(
        results,
        kind="smoke check",
        data={**results.data, "partial": True, "images_of_split": 99},
        source={**results.source, "tuned_on_test": True},
    )
    made = card.warnings(odd)
    assert "<strong>SMOKE CHECK</strong>" in made
    assert "<strong>PARTIAL</strong> Only 30 of 99 images were scored." in made
    assert "<strong>TUNED ON THESE IMAGES</strong>" in made


def test_summary(results: Results) -> None:
    """The line at the top has n, protocol, threshold, the weights' hash and the day; what is not there is left out."""
    assert card.summary(results) == "30 images · protocol fam · τ = 0.5 (fixed) · weights abababababab · 2026-01-02"
    bare = dataclasses.replace(results, rows=results.rows[1:], source={"kind": "maps", "name": "x"})
    bare = dataclasses.replace(bare, rows=(dataclasses.replace(bare.rows[0], tau=None),))
    assert card.summary(bare) == "30 images · protocol fam · 2026-01-02"


def test_card(results: Results) -> None:
    """The card has data, model, hash, protocol with its rules, thresholds and versions, and leaves out empty ones."""
    made = card.card(results)
    for words in ("drawn", "nowhere/model", "ab" * 32, "half-open corners", "τ = 0.5, fixed", "1000", "2026-01-02"):
        assert words in made
    assert "cat" not in made  # the classes' names are in their table
    odd = dataclasses.replace(results, data={**results.data, "masks": None, "name": "<i>"}, protocol={"name": "x"})
    assert "masks" not in card.card(odd)
    assert "<i>" not in card.card(odd)
    assert "Rules" not in card.card(odd)
