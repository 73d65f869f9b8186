"""Graders of the exercises: `labkit.checks.labNN_...(your_function)`.

Each tries the student's function on random inputs and compares with torch. It prints one line
when all is well, else raises an AssertionError that names the likely mistake.
"""

from labkit.checks.lab00 import lab00_accuracy, lab00_descend
from labkit.checks.lab01 import lab01_cross_entropy, lab01_linear, lab01_relu, lab01_sgd
from labkit.checks.lab02 import lab02_alarm, lab02_gradient, lab02_loss_range
from labkit.checks.lab03 import (
    lab03_batch_norm,
    lab03_batch_norm_backward,
    lab03_dropout,
    lab03_dropout2d,
    lab03_running_stats,
)
from labkit.checks.lab04 import lab04_conv_from_linear, lab04_hidden_units, lab04_matrix_of_conv
from labkit.checks.lab05 import lab05_crop_box, lab05_stratified, lab05_wilson
from labkit.checks.lab06 import (
    lab06_channel_statistics,
    lab06_conv_cost,
    lab06_early_stopping,
)
from labkit.checks.lab07 import lab07_basic_block, lab07_block_parameters, lab07_output_size
from labkit.checks.lab08 import (
    lab08_cnn_parameters,
    lab08_confused_pairs,
    lab08_paired_differences,
)
from labkit.checks.lab09 import lab09_calibration_error, lab09_one_cycle, lab09_temperature
from labkit.checks.lab10 import (
    lab10_dropout_ratio,
    lab10_ignores_shift,
    lab10_mystery,
    lab10_patient,
)
from labkit.checks.lab11 import lab11_holm, lab11_seeds_needed, lab11_verdict
from labkit.checks.lab12 import lab12_amdahl, lab12_paired_factor, lab12_seconds_to

__all__ = [
    "lab00_accuracy",
    "lab00_descend",
    "lab01_linear",
    "lab01_relu",
    "lab01_cross_entropy",
    "lab01_sgd",
    "lab02_loss_range",
    "lab02_gradient",
    "lab02_alarm",
    "lab03_batch_norm",
    "lab03_running_stats",
    "lab03_batch_norm_backward",
    "lab03_dropout",
    "lab03_dropout2d",
    "lab04_hidden_units",
    "lab04_conv_from_linear",
    "lab04_matrix_of_conv",
    "lab05_crop_box",
    "lab05_wilson",
    "lab05_stratified",
    "lab06_conv_cost",
    "lab06_channel_statistics",
    "lab06_early_stopping",
    "lab07_basic_block",
    "lab07_block_parameters",
    "lab07_output_size",
    "lab08_cnn_parameters",
    "lab08_paired_differences",
    "lab08_confused_pairs",
    "lab09_one_cycle",
    "lab09_calibration_error",
    "lab09_temperature",
    "lab10_ignores_shift",
    "lab10_dropout_ratio",
    "lab10_patient",
    "lab10_mystery",
    "lab11_verdict",
    "lab11_seeds_needed",
    "lab11_holm",
    "lab12_seconds_to",
    "lab12_amdahl",
    "lab12_paired_factor",
]
