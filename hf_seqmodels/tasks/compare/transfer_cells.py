"""The cells of the claims about BERT, and their budgets."""

from typing import Any

from .claim import BudgetName, Cell, num_seeds
from .transfer import Objective, measure_transfer, num_steps

# Labels to train on -> how many draws of them: few labels leave much to chance. Every objective is tried on few.
FEW_LABELS = {50: 3, 150: 2}
MANY_LABELS = {500: 1, 1500: 1}
PAIR_LABELS = 2000

# 0.24 million parameters each, as classifiers: so small a model learns most in a minute of one core.
_SIZES: dict[str, dict[str, Any]] = {
    "seq_bert": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 256,
        "max_position_embeddings": 64,
        # For so small a width the published deviation of 0.02 starts too near zero.
        "initializer_range": 0.125,
    },
    # The classifier sees the largest value of each unit over the tokens (Conneau et al. 2017, section 3.2).
    "lstm": {
        "embedding_size": 64,
        "hidden_size": 88,
        "num_hidden_layers": 1,
        "bidirectional": True,
        "pooling": "max",
        "input_dropout_prob": 0.1,
        "classifier_dropout": 0.1,
    },
}
_TEXT = {"vocab_size": 2048, "max_length": 64}
_PRETRAINING = {"batch_size": 8, "learning_rate": 2e-3}
_PRETRAINING_STEPS = {"quick": 3600, "standard": 12000, "full": 28000}
_FINETUNING = {"min_steps": 100, "epochs": 3, "batch_size": 16}
_FINETUNING_RATES = {"seq_bert": 1e-3, "lstm": 3e-3}  # the better one of 0.001 and 0.003 for each, from scratch

# On one core.
_READING_SECONDS, _STEP_SECONDS = 5.0, 0.009


def transfer_cells(budget: BudgetName, objectives: tuple[Objective, ...], lstm: bool = False) -> list[Cell]:
    """One cell for each objective and seed: it pretrains once, and fine-tunes for all claims that ask for it.

    Args:
        budget: steps of pretraining, and seeds. Fine-tuning is the same at each.
        objectives: of pretraining.
        lstm: add an LSTM, which is not pretrained and not tried on pairs.
    """
    models: list[tuple[str, Objective]] = [("seq_bert", objective) for objective in objectives]
    if lstm:
        models.append(("lstm", "none"))
    return [
        _cell(model, objective, seed, _PRETRAINING_STEPS[budget])
        for seed in range(num_seeds(budget))
        for model, objective in models
    ]


def _cell(model: str, objective: Objective, seed: int, pretraining_steps: int) -> Cell:
    labels = FEW_LABELS if objective in ("mlm", "nsp") else {**FEW_LABELS, **MANY_LABELS}
    finetunings: list[list[Any]] = [["docstrings", count, draws] for count, draws in labels.items()]
    if model == "seq_bert":
        finetunings.append(["pairs", PAIR_LABELS, 1])
    steps = sum(draws * num_steps(count, _FINETUNING) for _, count, draws in finetunings)
    pretraining = None
    if objective != "none":
        pretraining = {"max_steps": pretraining_steps, **_PRETRAINING}
        steps += pretraining_steps
    settings = {
        "model": model,
        "objective": objective,
        "seed": seed,
        "sizes": _SIZES[model],
        **_TEXT,
        "pretraining": pretraining,
        "finetunings": finetunings,
        "finetuning": {**_FINETUNING, "learning_rate": _FINETUNING_RATES[model]},
    }
    name = f"transfer-{model}-{objective}-seed{seed}"
    return Cell(name, measure_transfer, settings, seconds=_READING_SECONDS + _STEP_SECONDS * steps)


__all__ = ["FEW_LABELS", "MANY_LABELS", "PAIR_LABELS", "transfer_cells"]
