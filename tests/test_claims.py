"""Lab 11's claims: a verdict is that of the interval, and a report's number is its table's."""

import math
from pathlib import Path

import pandas as pd
import pytest

from labkit import study
from labkit.study import claims, tables

TABLE = pd.DataFrame(
    [
        {"seed": seed, "bn": bn, "pool": pool, "test_accuracy": 0.8 + 0.1 * bn + 0.01 * seed}
        for seed in (0, 1, 2)
        for bn in (False, True)
        for pool in ("avg", "max")
    ]
)


@pytest.fixture
def table(monkeypatch):
    """Records of a study "tiny", and its reported table; both may be replaced."""
    frames = {"records": TABLE, "reported": TABLE[TABLE["seed"] == 0].drop(columns="seed")}
    monkeypatch.setattr(tables, "records", lambda name: frames["records"])
    monkeypatch.setattr(tables, "reported", lambda name: frames["reported"])
    return frames


def test_a_contrast_is_the_mean_over_pairs_seed_by_seed(table):
    contrast = study.Contrast("tiny", {"bn": False}, {"bn": True}, over=("pool",))
    assert contrast.measured().to_dict() == pytest.approx({0: 0.1, 1: 0.1, 2: 0.1})
    assert contrast.reported() == pytest.approx(0.1)


def test_a_seed_that_lacks_a_pair_is_left_out(table):
    frame = TABLE.copy()
    frame.loc[frame["bn"] & (frame["pool"] == "max"), "test_accuracy"] += 0.5
    table["records"] = frame[~((frame["seed"] == 1) & ~frame["bn"] & (frame["pool"] == "max"))]
    contrast = study.Contrast("tiny", {"bn": False}, {"bn": True}, over=("pool",))
    assert contrast.measured().to_dict() == pytest.approx({0: 0.35, 2: 0.35})
    table["records"] = frame[frame["bn"]]
    assert contrast.measured().empty


def test_seeds_with_other_pairs_are_not_averaged(table):
    frame = pd.concat([TABLE, TABLE[TABLE["pool"] == "max"].replace("max", "min")])
    lacks = {0: "min", 1: "max"}
    table["records"] = frame[frame["pool"] != frame["seed"].map(lacks)]
    contrast = study.Contrast("tiny", {"bn": False}, {"bn": True}, over=("pool",))
    assert contrast.measured().index.tolist() == [2]
    table["records"] = table["records"][table["records"]["seed"] < 2]
    assert contrast.measured().empty


def test_a_study_all_of_whose_runs_diverged_has_no_effect(table):
    frame = TABLE.drop(columns="test_accuracy")
    table["records"] = frame.assign(diverged="The loss became nan at step 3")
    claim = study.Claim("00", "?", study.Contrast("tiny", {"bn": False}, {"bn": True}))
    assert study.judge((claim,))["verdict"].item() == "not recorded"


def test_a_metric_may_be_an_expression_and_per_cent(table):
    table["records"] = TABLE.assign(train=90.0, val=80.0)
    gap = study.Contrast("tiny", {"bn": True, "pool": "avg"}, None, "train - val", unit=0.01)
    assert gap.measured().tolist() == pytest.approx([0.1] * 3)


@pytest.mark.parametrize("sign", [1, -1])
def test_an_interval_that_touches_zero_is_undecided(sign):
    for low, high in ((0.0, 0.0), (0.0, 0.1), (-0.1, 0.0)):
        assert claims._verdict(sign, low, high, n=3) == "undecided"


@pytest.mark.parametrize(
    ("step", "noise", "sign", "verdict"),
    [
        (0.1, 0.01, 1, "holds"),
        (0.1, 0.01, -1, "does not hold"),
        (-0.1, 0.01, -1, "holds"),
        (0.01, 0.1, 1, "undecided"),
    ],
)
def test_the_verdict_is_that_of_the_interval(table, step, noise, sign, verdict):
    frame = TABLE[TABLE["pool"] == "avg"].assign(test_accuracy=0.5)
    frame["test_accuracy"] += frame["bn"] * (step + noise * (frame["seed"] - 1))
    table["records"] = frame
    claim = study.Claim("00", "?", study.Contrast("tiny", {"bn": False}, {"bn": True}), sign=sign)
    (row,) = study.judge((claim,)).to_dict("records")
    assert row["verdict"] == verdict
    assert row["seeds"] == 3
    assert row["effect"] == pytest.approx(step)
    assert math.isnan(row["reported"])


