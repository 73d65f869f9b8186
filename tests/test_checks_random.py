"""A grader draws from generators of its own: a seed set before an exercise still counts after it.

Left out are those of dropout and `lab04_conv_from_linear`, whose answers draw themselves.
"""

import random

import numpy as np
import pytest
import test_checks_lab00 as lab00
import test_checks_lab02 as lab02
import test_checks_lab03 as lab03
import test_checks_lab04 as lab04
import test_checks_lab05 as lab05
import test_checks_lab06 as lab06
import test_checks_lab07 as lab07
import test_checks_lab08 as lab08
import test_checks_lab09 as lab09
import test_checks_lab10 as lab10
import test_checks_lab11 as lab11
import torch

from labkit import checks


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (checks.lab00_accuracy, lab00.right_accuracy),
        (checks.lab02_gradient, lab02.right_gradient),
        (checks.lab02_alarm, lab02.right_alarm),
        (checks.lab03_batch_norm, lab03.batch_norm),
        (checks.lab03_running_stats, lab03.update),
        (checks.lab03_batch_norm_backward, lab03.backward),
        (checks.lab04_hidden_units, lab04.hidden_units),
        (checks.lab04_matrix_of_conv, lab04.matrix_of_conv),
        (checks.lab05_stratified, lab05.stratified),
        (checks.lab06_conv_cost, lab06.conv_cost),
        (checks.lab06_channel_statistics, lab06.channel_statistics),
        (checks.lab07_basic_block, lab07.basic_block),
        (checks.lab07_block_parameters, lab07.block_parameters),
        (checks.lab08_cnn_parameters, lab08.counted),
        (checks.lab08_paired_differences, lab08.paired),
        (checks.lab08_confused_pairs, lab08.confused),
        (checks.lab09_one_cycle, lab09.one_cycle),
        (checks.lab09_calibration_error, lab09.calibration_error),
        (checks.lab10_dropout_ratio, lab10.ratio),
        (checks.lab11_verdict, lab11.verdict),
    ],
)
def test_graders_leave_the_global_random_generators_alone(check, answer):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    check(answer)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]
