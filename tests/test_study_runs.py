"""Studies: what is missing is run, once; whatever is killed, the next call finishes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn
from typer.testing import CliRunner

import labkit
from labkit import cli, study
from labkit.study import running


def make_study(tmp_path, configs=None, seeds=(0, 1), epochs=2, **options):
    """A study of tiny networks on 200 small images."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    images = rng.integers(0, 100, (200, 6, 6), dtype=np.uint8)
    images[labels == 1, :3] += 100
    path = tmp_path / "tiny.npz"
    if not path.exists():
        parts = {"x_train": images[:160], "y_train": labels[:160]}
        np.savez(path, **parts, x_test=images[160:], y_test=labels[160:])
    return study.Study(
        name="tiny",
        question="Does it run?",
        data=str(path),
        configs=configs or study.grid(model="MLP", in_features=36, num_classes=2, hidden=[4, 8]),
        recipe=labkit.Recipe(epochs=epochs, batch_size=32),
        seeds=seeds,
        folder=tmp_path / "runs",
        **options,
    )


def metrics(a_study):
    """What a repetition must give again: all but times."""
    frame = a_study.curves().drop(columns="seconds")
    return frame.sort_values([*a_study.configs[0], "seed", "epoch"]).reset_index(drop=True)


def test_a_study_runs_what_is_missing_and_nothing_twice(tmp_path, capsys):
    tiny = make_study(tmp_path)
    assert len(tiny.missing()) == 4
    frame = tiny.run()
    assert "0 of 4 runs recorded, 4 to do" in capsys.readouterr().err
    assert set(zip(frame["hidden"], frame["seed"], strict=True)) == {(4, 0), (4, 1), (8, 0), (8, 1)}
    assert (frame["epochs"] == 2).all()
    assert frame["test_accuracy"].between(0, 1).all()
    assert not (tiny.folder / ".checkpoints").exists()
    stamps = {path: path.stat().st_mtime_ns for path in tiny.folder.glob("*.json")}
    (tiny.folder / "hidden4_seed1.json").unlink()
    again = tiny.run(progress=False)
    assert len(again) == 4
    changed = [path.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert changed == ["hidden4_seed1.json"]


def test_the_tables_of_a_selection_hold_the_selection_alone(tmp_path):
    tiny = make_study(tmp_path)
    tiny.run(progress=False)
    chosen = tiny.select({"hidden": "8"}, seeds=[1])
    assert len(tiny.frame()) == 4
    assert chosen.frame()[["hidden", "seed"]].to_numpy().tolist() == [[8, 1]]
    curves = chosen.curves()[["hidden", "seed", "epoch"]]
    assert curves.to_numpy().tolist() == [[8, 1, 1], [8, 1, 2]]


def test_two_workers_give_the_numbers_of_one(tmp_path):
    one, two = make_study(tmp_path), replace(make_study(tmp_path), folder=tmp_path / "two")
    one.run(progress=False)
    two.run(workers=2, progress=False)
    assert metrics(one).equals(metrics(two))


def test_a_run_holds_what_a_reader_of_its_number_asks_for(tmp_path):
    tiny = make_study(tmp_path)
    tiny.run(progress=False)
    run = json.loads((tiny.folder / "hidden8_seed1.json").read_text())
    assert run["study"] == "tiny"
    assert run["seed"] == run["recipe"]["seed"] == 1
    assert len(run["data"]["fingerprint"]) == 16
    assert not run["data"]["stand_in"]
    assert run["versions"]["torch"]
    assert run["device"] == labkit.device().type
    assert run["parameters"] == 36 * 8 + 8 + 2 * 8 + 8 * 2 + 2
    assert np.array(run["confusion"]).sum() == 40


def test_a_configuration_overrides_the_recipe_and_names_what_json_cannot_hold(tmp_path):
    named = {"schedule": {"step": labkit.Step(3)}}
    configs = study.grid(model="MLP", lr=[0.1, 0.2], schedule="step", augment="crop+flip")
    recipe = make_study(tmp_path, configs, named=named).recipe_for(configs[1], seed=5)
    assert (recipe.lr, recipe.seed, recipe.schedule) == (0.2, 5, labkit.Step(3))
    assert [type(transform).__name__ for transform in recipe.augment] == ["Crop", "Flip"]


def test_a_run_that_diverges_is_recorded_as_that(tmp_path):
    sizes = {"model": "MLP", "in_features": 36, "num_classes": 2, "norm": None}
    configs = study.grid(**sizes, optimizer="sgd", lr=[1e30, 1e-2])
    tiny = make_study(tmp_path, configs)
    frame = tiny.run(progress=False).set_index("lr")
    assert frame.loc[1e30, "diverged"].str.contains("loss became").all()
    assert frame.loc[1e30, "test_accuracy"].isna().all()
    assert frame.loc[1e-2, "test_accuracy"].notna().all()
    with pytest.raises(ValueError, match="diverged"):
        tiny.paired({"lr": 1e30}, {"lr": 1e-2})


def test_the_stop_button_ends_a_study_and_records_nothing_half_trained(tmp_path, monkeypatch):
    tiny = make_study(tmp_path, epochs=3)
    undisturbed = replace(tiny, folder=tmp_path / "undisturbed")
    undisturbed.run(progress=False)
    fit = study.definition.train.fit

    def stopped(*arguments, on_epoch, **options):
        def press(history):
            on_epoch(history)
            if len(history.rows) == 2:
                raise KeyboardInterrupt

        return fit(*arguments, on_epoch=press, **options)

    monkeypatch.setattr(study.definition.train, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        tiny.run(progress=False)
    assert not list(tiny.folder.glob("*.json"))
    assert len(list((tiny.folder / ".checkpoints").glob("*.pt"))) == 1
    monkeypatch.undo()
    tiny.run(progress=False)
    assert metrics(tiny).equals(metrics(undisturbed))


def test_configurations_may_hold_lists(tmp_path):
    configs = study.grid(model="SimpleCNN", channels=[[4], [4, 8]])
    tiny = make_study(tmp_path, configs, model=lambda config: tiny_cnn(config["channels"]))
    tiny.run(progress=False)
    difference = tiny.paired({"channels": [4]}, {"channels": (4, 8)}, "train_loss")
    losses = {len(run["config"]["channels"]): [] for run in tiny.recorded()}
    for run in tiny.recorded():
        losses[len(run["config"]["channels"])].append(run["epochs"][-1]["train_loss"])
    assert difference.mean == pytest.approx(np.mean(losses[1]) - np.mean(losses[2]))
    nothing = study.tables.where(tiny.frame(), {"seed": 9, "channels": [4]})
    assert nothing.empty
    assert "channels" in nothing
    assert difference.n == 2


def tiny_cnn(channels):
    """As many convolutions as there are channels, for 6 x 6 grey pixels."""
    before = [1, *channels]
    blocks = [nn.Conv2d(a, b, 3, padding=1) for a, b in zip(before, channels, strict=False)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(36 * channels[-1], 2))


def test_the_loss_may_depend_on_the_configuration(tmp_path):
    sizes = {"model": "MLP", "in_features": 36, "num_classes": 2}
    configs = study.grid(**sizes, scale=[1.0, 0.0])

    def model(config):
        return study.by_name({key: value for key, value in config.items() if key != "scale"})

    def loss(config):
        return lambda logits, y: config["scale"] * logits.square().mean()

    frame = make_study(tmp_path, configs, model=model, loss=loss).run(progress=False)
    assert (frame.set_index("scale").loc[0.0, "train_loss"] == 0).all()
    assert (frame.set_index("scale").loc[1.0, "train_loss"] > 0).all()


def test_images_are_read_once_and_again_when_their_file_changes(tmp_path):
    tiny = make_study(tmp_path)
    first = tiny.data_for({})
    assert tiny.data_for({}) is first
    path = tmp_path / "tiny.npz"
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "x_train": arrays["x_train"][::-1] // 2})
    assert tiny.data_for({}).fingerprint != first.fingerprint
    with pytest.raises(ValueError, match="there is no file"):
        replace(tiny, data=str(tmp_path / "none.npz")).data_for({})


def test_the_size_of_images_may_be_a_list(tmp_path):
    shapes = make_study(tmp_path, options={"size": [1, 8, 8], "limit": 100})
    assert replace(shapes, data="shapes").data_for({}).shape == (1, 8, 8)


def test_a_stand_in_is_refused(tmp_path, monkeypatch):
    tiny = make_study(tmp_path)
    stripes = replace(tiny.data_for({}), stand_in=True)
    monkeypatch.setattr(study.definition, "_load", lambda *_, **__: stripes)
    with pytest.raises(ValueError, match="not on a stand-in"):
        tiny.run(progress=False)


def test_paired_takes_seed_by_seed(tmp_path):
    tiny = make_study(tmp_path, seeds=(0, 1, 2))
    frame = tiny.run(progress=False).set_index(["hidden", "seed"])["train_loss"]
    difference = tiny.paired({"hidden": 8}, {"hidden": 4}, "train_loss")
    assert difference.n == 3
    assert difference.mean == pytest.approx((frame[8] - frame[4]).mean())
    assert difference.low < difference.mean < difference.high
    with pytest.raises(ValueError, match="several configurations"):
        tiny.paired({"model": "MLP"}, {"hidden": 4})
    with pytest.raises(ValueError, match="no recorded run"):
        tiny.paired({"hidden": 5}, {"hidden": 4})
    with pytest.raises(ValueError, match="no column 'width'"):
        tiny.paired({"width": 5}, {"hidden": 4})
    with pytest.raises(ValueError, match="no column 'test_acc'; it has .*test_accuracy"):
        tiny.paired({"hidden": 8}, {"hidden": 4}, "test_acc")


def test_paired_does_not_mix_configurations_recorded_for_different_seeds(tmp_path):
    tiny = make_study(tmp_path, seeds=range(4))
    with pytest.raises(ValueError, match=r"tiny has no run recorded yet: study\.run\(\)"):
        tiny.paired({"hidden": 8}, {"hidden": 4})
    tiny.select({"hidden": "4"}, seeds=[0, 1]).run(progress=False)
    tiny.select({"hidden": "8"}, seeds=[2, 3]).run(progress=False)
    with pytest.raises(ValueError, match="several configurations"):
        tiny.paired({"model": "MLP"}, {"model": "MLP"})


def untrained(*arguments, **options):
    pytest.fail("nothing may be trained")


def test_runs_of_another_recipe_do_not_count_as_the_studys(tmp_path):
    tiny = make_study(tmp_path)
    tiny.run(progress=False)
    changed = replace(tiny, recipe=replace(tiny.recipe, lr=0.5), train=untrained)
    for read in (changed.missing, changed.frame, changed.run):
        with pytest.raises(ValueError, match="tiny has runs in .* with another recipe: give"):
            read()
    assert len(replace(changed, folder=tmp_path / "other").missing()) == 4


def test_a_study_does_not_go_on_with_another_data_set(tmp_path):
    tiny = make_study(tmp_path)
    tiny.run(progress=False)
    other = (tmp_path / "tiny.npz").rename(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="tiny has runs in .* with another data set: give"):
        replace(tiny, data=str(other), train=untrained).run()


def test_a_study_does_not_go_on_with_other_images_in_the_same_file(tmp_path):
    tiny = make_study(tmp_path)
    tiny.select(seeds=[0]).run(progress=False)
    path = tmp_path / "tiny.npz"
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "y_train": 1 - arrays["y_train"]})
    with pytest.raises(ValueError, match=r"with other images than tiny\.npz holds now: give"):
        replace(tiny, train=untrained).run()
    path.unlink()  # as where another machine trains
    assert len(tiny.frame()) == 2