def test_a_level_is_compared_with_the_reported_one(table):
    best = study.Contrast("tiny", {"bn": True, "pool": "avg"})
    (row,) = study.judge((study.Claim("00", "?", best, best, reaches=True),)).to_dict("records")
    assert row["reported"] == pytest.approx(0.9)
    assert row["effect"] == pytest.approx(0.01)


def test_one_seed_has_no_interval_and_no_seed_no_effect(table):
    claim = study.Claim("00", "?", study.Contrast("tiny", {"bn": True}))
    table["records"] = TABLE[TABLE["seed"] == 0]
    assert study.judge((claim,))["verdict"].item() == "one seed"
    table["records"] = pd.DataFrame()
    row = study.judge((claim,)).iloc[0]
    assert row["verdict"] == "not recorded"
    assert math.isnan(row["effect"])


# ------------------------------------------------------------------ the claims of the reports


@pytest.mark.parametrize("claim", study.CLAIMS, ids=lambda claim: claim.text[:50])
def test_the_report_says_what_the_claim_says_that_it_says(claim):
    if claim.reported is None:
        return
    reported = claim.reported.reported()
    assert math.isfinite(reported)
    if claim.reaches:
        assert 0.3 < reported < 1
    else:
        assert reported * claim.sign > 0


@pytest.mark.parametrize("claim", study.CLAIMS, ids=lambda claim: claim.text[:50])
def test_the_contrast_singles_out_configurations_of_its_study(claim):
    configs = pd.DataFrame(list(study.get(claim.measured.source).configs))
    sides = [claim.measured.base]
    if claim.measured.change is not None:
        sides.append({**claim.measured.base, **claim.measured.change})
    counts = [len(tables.where(configs, side)) for side in sides]
    assert min(counts) == max(counts) >= 1
    if not claim.measured.over:
        assert counts[0] == 1


def test_there_are_twenty_claims_or_more_each_with_a_lab_of_its_own():
    assert len(study.CLAIMS) >= 20
    assert len({claim.text for claim in study.CLAIMS}) == len(study.CLAIMS)
    assert {claim.lab for claim in study.CLAIMS} == set(claims.LABS)


def test_the_page_has_a_row_a_claim_with_a_link_its_unit_and_its_verdict():
    rows = study.judge().to_dict("records")[:4]
    rows[0] |= {"reported": 0.97, "effect": 0.004, "low": 0.001, "high": 0.007, "level": True}
    rows[1] |= {"reported": -0.01, "effect": -0.02, "low": math.nan, "high": math.nan}
    rows[2] |= {"unit": "nats", "effect": 0.5, "low": 0.4, "high": 0.6, "verdict": "undecided"}
    page = study.Page(pd.DataFrame(rows))
    html = page._repr_html_()
    assert html.count("<tr") == 5
    assert f'<a href="{claims.LABS["01"]}.ipynb">01</a>' in html
    first, second, third = repr(page).splitlines()[1:4]
    assert "97.00" in first
    assert "+0.10 to +0.70" in first
    assert "-1.00" in second
    assert " to " not in second
    assert "+0.500 nats" in third
    assert "? undecided" in third


def test_no_claim_is_judged_where_none_is_given():
    page = study.Page(study.judge(()))
    assert page.rows.empty
    assert "verdict" in page._repr_html_()
    assert "verdict" in repr(page)


def test_a_claim_of_a_lab_without_a_page_has_no_link(table):
    claim = study.Claim("12", "BatchNorm helps", study.Contrast("tiny", {"bn": True}))
    html = study.Page(study.judge((claim,)))._repr_html_()
    assert ">12</td>" in html
    assert "href" not in html


def test_a_claim_is_text_and_no_html(table):
    text = "lr < 0.1 & <img src=x onerror=alert(1)>"
    claim = study.Claim("<b>", text, study.Contrast("tiny", {"bn": True}))
    page = study.Page(study.judge((claim,)))._repr_html_()
    assert "lr &lt; 0.1 &amp; &lt;img" in page
    assert "<img" not in page
    assert "<b>" not in page


def test_the_links_of_the_page_lead_to_labs():
    notebooks = Path(__file__).parents[1] / "notebooks"
    there = {path.stem for path in notebooks.glob("*.ipynb")}
    assert set(claims.LABS.values()) <= there


def test_every_claim_is_judged():
    judged = study.judge()
    assert len(judged) == len(study.CLAIMS)
    assert set(judged["verdict"]) <= set(claims.VERDICTS)
    decided = judged[judged["verdict"].isin(["holds", "does not hold"])]
    assert (decided["low"] * decided["high"] >= 0).all()
    assert len(decided) >= 9
