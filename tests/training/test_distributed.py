"""Several workers: who they are, their shares of batches, and that they train what one worker trains."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import workers_run
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmot_kws.keras import keras
from tfmot_kws.quantize import apply, replicas, scheme
from tfmot_kws.search import run as search_run
from tfmot_kws.training import distributed, recipes
from tfmot_kws.training.feature_augment import FeatureAugment, augment_batch, augment_labels

HELPER = pathlib.Path(workers_run.__file__)


def config_of(task: dict, **cluster) -> str:
    return json.dumps({"cluster": cluster, "task": task})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "TF_CONFIG='': JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"cluster": {"worker": ["a:1"]}}', "KeyError: 'task'"),
        (config_of({"type": "worker", "index": 2}, worker=["a:1", "b:1"]), "no worker has index 2"),
        (config_of({"type": "worker", "index": 0}, worker=[1]), "addresses must be text"),
        (config_of({"type": "ps", "index": 0}, worker=["a:1"], ps=["b:1"]), "parameter servers"),
        (config_of({"type": "evaluator", "index": 0}, worker=["a:1"]), "task 'evaluator'; only chief and worker"),
    ],
)
def test_a_cluster_that_is_none_is_refused(monkeypatch, text: str, message: str) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=re.escape(message)):
        distributed.connect("tf-config")


def test_a_chief_is_the_first_worker(monkeypatch) -> None:
    cluster = {"chief": ["c:1"], "worker": ["a:1", "b:1"]}
    for task, number in (({"type": "chief", "index": 0}, 0), ({"type": "worker", "index": "1"}, 2)):
        monkeypatch.setenv("TF_CONFIG", config_of(task, **cluster))
        found = distributed._of_variable()
        assert found.cluster_spec().as_dict() == {"worker": ["c:1", "a:1", "b:1"]}
        assert (found.task_type, found.task_id) == ("worker", number)


def test_slurm_names_the_workers(monkeypatch) -> None:
    variables = {
        "SLURM_JOB_ID": "7", "SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_NODELIST": "node[08-09]",
        "SLURM_STEP_TASKS_PER_NODE": "2,1",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = distributed._of_slurm()
    assert found.cluster_spec().as_dict() == {"worker": ["node08:20679", "node08:20680", "node09:20679"]}
    assert found.task_id == 2
    monkeypatch.delenv("SLURM_STEP_NODELIST")
    with pytest.raises(ValueError, match="slurm: SLURM_STEP_NODELIST not set; start it by srun"):
        distributed.connect("slurm")


def test_kinds_that_are_refused(monkeypatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(ValueError, match="parameter-server: is not offered. Its workers train asynchronously"):
        distributed.connect("parameter-server")
    with pytest.raises(ValueError, match="'mpi': must be local:N or one of auto, tf-config, slurm"):
        distributed.connect("mpi")
    with pytest.raises(ValueError, match="auto: found neither TF_CONFIG nor SLURM_PROCID"):
        distributed.connect()


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**40), st.sampled_from([0.0, 0.1]))
def test_shares_are_changed_as_in_the_whole_batch(shares: int, each: int, seed: int, warp: float) -> None:
    x = tf.random.stateless_uniform((shares * each, 9, 7), (1, 2))
    config, seed = FeatureAugment(warp=warp), tf.constant(seed, tf.int64)
    parts = [augment_batch(part, seed, config, (i, shares)) for i, part in enumerate(tf.split(x, shares))]
    np.testing.assert_array_equal(tf.concat(parts, 0), augment_batch(x, seed, config))
    labels = tf.cast(x[:, :, 0] * 5, tf.int32)
    assert augment_labels(labels, seed, config).shape == labels.shape


class _Seen(keras.Model):
    """Takes down what it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[np.ndarray] = []

    def train_step(self, data):
        self.found.append(data[0].numpy())
        return {"loss": tf.constant(0.0)}


def test_workers_hear_the_batches_of_one() -> None:
    config, features = recipes.TrainConfig(batch_size=32), workers_run.toy()
    keras.utils.set_random_seed(0)
    one = _Seen()
    one.compile(run_eagerly=True)
    one.fit(recipes.batches(features, config), epochs=3, verbose=0)
    for first in (0, 2):  # from the start, and taken up again
        keras.utils.set_random_seed(0)
        parts = [list(recipes.batches(features, config, epochs=(first, 3), share=(i, 2))) for i in range(2)]
        both = [np.concatenate([x for x, _ in pair]) for pair in zip(*parts)]
        np.testing.assert_array_equal(both, one.found[3 * first :])


def test_a_batch_that_cannot_be_shared_out() -> None:
    strategy = tf.distribute.get_strategy()  # one replica
    distributed.check_batch(strategy, 7)
    distributed.check_batch(None, 7)

    class Three:
        num_replicas_in_sync = 3

    with pytest.raises(ValueError, match="a batch of 32 examples cannot be shared out equally among 3 replicas"):
        recipes.train_float(workers_run.toy(), workers_run.SHAPE, recipes.TrainConfig(batch_size=32), strategy=Three())
    with pytest.raises(ValueError, match="TrainConfig.xla=True: goes without a strategy"):
        recipes.train_float(workers_run.toy(), workers_run.SHAPE, recipes.TrainConfig(xla=True), strategy=strategy)


def test_a_search_within_a_strategy_is_refused() -> None:
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope(), pytest.raises(ValueError, match="one process searches"):
        search_run.search(None, None, None)