def test_a_study_does_not_write_over_the_runs_of_an_earlier_self(tmp_path):
    sizes = {"model": "MLP", "in_features": 36, "num_classes": 2}
    first = make_study(tmp_path, study.grid(**sizes, hidden=4))
    first.run(progress=False)
    second = make_study(tmp_path, study.grid(**sizes, hidden=8), train=untrained)
    with pytest.raises(ValueError, match=r"with another configuration, seed0\.json: give"):
        second.run()
    assert not first.missing()


def test_a_copy_of_a_record_is_no_other_seed(tmp_path):
    tiny = make_study(tmp_path)
    tiny.run(progress=False)
    copy = tiny.folder / "hidden4_seed0 (1).json"
    copy.write_text((tiny.folder / "hidden4_seed0.json").read_text())
    with pytest.raises(ValueError, match=r"same run as hidden4_seed0 \(1\)\.json: delete one"):
        tiny.paired({"hidden": 8}, {"hidden": 4})


def test_a_study_does_not_mix_runs_on_different_parts_of_a_data_set(tmp_path):
    small = make_study(tmp_path, options={"limit": 100, "seed": 7})
    small.run(progress=False)
    assert small.recorded()[0]["data"]["options"] == {"limit": 100, "seed": 7}
    more = replace(small, options={"limit": 150, "seed": 7}, seeds=(0, 1, 2), train=untrained)
    for read in (more.missing, more.frame, more.run):
        with pytest.raises(ValueError, match="tiny has runs in .* with other options, .*100.*give"):
            read()


