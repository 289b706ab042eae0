# SPDX-License-Identifier: Apache-2.0
"""``tfmot-kws quantize``: its options; the work is in ``parts.quantizing``."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer

from tfmot_kws.commands.parts.options import (
    ActivationBits,
    BudgetActivationBits,
    BudgetBits,
    BudgetFlash,
    BudgetInstructions,
    BudgetRam,
    BudgetStreaming,
    BudgetTarget,
    Cache,
    Core,
    DataOrShards,
    Distribute,
    Dynamic,
    LayerBits,
    Mlflow,
    Resume,
    Seed,
    Speakers,
    Teacher,
    TensorBoard,
)


def quantize(
    model: Annotated[pathlib.Path, typer.Option(help="Float model made by train, .keras.")],
    data: DataOrShards,
    out: Annotated[pathlib.Path, typer.Option(help="Quantized model, .keras.")],
    bits: Annotated[int | None, typer.Option(help="Width of the weights, 1..8.", show_default="4")] = None,
    layer_bits: LayerBits = None,
    budget_flash: BudgetFlash = None,
    budget_bits: BudgetBits = None,
    budget_instructions: BudgetInstructions = None,
    core: Core = None,
    budget_ram: BudgetRam = None,
    budget_streaming: BudgetStreaming = False,
    budget_target: BudgetTarget = "any",
    activation_bits: ActivationBits = "8",
    budget_activation_bits: BudgetActivationBits = None,
    dynamic: Dynamic = None,
    target: Annotated[str, typer.Option(help="any, or ethos-u: levels of weights that 'npu' compresses best.")] = "any",
    weights: Annotated[
        str, typer.Option(help="With --dynamic: linear (a column's range) or tanh (trained through tanh).")
    ] = "linear",
    stage1_epochs: Annotated[int, typer.Option(min=0, help="Epochs with quantized weights only.")] = 12,
    stage2_epochs: Annotated[int, typer.Option(min=0, help="Epochs with everything quantized.")] = 6,
    copies: Annotated[int, typer.Option(min=0, help="Augmented versions of each clip; 0 trains on clips as is.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Adam's, at the start of stage 1.")] = 2e-3,
    teacher: Teacher = None,
    seed: Seed = 0,
    cache: Cache = None,
    speakers: Speakers = None,
    resume: Resume = False,
    distribute: Distribute = None,
    tensorboard: TensorBoard = None,
    mlflow: Mlflow = None,
) -> None:
    """Quantizes a float model and trains it on in two stages, or in one with --dynamic.

    Examples:
      tfmot-kws quantize --model svd.keras --data my_recordings --dynamic 4-8 --out q.keras
      tfmot-kws quantize --model float.keras --data my_recordings --bits 4 --out q.keras
      tfmot-kws quantize --model float.keras --data my_recordings --bits 1 --teacher float.keras --out q.keras
      tfmot-kws quantize --model float.keras --data my_recordings --bits 2 --layer-bits logits=8 --out q.keras
      tfmot-kws quantize --model float.keras --data my_recordings --budget-flash 6KB --out q.keras
    """
    from tfmot_kws.commands.parts import distributing
    from tfmot_kws.commands.parts import quantizing as command

    limits = command.Limits(
        budget_flash, budget_bits, budget_instructions, core, budget_ram, budget_streaming, budget_target,
        activation_bits, budget_activation_bits,
    )  # fmt: skip
    with distributing.joined(distribute) as workers:
        command.run(
            model, data, out, bits, layer_bits or [], stage1_epochs, stage2_epochs, copies, batch_size, learning_rate,
            seed, cache, dynamic, weights, speakers, resume, limits, target, teacher,
            workers.watchers(tensorboard, mlflow), workers,
        )  # fmt: skip
