"""The graders of lab 08 accept what is right, and name the likeliest mistakes of each exercise."""

import numpy as np
import pandas as pd
import pytest

from labkit import checks

# ------------------------------------------------------------------------- parameters


def counted(
    batchnorm,
    dropout,
    residual,
    pooling,
    channels=(24, 48),
    hidden=64,
    *,
    kernel_bias=1,
    linear_bias=1,
    shortcut_bias=1,
    shortcut_kernel=1,
    around=(1, 1),
    norms=2,
    norm_hidden=1,
    side=7,
):
    """The right count; each keyword at the end is a mistake to make."""
    first, second = channels
    total = 9 * first + 9 * first * second + kernel_bias * (first + second)
    total += second * side**2 * hidden + 10 * hidden + linear_bias * (hidden + 10)
    if batchnorm:
        total += norms * (first + second + norm_hidden * hidden)
    if residual:
        total += around[0] * (shortcut_kernel * first + shortcut_bias * first)
        total += around[1] * (shortcut_kernel * first * second + shortcut_bias * second)
    return total


def mistaken(**mistake):
    return lambda *flags, **options: counted(*flags, **options, **mistake)


def always(**changed):
    return lambda **options: counted(**(options | changed))


def test_parameters_of_all_combinations_pass(capsys):
    checks.lab08_cnn_parameters(counted)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (mistaken(kernel_bias=0), "one bias for each output channel"),
        (mistaken(linear_bias=0), "each linear layer has a bias"),
        (mistaken(kernel_bias=0, linear_bias=0), "each layer has a bias"),
        (mistaken(side=14), "28, 14, 7 pixels"),
        (mistaken(side=28), "leave 7 x 7"),
        (mistaken(norms=4), "running mean and variance are not trained"),
        (mistaken(norms=1), "a weight and a bias"),
        (mistaken(norm_hidden=0), "after the hidden linear layer too"),
        (always(batchnorm=False), "BatchNorm has a weight and a bias"),
        (always(batchnorm=True), "no BatchNorm to count"),
        (always(residual=False), "residual=True adds a 1 x 1"),
        (always(residual=True), "no shortcut to count"),
        (mistaken(shortcut_bias=0), "3 x 3 or 1 x 1, have a bias"),
        (mistaken(shortcut_kernel=9), "the shortcut is 1 x 1"),
        (mistaken(around=(1, 0)), "around the second convolution too"),
        (mistaken(around=(0, 1)), "around the first convolution too"),
        (lambda **options: counted(**options) + 5, "but the network has"),
        (lambda **options: None, "return one whole number"),
        (lambda **options: float(counted(**options)), "return one whole number"),
    ],
)
def test_wrong_parameters_are_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab08_cnn_parameters(wrong)


# ------------------------------------------------------------------------- pairs of runs


def paired(runs, factor, same, metric):
    wide = runs.pivot(index=same, columns=factor, values=metric)
    return (wide[True] - wide[False]).dropna()


def merged(runs, factor, same, metric):
    on, off = runs[runs[factor]], runs[~runs[factor]]
    both = on.merge(off, on=same)
    return (both[f"{metric}_x"] - both[f"{metric}_y"]).to_numpy()


def with_nan(runs, factor, same, metric):
    wide = runs.pivot(index=same, columns=factor, values=metric)
    return wide[True] - wide[False]


def row_by_row(runs, factor, same, metric):
    on, off = runs[runs[factor]][metric], runs[~runs[factor]][metric]
    return on.to_numpy()[: len(off)] - off.to_numpy()[: len(on)]


def other_seeds_too(runs, factor, same, metric):
    return merged(runs, factor, [name for name in same if name != "seed"], metric)


def means(runs, factor, same, metric):
    by_factor = runs.groupby(factor)[metric].mean()
    return [by_factor[True] - by_factor[False]]


def without_a_partner_is_zero(runs, factor, same, metric):
    wide = runs.pivot(index=same, columns=factor, values=metric)
    return (wide[True] - wide[False]).fillna(0)


def alike_in_all_columns(runs, factor, same, metric):
    return paired(runs, factor, [name for name in runs if name not in (factor, metric)], metric)


def changes_the_table(runs, factor, same, metric):
    answer = paired(runs, factor, same, metric)
    runs["sum"] = 0
    return answer


