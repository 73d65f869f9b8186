"""The graders of lab 00: right answers pass, common wrong ones get their message."""

import pytest
import torch

from labkit import checks


def right_accuracy(logits, labels):
    return (logits.argmax(1) == labels).float().mean()


def right_descend(w, lr, steps):
    for _ in range(steps):
        w -= lr * 2 * w
    return w


def test_right_answers_pass(capsys):
    checks.lab00_accuracy(right_accuracy)
    checks.lab00_descend(right_descend)
    assert capsys.readouterr().out.count("OK") == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda logits, labels: (logits.argmax(1) == labels).sum(), "divide by how many"),
        (lambda logits, labels: 100 * right_accuracy(logits, labels), "percentage"),
        (lambda logits, labels: (logits.argmax(0)[0] == labels).float().mean(), "each row"),
        (
            lambda logits, labels: (logits.argmax(dim=0) == labels).float().mean(),
            r"size of tensor.*argmax\(dim=1\), one for each of the 7 rows",
        ),
        (lambda logits, labels: None, "return"),
        (lambda logits, labels: logits.argmax(1) == labels, "one number"),
    ],
)
def test_wrong_accuracies_are_explained(answer, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab00_accuracy(answer)


def test_a_descent_in_float32_is_right():
    checks.lab00_descend(lambda w, lr, steps: right_descend(torch.tensor(w), lr, steps))


def test_an_error_of_another_kind_speaks_for_itself():
    with pytest.raises(RuntimeError, match="dtype"):
        checks.lab00_accuracy(lambda logits, labels: (logits.argmax(1) == labels).mean())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda w, lr, steps: w * (1 + 2 * lr) ** steps, "uphill"),
        (lambda w, lr, steps: w * (1 - lr) ** steps, "slope of w²"),
        (lambda w, lr, steps: right_descend(w, lr, 1), "`steps` of them"),
    ],
)
def test_wrong_descents_are_explained(answer, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab00_descend(answer)