def test_a_configurations_own_limit_counts_and_a_record_without_options_is_the_studys(tmp_path):
    sizes = {"model": "MLP", "in_features": 36, "num_classes": 2}
    tiny = make_study(tmp_path, study.grid(**sizes, limit=[50, 100]), options={"limit": 10})
    tiny.run(progress=False)
    assert [run["data"]["options"]["limit"] for run in tiny.recorded()] == [100, 100, 50, 50]
    assert not replace(tiny, options={"limit": 20}).missing()
    for path in tiny.folder.glob("*.json"):
        run = json.loads(path.read_text())
        del run["data"]["options"]
        path.write_text(json.dumps(run))
    assert not replace(tiny, options={"seed": 3}).missing()


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 0.2, "higher"),
        (-0.2, -0.1, "lower"),
        (-0.1, 0.1, "undecided"),
        (0.0, 0.1, "undecided"),
        (0.0, 0.0, "undecided"),
    ],
)
def test_the_verdict_is_that_of_the_interval(low, high, verdict):
    assert study.Difference((low + high) / 2, low, high, 5).verdict == verdict


def test_select_narrows_and_refuses_what_is_not_there(tmp_path):
    tiny = make_study(tmp_path)
    chosen = tiny.select({"hidden": "8"}, seeds=[7])
    assert chosen.runs() == [(tiny.configs[1], 7)]
    assert chosen.path(*chosen.runs()[0]) == tiny.path(tiny.configs[1], 7)
    with pytest.raises(ValueError, match="tiny has no setting 'colour'; it has model, in_features"):
        tiny.select({"colour": "red"})
    with pytest.raises(ValueError, match=r"no configuration with hidden=9; there is hidden: 4, 8"):
        tiny.select({"hidden": "9"})


