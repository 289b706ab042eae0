"""The supernet computes what each network of its space computes."""

from __future__ import annotations

import numpy as np
import pytest
import search_cases
import tensorflow as tf

from tfmot_kws.models import networks
from tfmot_kws.quantize.quantizers import codes, grid_constants, resolve_grid
from tfmot_kws.search import supernet as supernets


def _fresh(space, task) -> supernets.Supernet:
    """With normalizations that change something."""
    made, generator = supernets.Supernet(space, task), np.random.default_rng(0)
    for variable in made.trainable_weights:
        if any(part in variable.name for part in ("beta", "bias", "gamma")):
            variable.assign(0.3 * generator.normal(size=variable.shape) + ("gamma" in variable.name))
    return made


CASES = [("time", search_cases.TASK), ("time and band", search_cases.TASK), ("time", search_cases.SOUND)]


@pytest.mark.parametrize(("over", "task"), CASES, ids=["time", "time and band", "sound"])
@pytest.mark.slow
def test_it_is_the_network_of_each_path(over: str, task) -> None:
    """With shared weights copied into it, the network that is built gives the same logits, both ways of computing."""
    space, generator = search_cases.small(over), np.random.default_rng(0)
    net = _fresh(space, task)
    x = generator.normal(size=(6, task.frames, task.mel_bins)).astype(np.float32)
    kinds = set()
    for path in (space.smallest(), *(space.random(generator) for _ in range(8))):
        model = networks.build(space.network(path, task))
        search_cases.inherit(net, path, model)
        gates = net.gates_of(tf.constant(path))
        wanted = model(x, training=True).numpy()
        np.testing.assert_allclose(net.logits(x, gates, tf.constant(path)), wanted, atol=2e-5)
        np.testing.assert_allclose(net.logits(x, gates), wanted, atol=2e-5)
        kinds |= {(block.kind, block.squeeze) for block in space.network(path, task).blocks}
    assert len(kinds) >= 5


def test_gates_have_the_gradient_of_the_probabilities() -> None:
    """d loss / d alpha_i = sum_j d loss / d gate_j p_j (delta_ij - p_i), at gates of 0 and 1."""
    space = search_cases.tiny()
    net = _fresh(space, search_cases.TASK)
    generator = np.random.default_rng(4)
    for alpha in net.alpha:
        alpha.assign(generator.normal(size=alpha.shape))
    path = tf.constant(space.random(generator))
    x = generator.normal(size=(5, 20, 8)).astype(np.float32)
    target = generator.normal(size=(5, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        gates = [tf.Variable(gate) for gate in net.gates_of(path)]
        loss = tf.reduce_sum(target * net.logits(x, gates))
    by_gate = tape.gradient(loss, gates)
    with tf.GradientTape() as tape:
        tape.watch(net.alpha)
        loss = tf.reduce_sum(target * net.logits(x, net.binary_gates(path)))
    by_alpha = tape.gradient(loss, net.alpha)
    moved = 0
    for gate, alpha, p in zip(by_gate, by_alpha, net.probabilities()):
        if gate is None:
            continue
        p = p.numpy()
        wanted = p * (gate.numpy() - np.dot(gate.numpy(), p))
        np.testing.assert_allclose(alpha, wanted, atol=1e-3 * max(1.0, np.abs(wanted).max()))
        moved += len(p) > 1 and np.abs(wanted).max() > 1e-3
    assert moved >= 4


def test_draws_follow_the_probabilities_and_the_seed() -> None:
    space = search_cases.tiny()
    net = supernets.Supernet(space, search_cases.TASK)
    net.alpha[0].assign([2.0, 0.0])
    draws = np.array([net.drawn(tf.constant([7, n], tf.int64)).numpy() for n in range(200)])
    again = np.array([net.drawn(tf.constant([7, n], tf.int64)).numpy() for n in range(3)])
    np.testing.assert_array_equal(draws[:3], again)
    generator = np.random.default_rng(0)
    outside = np.array([net.sample(generator) for _ in range(200)])
    for found in (draws, outside):
        assert np.mean(found[:, 0] == 0) == pytest.approx(0.88, abs=0.07)
        assert np.mean(found[:, 1] == 0) == pytest.approx(0.5, abs=0.12)
    assert net.likeliest()[0] == 0


def test_weights_of_a_width_are_those_of_the_quantizer() -> None:
    theta = tf.constant(np.linspace(-2, 2, 41, dtype=np.float32))
    for bits in range(1, 9):
        a, b, step = grid_constants(bits, resolve_grid("auto", bits))
        wanted = (a * codes(theta, bits, resolve_grid("auto", bits)) - b) * step
        np.testing.assert_array_equal(supernets._rounded(theta, bits), wanted)


def test_a_width_that_is_chosen_is_computed_with() -> None:
    """At one bit all weights of a block have one magnitude, so that logits are others than at eight."""
    space = search_cases.tiny(bits=(8, 1))
    net = _fresh(space, search_cases.TASK)
    x = np.random.default_rng(0).normal(size=(4, 20, 8)).astype(np.float32)
    path = list(space.smallest())
    eight = net.logits(x, net.gates_of(tf.constant(path)), tf.constant(path))
    path[space.of_block(0)[3]] = 1
    one = net.logits(x, net.gates_of(tf.constant(path)), tf.constant(path))
    assert np.abs(eight - one).max() > 1e-2
