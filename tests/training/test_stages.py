"""The two stages: in fit, in a loop of one's own, without retracing; what each of them learns."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from quantization_helpers import features, quick, shake

import tfmot_kws
from tfmot_kws.keras import keras
from tfmot_kws.quantize import apply, scheme
from tfmot_kws.training import stages as train

pytestmark = pytest.mark.slow

L = keras.layers
CLASSES = 4


def task(clips: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Which of four patterns hides in the noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, clips)
    patterns = np.random.default_rng(3).normal(0, 1, (CLASSES, 8, 4))
    return (patterns[labels] + rng.normal(0, 1.2, (clips, 8, 4))).astype(np.float32), labels


def spotter() -> keras.Model:
    keras.utils.set_random_seed(1)
    layers = [L.Conv1D(12, 3, name="conv"), L.BatchNormalization(name="norm"), L.ReLU(), L.Flatten()]
    layers += [L.Dense(16, activation="relu", name="hidden"), L.Dense(CLASSES, name="logits")]
    return keras.Sequential([keras.Input((8, 4), name="x"), *layers])


def quantized_spotter(bits: int = 4) -> keras.Model:
    return apply.quantize_apply(spotter(), scheme.kws_scheme(bits))


def cross_entropy(model: keras.Model, x: np.ndarray, labels: np.ndarray, training: bool = False) -> tf.Tensor:
    logits = model(x, training=training)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


class Watch(keras.callbacks.Callback):
    """Stage, kernel and range of every epoch."""

    def __init__(self, traces):
        super().__init__()
        self.traced = traces
        self.stages, self.codes, self.offsets, self.losses, self.traces = [], [], [], [], []

    def on_epoch_end(self, epoch, logs=None):
        hidden = self.model.get_layer("hidden")
        self.stages.append(train.get_stage(self.model))
        self.codes.append(hidden._codes().copy())
        self.offsets.append(float(hidden.output_grid._offset.numpy()))
        self.losses.append(logs["loss"])
        self.traces.append(len(self.traced))


@pytest.mark.tf221
def test_schedule_in_plain_fit() -> None:
    """One trace serves both stages; stage 2 goes on learning."""
    model = quantized_spotter()
    traces = []

    def loss(labels, logits):
        traces.append(1)
        return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    model.compile(keras.optimizers.legacy.Adam(3e-3), loss)
    x, labels = task(320)
    watch = Watch(traces)
    schedule = tfmot_kws.TwoStageSchedule(stage2_epoch=2)
    quick(model).fit(x, labels, batch_size=64, epochs=5, verbose=0, callbacks=[schedule, watch])
    assert watch.stages == [1, 1, 2, 2, 2]
    function = model.train_function
    model.fit(x, labels, batch_size=64, initial_epoch=1, epochs=3, verbose=0, callbacks=[schedule, watch])
    assert watch.stages[5:] == [1, 2]
    assert model.train_function is function and len(set(watch.traces)) == 1
    assert watch.offsets[:2] == [0, 0] and 0 not in watch.offsets[2:5] and len(set(watch.offsets[2:5])) == 3
    assert all((a != b).any() for a, b in zip(watch.codes[1:4], watch.codes[2:5]))
    assert watch.losses[4] < watch.losses[0]


@pytest.mark.tf221
def test_stages_in_a_loop_of_ones_own() -> None:
    model = quantized_spotter()
    optimizer = keras.optimizers.legacy.SGD(0.05)
    traces = []

    @tf.function(autograph=False)
    def step(x, labels):
        traces.append(1)
        with tf.GradientTape() as tape:
            loss = cross_entropy(model, x, labels, training=True)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        return loss

    x, labels = task(64)
    losses, first = {}, 0
    for stage in (1, 2, 1, 2):
        tfmot_kws.set_stage(model, stage)
        assert train.get_stage(model) == stage
        losses[stage] = [float(step(x, labels)) for _ in range(5)]
        first = first or len(traces)
    assert len(traces) == first and losses[2][-1] < losses[2][0]


def test_stages_differ() -> None:
    """Stage 1 gives reals, stage 2 whole steps of one scale."""
    model, x = quantized_spotter(), features((8, 4))
    tfmot_kws.calibrate(model, x)
    scale = model.get_layer("logits").output_grid.quantization()[0]
    steps = model(x).numpy() / scale
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    tfmot_kws.set_stage(model, 1)
    steps = model(x).numpy() / scale
    assert np.abs(steps - np.round(steps)).max() > 0.3


def test_ranges_are_tracked_in_stage_1_and_kept_in_stage_2() -> None:
    model, x = quantized_spotter(), features((8, 4))
    grid = model.get_layer("hidden").output_grid
    model(x, training=True)
    largest = grid._largest.numpy()
    assert largest > 0
    model(3 * x)  # no training, no tracking
    assert grid._largest.numpy() == largest
    train.set_stage(model, 2)
    model(3 * x, training=True)
    assert grid._largest.numpy() == largest
    with pytest.raises(ValueError, match="is in stage 2, which needs its ranges"):
        tfmot_kws.reset_ranges(model)
    train.set_stage(model, 1)
    model(3 * x, training=True)
    assert grid._largest.numpy() > largest
    tfmot_kws.reset_ranges(model)
    model(x, training=True)
    np.testing.assert_allclose(grid._largest.numpy(), largest, rtol=1e-5)


@pytest.mark.tf221
def test_batch_norm_statistics_move_while_training() -> None:
    """Both stages fold the batch's own statistics and move the moving ones, as a float BatchNormalization does."""
    float_model = shake(spotter())
    model, x = apply.quantize_apply(float_model, scheme.kws_scheme(8)), features((8, 4), clips=64)
    conv, norm = model.get_layer("conv"), float_model.get_layer("norm")
    float_model(x, training=True)
    for stage in (1, 2):
        before = conv.moving_mean.numpy()
        train.set_stage(model, stage)
        model(x)
        np.testing.assert_array_equal(conv.moving_mean, before)
        model(x, training=True)
        assert (conv.moving_mean.numpy() != before).all()
        if stage == 1:
            np.testing.assert_allclose(conv.moving_mean, norm.moving_mean, atol=0.01)
            np.testing.assert_allclose(conv.moving_variance, norm.moving_variance, rtol=0.05)