@pytest.mark.parametrize("workers", [0, -1, True, "2", 1.5])
def test_a_number_of_workers_that_cannot_be_meant_is_refused(tmp_path, workers):
    with pytest.raises(ValueError, match="whole number of processes"):
        make_study(tmp_path).run(workers=workers)


def test_a_study_without_runs_or_with_one_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no run"):
        make_study(tmp_path, seeds=())
    with pytest.raises(ValueError, match="two runs of one name"):
        make_study(tmp_path, configs=[{"model": "MLP"}] * 2)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"seeds": np.arange(2)}, r"np\.int64\(0\)"),
        ({"configs": study.grid(lr=np.logspace(-3, -1, 3))}, r"array\(\[0\.001"),
        ({"configs": [{"schedule": labkit.Step(3)}]}, "Step"),
        ({"options": {"limit": np.int64(9)}}, r"np\.int64\(9\)"),
    ],
)
def test_a_value_that_a_record_cannot_hold_is_refused_before_training(tmp_path, options, value):
    with pytest.raises(ValueError, match=f"'tiny' has {value}.*: give plain numbers, words and"):
        make_study(tmp_path, **options)


def test_a_grid_takes_a_range_and_a_label_a_list(tmp_path):
    assert study.grid(hidden=range(4, 6)) == ({"hidden": 4}, {"hidden": 5})
    tiny = make_study(tmp_path, study.grid(channels=[(8, 16), (4,)]))
    assert tiny.label(tiny.configs[0], 1) == tiny.label({"channels": [8, 16]}, 1)
    assert tiny.path(tiny.configs[1], 0).name == "channels4_seed0.json"