@pytest.mark.parametrize("right", [paired, merged])
def test_paired_differences_pass_in_any_order(right, capsys):
    checks.lab08_paired_differences(right)
    checks.lab08_paired_differences(lambda *given: np.asarray(right(*given))[::-1])
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda *given: -paired(*given), "the sign is wrong"),
        (row_by_row, "in no particular order"),
        (other_seeds_too, "partners have the same seed"),
        (means, "difference of each pair"),
        (with_nan, "leave it out"),
        (without_a_partner_is_zero, "without a partner is left out"),
        (lambda *given: np.asarray(paired(*given))[1:], "find them all"),
        (changes_the_table, "the table you were given"),
        (alike_in_all_columns, "agree in the columns of `same`"),
        (lambda *given: None, "nothing came back, is the `return` missing"),
        (lambda *given: ["a"], "one number a pair"),
    ],
)
def test_wrong_differences_are_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab08_paired_differences(wrong)


def test_the_tables_of_the_grader_are_incomplete_where_they_say_so():
    sizes = []

    def spy(runs, factor, same, metric):
        sizes.append((len(runs), len(paired(runs, factor, same, metric))))
        return paired(runs, factor, same, metric)

    checks.lab08_paired_differences(spy)
    whole = [size for size in sizes if size == (16, 8)]
    assert len(whole) == 2
    assert all(0 < pairs < rows / 2 for rows, pairs in sizes if (rows, pairs) != (16, 8))


# ----------------------------------------------------------------------- confused pairs


def confused(counts, share=None):
    totals = counts.sum(1)

    def both(i, j):
        return (counts[i, j] + counts[j, i]) / (totals[i] + totals[j])

    places = [(i, j) for i in range(len(counts)) for j in range(i + 1, len(counts))]
    answer = [(i, j, (share or both)(i, j)) for i, j in places]
    return sorted(answer, key=lambda pair: -pair[2])


def by_share(rule):
    """confused_pairs with another rule for the share: rule(counts, totals, i, j)."""
    return lambda counts: confused(counts, lambda i, j: rule(counts, counts.sum(1), i, j))


def both_directions_apart(counts):
    totals = counts.sum(1)
    places = [(i, j) for i in range(len(counts)) for j in range(len(counts)) if i != j]
    return [(i, j, counts[i, j] / totals[i]) for i, j in places]


def with_the_diagonal(counts):
    return [(i, j, 0.0) for i in range(len(counts)) for j in range(i, len(counts))]


def empties_the_diagonal(counts):
    answer = confused(counts)
    np.fill_diagonal(counts, 0)
    return answer


def test_confused_pairs_pass(capsys):
    checks.lab08_confused_pairs(confused)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (by_share(lambda m, t, i, j: m[i, j] + m[j, i]), "these are counts"),
        (by_share(lambda m, t, i, j: m[i, j] / (t[i] + t[j])), "only one direction"),
        (by_share(lambda m, t, i, j: m[i, j] / t[i]), "only i taken for j"),
        (by_share(lambda m, t, i, j: (m[i, j] + m[j, i]) / t[i]), "not by those of one"),
        (by_share(lambda m, t, i, j: m[i, j] / t[i] + m[j, i] / t[j]), "two shares were added"),
        (by_share(lambda m, t, i, j: (m[i, j] + m[j, i]) / t.sum()), "not by those of all"),
        (
            by_share(lambda m, t, i, j: (m[i, j] + m[j, i]) / (m[:, i] + m[:, j]).sum()),
            "two \\*rows\\*",
        ),
        (by_share(lambda *_: 0.5), "but it must be"),
        (lambda counts: confused(counts)[::-1], "turned round"),
        (lambda counts: sorted(confused(counts)), "sort the pairs"),
        (lambda counts: confused(counts)[:2], "there are"),
        (both_directions_apart, "one pair"),
        (with_the_diagonal, "the diagonal"),
        (empties_the_diagonal, "matrix was changed"),
        (lambda counts: None, "list of triples"),
        (lambda counts: [(0, 1)], "list of triples"),
    ],
)
def test_wrong_pairs_are_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab08_confused_pairs(wrong)


def test_pandas_is_no_obstacle():
    checks.lab08_confused_pairs(lambda counts: confused(pd.DataFrame(counts).to_numpy()))