@pytest.mark.tf221
def test_calibrate() -> None:
    """Ranges are seen, nothing else changes; arrays, batches and (features, labels) serve alike."""
    x = features((8, 4), clips=600)
    batches = [x[i : i + 256] for i in range(0, 600, 256)]
    found = []
    pairs, dataset = [(b, np.zeros(len(b))) for b in batches], tf.data.Dataset.from_tensor_slices(x).batch(256)
    for data in (x, batches, pairs, dataset, {"x": x}):
        keras.utils.set_random_seed(0)
        model = apply.quantize_apply(shake(spotter()))
        kept = {v.name: v.numpy() for v in model.variables}
        tfmot_kws.calibrate(model, data)
        assert train.get_stage(model) == 2
        changed = {v.name.split("/")[-1] for v in model.variables if (v.numpy() != kept[v.name]).any()}
        assert changed == {"stage:0", "output_min:0", "output_max:0"}
        assert all(layer.output_grid.tracked for layer in model.layers if hasattr(layer, "output_grid"))
        found.append(model(x[:9]).numpy())
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def ranges_of(model: keras.Model) -> np.ndarray:
    grids = [layer.output_grid for layer in model.layers if hasattr(layer, "output_grid")]
    return np.array([(g._least.numpy(), g._largest.numpy()) for g in grids])


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_ranges_do_not_depend_on_order_and_batches(method: str) -> None:
    """Clip by clip, sorted by loudness, shuffled, or at once; and they are those of inference, not of a batch."""
    x = features((8, 4), clips=90) * np.linspace(0.02, 1, 90, dtype=np.float32)[:, None, None]
    model = apply.quantize_apply(shake(spotter()))
    shuffled = x[np.random.default_rng(0).permutation(90)]
    found = []
    for data in (
        x,
        x[::-1],
        shuffled,
        [x[i : i + 1] for i in range(90)],
        lambda: ([shuffled[i : i + 7]] for i in range(0, 90, 7)),
    ):
        tfmot_kws.calibrate(model, data, method)
        found.append(ranges_of(model))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-5)
    if method == "minmax":
        train.set_stage(model, 1)
        np.testing.assert_allclose(found[0][-1, 1], model(x, training=False).numpy().max(), rtol=1e-5)


def test_one_loud_clip_costs_the_others_nothing() -> None:
    x = features((8, 4), clips=60)
    loud = np.concatenate([x, 50 * x[:1]])
    model = apply.quantize_apply(shake(spotter()))
    tfmot_kws.calibrate(model, x)
    quiet = ranges_of(model)
    for method, low, high in (("minmax", 10, 60), ("percentile", 0.5, 1.01), ("mse", 0.3, 1.01)):
        tfmot_kws.calibrate(model, loud, method)
        ratio = np.ptp(ranges_of(model), axis=1) / np.ptp(quiet, axis=1)
        assert (low < ratio).all() and (ratio < high).all(), (method, ratio)