def test_an_unknown_model_is_answered_with_the_list():
    with pytest.raises(ValueError, match="'Transformer'.*ResNet18") as error:
        study.by_name({"model": "Transformer"})
    assert "Tensor" not in str(error.value)
    with pytest.raises(ValueError, match='no None for the key "model"'):
        study.by_name({"lr": 0.1})
    with pytest.raises(
        ValueError, match=r"'learning_rate' is no option of MLP, which has in_.*, p, nor"
    ):
        study.by_name({"model": "MLP", "learning_rate": 0.1})


def test_a_seed_in_a_configuration_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"seed in its configs: give Study\(seeds=\.\.\.\)"):
        make_study(tmp_path, study.grid(model="MLP", seed=[1, 2]))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"seeds": 3}, r"seeds=3: give several, range\(3\)"), ({"configs": {"a": 1}}, "list of them")],
)
def test_one_number_of_seeds_or_one_configuration_is_answered_with_the_way(
    tmp_path, options, words
):
    with pytest.raises(ValueError, match=words):
        make_study(tmp_path, **options)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"config": {}}'])
def test_a_file_that_is_no_run_is_named(tmp_path, text):
    tiny = make_study(tmp_path)
    tiny.folder.mkdir()
    (tiny.folder / "odd.json").write_text(text)
    with pytest.raises(ValueError, match=r"odd\.json is no recorded run"):
        tiny.frame()


def test_every_study_of_the_catalogue_can_build_its_models_and_recipes():
    for name in study.names():
        a_study = study.get(name)
        for config in a_study.configs:
            a_study.recipe_for(config, seed=1)
            if a_study.train is not study.variants.in_numpy:
                assert sum(p.numel() for p in a_study.model(config).parameters()) > 0
    with pytest.raises(ValueError, match="no study 'mnist'; there are .*fashion_ablation"):
        study.get("mnist")


def test_fashion_ablation_has_the_reported_numbers_of_parameters():
    reported = study.reported("fashion_ablation")
    ours = []
    for config in study.get("fashion_ablation").configs:
        flags = [int(config.get(key, 0)) for key in ("batchnorm", "dropout", "residual")]
        parameters = sum(p.numel() for p in study.by_name(config).parameters())
        ours.append((config["model"].lower(), *flags, config.get("pooling", "none"), parameters))
    reported["model"] = reported["model"].str.replace("_", "")
    columns = ["model", "use_bn", "use_dropout", "use_residual", "pooling", "params"]
    assert sorted(ours) == sorted(reported[columns].itertuples(index=False, name=None))