def test_moments_of_one_replica_are_plain() -> None:
    x = tf.random.stateless_normal((6, 5, 3), (1, 2))
    for synchronized in (False, True):
        for found, expected in zip(replicas.moments(x, (0, 1), synchronized), tf.nn.moments(x, [0, 1])):
            np.testing.assert_array_equal(found, expected)


def test_what_is_synchronized_is_saved_as_it_was() -> None:
    model = workers_run.models.build(workers_run.SHAPE)
    quantized = apply.quantize_apply(model, scheme.kws_scheme())
    before = [quantized.get_config(), model.get_config()]
    with distributed.synchronized(quantized), distributed.synchronized(model):
        folded = [layer.batch_norm for layer in quantized.layers if getattr(layer, "batch_norm", None)]
        norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        assert folded and all(one["synchronized"] for one in folded)
        assert norms and all(one.synchronized for one in norms)
    assert [quantized.get_config(), model.get_config()] == before
    norm = keras.layers.BatchNormalization(synchronized=True)
    inputs = keras.Input((4, 3))
    kept = apply.quantize_apply(keras.Model(inputs, norm(keras.layers.Dense(2)(inputs))))
    assert [one.batch_norm["synchronized"] for one in kept.layers if getattr(one, "batch_norm", None)] == [True]


@pytest.mark.slow
def test_xla_trains() -> None:
    found = [
        recipes.train_float(workers_run.toy(), workers_run.SHAPE, recipes.TrainConfig(1, 32, xla=xla)).get_weights()
        for xla in (False, True)
    ]
    assert max(np.abs(a - b).max() for a, b in zip(*found)) < 1e-3


def run_workers(tmp_path: pathlib.Path, workers: int, options: dict, restarts: int = 0) -> tuple[list, list, str]:
    """What each worker found, its weights, and what was said."""
    command = [sys.executable, str(HELPER), str(tmp_path / "found"), json.dumps(options)]
    launcher = [sys.executable, "-m", "tfmot_kws.training.local_workers", str(workers), "--restarts", str(restarts)]
    done = subprocess.run([*launcher, "--", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads((tmp_path / f"found.{i}.json").read_text()) for i in range(workers)]
    files = [np.load(tmp_path / f"found.{i}.npz") for i in range(workers)]
    return found, [[file[name] for name in file.files] for file in files], done.stdout


def same(a: list, b: list) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))


def run_alone(folder: pathlib.Path, options: dict) -> tuple[dict, list]:
    """What one process finds, this one."""
    workers_run.run(str(folder / "alone"), **options)
    file = np.load(folder / "alone.0.npz")
    return json.loads((folder / "alone.0.json").read_text()), [file[name] for name in file.files]


PLAN = {"floats": 1, "stages": [2, 1]}


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[list, list, str]:
    """Two workers, of which the second gets its examples late."""
    folder = tmp_path_factory.mktemp("two")
    options = PLAN | {"checkpoints": str(folder / "kept"), "late": {"worker": 1, "seconds": 0.2}}
    return run_workers(folder, 2, options)


@pytest.mark.slow
def test_two_workers_train_what_one_trains(two, tmp_path) -> None:
    """Float and both stages: the same loss but for the order of sums, and the same bits on both workers."""
    (alone, weights), (found, kept, _) = run_alone(tmp_path, PLAN), two
    assert [one["chief"] for one in found] == [True, False]
    for name in ("float", "quantized"):
        assert found[0][name] == found[1][name] and len(found[0][name]) == len(alone[name])
        np.testing.assert_allclose(found[0][name], alone[name], rtol=0, atol=1e-5)
    assert same(*kept)
    assert max(np.abs(a - b).max() for a, b in zip(kept[0], weights)) < 1e-2


@pytest.mark.slow
def test_a_slow_worker_is_named(two) -> None:
    lines = [line for line in two[2].splitlines() if "is slow" in line]
    pattern = r"epoch \d+: worker 1 on \S+ is slow: [\d.]+ ms a step by itself, the median of the others is [\d.]+ ms"
    assert any(re.fullmatch(pattern, line) for line in lines), two[2]


@pytest.mark.slow
def test_a_killed_worker_costs_nothing(two, tmp_path) -> None:
    """Killed in the middle of the second epoch of stage 1; the end is that of a run that nobody disturbed."""
    once = tmp_path / "once"
    kill = {"worker": 1, "epoch": 1, "batch": 1, "once": str(once)}
    found, kept, said = run_workers(tmp_path, 2, PLAN | {"checkpoints": str(tmp_path / "kept"), "kill": kill}, 1)
    assert once.exists() and "all 2 start again (1 of 1 times)" in said
    assert same(kept[0], two[1][0]) and same(kept[1], two[1][0])
    assert found[0]["quantized"] == two[0][0]["quantized"][1:]  # the first epoch was kept


@pytest.mark.slow
def test_four_workers_learn_the_widths_of_one(tmp_path) -> None:
    """Learned widths, whose price each replica adds a part of."""
    options = {"learned": True, "stages": [1, 1]}
    (alone, weights), (found, kept, _) = run_alone(tmp_path, options), run_workers(tmp_path, 4, options)
    assert all(same(kept[0], one) for one in kept[1:])
    np.testing.assert_allclose(found[0]["quantized"], alone["quantized"], rtol=0, atol=1e-2)
    assert max(np.abs(a - b).max() for a, b in zip(kept[0], weights)) < 0.2