def test_a_layer_called_twice_counts_both_calls() -> None:
    x = keras.Input((4,), name="x")
    shared = L.Dense(4, kernel_initializer=keras.initializers.Identity(3.0), name="shared")
    model = apply.quantize_apply(keras.Model(x, shared(shared(x))))
    tfmot_kws.calibrate(model, np.eye(4, dtype=np.float32))
    np.testing.assert_allclose(model.get_layer("shared").output_grid._largest.numpy(), 9, rtol=0.02)


def test_calibrate_takes_data_as_fit_does() -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    two = apply.quantize_apply(keras.Model([a, b], L.Dense(2)(L.Concatenate(name="joined")([a, b]))))
    one, x, y, z = quantized_spotter(), features((8, 4)), features((4,)), features((3,))
    labels, ranges_of = np.zeros(len(x)), lambda layer: layer.output_grid.quantization()
    by_name = ({"a": y, "b": z}, ({"a": y, "b": z}, labels))
    for model, name, forms in (
        (one, "conv", (x, [x], (x, labels), (x, labels, labels), {"x": x}, ({"x": x}, labels), (x, x[:1]))),
        (two, "joined", ([y, z], (y, z), ([y, z], labels), [[y, z]], [(y, z)], *by_name)),
    ):
        found = set()
        for data in forms:
            tfmot_kws.calibrate(model, data)
            found.add(ranges_of(model.get_layer(name)))
        assert len(found) == 1
    with pytest.raises(ValueError, match=r"batch 1 of the data has shape \[\d+, 4\], \[2, 3\]"):
        tfmot_kws.calibrate(two, [y, z[:2]])


def test_what_stage_2_learned_on_old_ranges_is_dropped() -> None:
    model = quantized_spotter()
    model.get_layer("conv").output_grid._offset.assign(0.5)
    tfmot_kws.reset_ranges(model)
    assert model.get_layer("conv").output_grid._offset.numpy() == 0
    assert tfmot_kws.TwoStageSchedule(np.int64(3)).stage2_epoch == 3


def test_calibrate_says_what_is_wrong() -> None:
    model, x = quantized_spotter(), features((8, 4))
    broken = x.copy()
    broken[3, 0, 0] = np.nan
    for arguments, message in (
        ((iter([]),), "data holds no clips"),
        ((x[0],), r"the model reads 'x' \[clips, 8, 4\], but batch 1 of the data has shape \[8, 4\]"),
        (([x[0]],), r"batch 1 of the data has shape \[8, 4\]; a single clip needs an axis for clips"),
        ((None,), r"an iterable of batches of inputs \['x'\], found NoneType"),
        (({"y": x},), r"an iterable of batches of inputs \['x'\], found \['y'\]"),
        ((["yes"],), "batch 1 is no such array: could not convert string to float"),
        ((tf.data.Dataset.from_tensors(x).repeat(),), "the dataset has no end"),
        ((broken,), "layer 'quantize_x' gives NaN or infinity for some clips"),
        ((x, "max"), "method must be one of minmax, percentile, mse, found 'max'"),
        ((x, "mse", 0), "percentile must be above 0 and at most 100, found 0"),
    ):
        with pytest.raises(ValueError, match=message):
            tfmot_kws.calibrate(model, *arguments)
        assert train.get_stage(model) == 1 and not model.get_layer("conv").output_grid.tracked


def test_stage_2_needs_ranges() -> None:
    model = quantized_spotter()
    schedule = tfmot_kws.TwoStageSchedule(2)
    schedule.set_model(model)
    message = "stage 2 needs the ranges of activations, but layers 'quantize_x', 'conv', .* saw no data in stage 1"
    for enter in (lambda: tfmot_kws.set_stage(model, 2), lambda: schedule.on_epoch_begin(3)):
        with pytest.raises(ValueError, match=message):
            enter()
    model.get_layer("conv").output_grid._largest.assign(np.nan)
    for layer in model.layers:
        if hasattr(layer, "output_grid") and layer.name != "conv":
            layer.output_grid.set_range(0, 1)
    with pytest.raises(ValueError, match="layer 'conv' gave NaN or infinity in stage 1"):
        tfmot_kws.set_stage(model, 2)