# ------------------------------------------------------------------------- from the shell


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """`labkit study ...`, with a study of tiny networks in the catalogue."""
    monkeypatch.setattr(study.catalogue, "_named", lambda: {"tiny": make_study(tmp_path)})
    return lambda *arguments: CliRunner().invoke(cli.app, ["study", *arguments])


def test_a_study_is_listed_run_and_shown_from_the_shell(shell):
    assert "0 of 4" in shell("list").output
    assert "no run recorded yet" in shell("show", "tiny").output
    assert shell("run", "tiny", "--seeds", "0", "--only", "hidden=4").exit_code == 0
    shown = shell("show", "tiny").output
    assert "hidden4" in shown
    assert "1 seed\n" in shown
    assert "not recorded" in shown
    assert "1 of 4 runs recorded" in shown
    chosen = "tiny", "--seeds", "1", "--only", "hidden=4"
    assert f"none of these runs is recorded yet; labkit study run {' '.join(chosen)}" in (
        shell("show", *chosen).output
    )
    assert shell("run", "tiny", "--device", "cpu").exit_code == 0
    assert "2 seeds" in shell("show", "tiny").output
    assert "4 of 4" in shell("list").output


def test_a_damaged_record_is_told_in_one_sentence(shell, tmp_path):
    shell("run", "tiny", "--seeds", "0", "--only", "hidden=4")
    (tmp_path / "runs" / "hidden4_seed0.json").write_text("{")
    for command in (("list",), ("show", "tiny"), ("run", "tiny")):
        result = shell(*command)
        assert "hidden4_seed0.json is no recorded run: delete it" in result.output
        assert isinstance(result.exception, SystemExit | None)
    assert shell("list").exit_code == 0


def test_without_scipy_the_shell_says_what_an_interval_needs(shell, monkeypatch):
    shell("run", "tiny")
    monkeypatch.setitem(sys.modules, "scipy", None)
    result = shell("show", "tiny")
    assert "interval needs scipy: python -m pip install scipy" in result.output
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "huge"), "no study 'huge'"),
        (("run", "tiny", "--only", "hidden"), "KEY=VALUE"),
        (("run", "tiny", "--only", "hidden=7"), "no configuration"),
        (("run", "tiny", "--seeds", "a"), "numbers with commas"),
        (("run", "tiny", "--workers", "0"), "whole number of processes"),
    ],
)
def test_what_the_shell_cannot_mean_is_told(shell, arguments, words):
    result = shell(*arguments)
    assert result.exit_code != 0
    assert words in " ".join(result.output.replace("│", " ").split())