def test_a_run_that_ends_in_stage_1_says_so() -> None:
    model = quantized_spotter()
    schedule = tfmot_kws.TwoStageSchedule(2)
    schedule.set_model(model)
    schedule.on_epoch_begin(1)
    with pytest.warns(UserWarning, match="ended after epoch 2, in stage 1; stage 2 begins with epoch 3: .*calibrate"):
        schedule.on_train_end()
    tfmot_kws.calibrate(model, features((8, 4)))
    schedule.on_epoch_begin(2)
    train.set_stage(model, 1)  # as EarlyStopping does when it goes back
    with pytest.warns(UserWarning, match=r"went back to weights of stage 1 .*start_from_epoch=2.*StageCheckpoint"):
        schedule.on_train_end()


def test_checkpoints_of_stage_2_alone(tmp_path) -> None:
    model = quantized_spotter()
    checkpoint = tfmot_kws.StageCheckpoint(tmp_path / "best.keras", monitor="loss", save_best_only=True)
    checkpoint.set_model(model)
    checkpoint.on_epoch_end(0, {"loss": 0.1})
    assert not (tmp_path / "best.keras").exists()
    tfmot_kws.calibrate(model, features((8, 4)))
    checkpoint.on_epoch_end(1, {"loss": 0.5})
    assert train.get_stage(tfmot_kws.load_model(tmp_path / "best.keras")) == 2


def test_the_student_of_a_distiller() -> None:
    class Distiller(keras.Model):
        def __init__(self, *models):
            super().__init__(name="distiller")
            self.student, self.teacher = models

    student, teacher = quantized_spotter(), quantized_spotter()
    assert train.staged_layers(Distiller(student, spotter()))[0] is student.layers[1]
    both = Distiller(student, teacher)
    with pytest.raises(ValueError, match="model 'distiller' holds several quantized models that are trained"):
        train.staged_layers(both)
    teacher.trainable = False
    assert train.staged_layers(both)[0] is student.layers[1]


def test_stage_errors() -> None:
    model = quantized_spotter()
    for bad in (0, 3, "2", None):
        with pytest.raises(ValueError, match="stage must be 1 or 2, found"):
            tfmot_kws.set_stage(model, bad)
    for call in (lambda m: tfmot_kws.set_stage(m, 1), train.get_stage, lambda m: train.calibrate(m, task()[0])):
        with pytest.raises(ValueError, match="model 'plain' has no quantized layers: call tfmot_kws.quantize_apply"):
            call(keras.Sequential([keras.Input((3,)), L.Dense(2)], name="plain"))
    for bad in (-1, 1.5, "3", None):
        with pytest.raises(ValueError, match="stage2_epoch must be a whole number of at least 0, found"):
            tfmot_kws.TwoStageSchedule(bad)


def test_schedule_says_so(capsys) -> None:
    model = quantized_spotter()
    schedule = tfmot_kws.TwoStageSchedule(2, verbose=1)
    schedule.set_model(model)
    for epoch in range(4):
        schedule.on_epoch_begin(epoch)
        model(features((8, 4)), training=True)
    assert capsys.readouterr().out == "epoch 3: stage 2\n"
    tfmot_kws.TwoStageSchedule(0).set_model(model)


def descend(model: keras.Model, optimizer, steps: int) -> float:
    """Loss on fresh clips after a few steps, the second half of a quantized model's in stage 2."""

    @tf.function(autograph=False)
    def step(x, labels):
        with tf.GradientTape() as tape:
            loss = cross_entropy(model, x, labels, training=True)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))

    for i in range(steps):
        if i == steps // 2 and any(hasattr(layer, "stage") for layer in model.layers):
            train.set_stage(model, 2)
        step(*task(64, seed=10 + i))
    return float(cross_entropy(model, *task(1000, seed=1)))


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.legacy.SGD(0.05, momentum=0.9),
    "adam": lambda: keras.optimizers.legacy.Adam(1e-3),
}


@pytest.fixture(scope="module", params=OPTIMIZERS)
def float_run(request) -> tuple[str, float, float]:
    """(optimizer, loss at the start, loss of the float model after its training)."""
    model = spotter()
    start = float(cross_entropy(model, *task(1000, seed=1)))
    return request.param, start, descend(model, OPTIMIZERS[request.param](), 120)


@pytest.mark.parametrize("bits", [4, 1])
def test_the_float_models_learning_rate_serves(float_run, bits: int) -> None:
    """From random weights, the quantized model descends nearly as far as the float one in as many steps."""
    optimizer, start, reached = float_run
    assert reached < 0.5 * start
    loss = descend(quantized_spotter(bits), OPTIMIZERS[optimizer](), 120)
    assert start - loss > 0.95 * (start - reached)