# ----------------------------------------------------------------------- killed on the way

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_study_runs import make_study, unhurried
epochs = int(sys.argv[2])
make_study(Path(sys.argv[1]), seeds=range(12), epochs=epochs, train=unhurried).run(workers=2)
"""


def unhurried(*arguments, **options):
    """Runs so long that a loaded machine, too, kills the study in the middle of them."""
    time.sleep(0.3)
    return study.train_one(*arguments, **options)


@pytest.fixture
def start(tmp_path):
    """Starts the study as a program of its own; orphans of a killed one end with the test."""
    make_study(tmp_path)  # the images are there before anybody asks for them
    code = SCRIPT.format(tests=os.path.dirname(__file__))
    command = [sys.executable, "-c", code, str(tmp_path)]
    started = []

    def once(epochs=3):
        quiet = {"stderr": subprocess.DEVNULL, "start_new_session": True}
        started.append(subprocess.Popen([*command, str(epochs)], **quiet))
        return started[-1]

    yield once
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(a_study, runs, process):
    """Until so many runs are recorded; False if the process has ended before."""
    while process.poll() is None:
        if len(list(a_study.folder.glob("*.json"))) >= runs:
            return True
        time.sleep(0.002)
    return False


def check_whole(a_study):
    frame = a_study.run(progress=False)
    assert len(frame) == len(list(a_study.folder.glob("*.json"))) == 24
    assert not frame.duplicated(["hidden", "seed"]).any()
    assert (frame["epochs"] == 3).all()  # a killed parent's orphans may still write checkpoints


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    a_study = make_study(tmp_path_factory.mktemp("whole"), seeds=range(12), epochs=3)
    a_study.run(progress=False)
    return metrics(a_study)


def test_a_study_killed_at_random_moments_ends_with_exactly_its_runs(tmp_path, start, undisturbed):
    tiny = make_study(tmp_path, seeds=range(12), epochs=3)
    for runs in sorted(random.Random(0).sample(range(1, 15), 2)):
        process = start()
        assert wait_for(tiny, runs, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    check_whole(tiny)
    assert metrics(tiny).equals(undisturbed)


@pytest.mark.skipif(sys.platform == "win32", reason="there a process keeps its parent's number")
def test_the_workers_of_a_killed_study_end_with_their_epoch(tmp_path, start):
    process = start(epochs=1_000_000)
    checkpoints = tmp_path / "runs" / ".checkpoints"
    within(60, lambda: len(list(checkpoints.glob("*.pt"))) == 2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    def nobody_left():
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    within(60, nobody_left)


def within(seconds, happens):
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_killed_worker_is_told_in_one_sentence_and_the_next_call_finishes(tmp_path, undisturbed):
    tiny = make_study(tmp_path, seeds=range(12), epochs=3)
    with pytest.raises(RuntimeError, match="A worker of the study 'tiny' was killed, perhaps"):
        replace(tiny, train=killed_after_three).run(workers=2, progress=False)
    assert 3 <= len(list(tiny.folder.glob("*.json"))) < 24
    check_whole(tiny)
    assert metrics(tiny).equals(undisturbed)


def test_a_checkpoint_stays_until_its_run_is_recorded(tmp_path, monkeypatch):
    tiny = make_study(tmp_path)
    checkpoint = tiny.folder / ".checkpoints" / "hidden4_seed0.pt"
    save = running.save

    def full_disk(record, path):
        if path.parent == tiny.folder:
            assert checkpoint.exists()
            raise OSError("No space left on device")
        save(record, path)

    with monkeypatch.context() as patch:
        patch.setattr(running, "save", full_disk)
        with pytest.raises(OSError, match="No space"):
            tiny.run(progress=False)
    assert checkpoint.exists()
    tiny.run(progress=False)
    assert not checkpoint.parent.exists()


def test_a_finished_selection_keeps_the_checkpoints_of_the_other_runs(tmp_path):
    tiny = make_study(tmp_path)
    checkpoints = tiny.folder / ".checkpoints"
    checkpoints.mkdir(parents=True)
    for name in ("hidden4_seed1.pt", "hidden8_seed1.pt.77.partial"):
        (checkpoints / name).touch()
    tiny.select({"hidden": "8"}).run(progress=False)
    assert [path.name for path in checkpoints.iterdir()] == ["hidden4_seed1.pt"]


def test_a_record_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda number: calls.append("fsync"))
    monkeypatch.setattr(os, "replace", lambda *paths: calls.append("replace"))
    running.save({"seed": 1}, tmp_path / "run.json")
    assert calls == ["fsync", "replace"]
    (partial,) = tmp_path.iterdir()
    assert json.loads(partial.read_text()) == {"seed": 1}


def killed_after_three(a_study, *arguments, **options):
    """Trains until three runs are recorded; then the worker that comes next is killed."""
    if len(list(a_study.folder.glob("*.json"))) >= 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return study.train_one(a_study, *arguments, **options)


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_that_loses_a_worker_still_delivers_every_run(tmp_path, undisturbed):
    distributed = pytest.importorskip("distributed")
    tiny = make_study(tmp_path, seeds=range(12), epochs=3)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        victims = [worker.pid for worker in cluster.workers.values()]

        def lose_one(record, path, left=victims):
            if len(left) == 2 and len(list(tiny.folder.glob("*.json"))) >= 3:
                os.kill(left.pop(), signal.SIGKILL)
            running_save(record, path)

        running_save = running.save
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running, "save", lose_one)
            tiny.run(dask=cluster.scheduler_address, progress=False)
    assert len(victims) == 1
    check_whole(tiny)
    assert metrics(tiny).equals(undisturbed)


@pytest.fixture(scope="module")
def one_worker():
    """The address of a cluster that gives up a run whose worker died once."""
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(processes=True, **options) as cluster,
    ):
        yield cluster.scheduler_address


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_of_one_worker_trains_there_and_not_here(tmp_path, one_worker):
    def where(*arguments, **options):
        return {**study.train_one(*arguments, **options), "device": f"process {os.getpid()}"}

    frame = make_study(tmp_path, train=where).run(dask=one_worker, progress=False)
    assert len(frame) == 4
    assert f"process {os.getpid()}" not in set(frame["device"])


@pytest.mark.filterwarnings("ignore")
def test_dask_workers_that_keep_dying_end_the_call_in_one_sentence(tmp_path, one_worker):
    def dies(*arguments, **options):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RuntimeError, match="A worker of the study 'tiny' was killed, perhaps"):
        make_study(tmp_path, train=dies).run(dask=one_worker, progress=False)


@pytest.mark.filterwarnings("ignore")
def test_dask_workers_of_several_threads_are_refused(tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": None}
    with (
        distributed.LocalCluster(processes=False, **options) as cluster,
        pytest.raises(ValueError, match="several threads.*--nthreads 1"),
    ):
        make_study(tmp_path).run(dask=cluster.scheduler_address, progress=False)


def test_a_note_that_cannot_be_written_or_deleted_does_not_end_the_study(tmp_path, monkeypatch):
    tiny, refused = make_study(tmp_path), []

    def guarded(function):
        def call(path, *others, **options):
            if tiny.folder not in Path(path).parents and Path(path).name.startswith("hidden"):
                refused.append(function.__name__)
                raise PermissionError("a file that is being read, on Windows")
            return function(path, *others, **options)

        return call

    monkeypatch.setattr(os, "replace", guarded(os.replace))
    monkeypatch.setattr(Path, "unlink", guarded(Path.unlink))
    assert len(tiny.run(progress=False)) == 4
    assert set(refused) == {"replace", "unlink"}


def test_a_worker_on_another_machine_makes_no_folder_for_checkpoints(tmp_path):
    tiny = make_study(tmp_path)
    config, seed = tiny.runs()[0]
    record = running._work(
        tiny, config, seed, "cpu", tiny.folder / ".checkpoints", tmp_path / "notes"
    )
    assert len(record["epochs"]) == 2
    assert not tiny.folder.exists()


def test_without_dask_the_way_to_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"python -m pip install distributed"):
        make_study(tmp_path).run(dask="tcp://127.0.0.1:1")


def test_show_finds_every_run_whatever_its_configuration_holds():
    """speed_run's configurations have epochs of their own, which the records overwrite."""
    output = CliRunner().invoke(cli.app, ["study", "show", "speed_run"]).output
    assert "not recorded" not in output
    assert output.rstrip().endswith("80 of 80 runs recorded")


def test_only_takes_one_value_a_key(shell):
    result = shell("show", "tiny", "--only", "hidden=4", "--only", "hidden=8")
    assert result.exit_code == 2
    assert "call once for each" in " ".join(result.output.replace("│", " ").split())


def test_only_names_the_keys_to_who_gives_a_label(shell):
    result = shell("show", "tiny", "--only", "MLP_hidden4")
    assert result.exit_code == 2
    said = " ".join(result.output.replace("│", " ").split())
    assert "KEY=VALUE, KEY one of model, in_features" in said
    assert "got 'MLP_hidden4'" in said
