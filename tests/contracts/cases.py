"""The table behind the contracts: for every registered model class a toy configuration, inputs, targets and outputs.

A new architecture adds one entry to `TOYS`; every test of this folder then runs on each of its classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from hf_seqmodels.registry import ARCHITECTURES

NUM_CHOICES = 3
NUM_LABELS = 4
IGNORE = -100


@dataclass(frozen=True)
class Head:
    """What one Auto class takes and gives.

    Args:
        outputs: field of the output -> "token" for `(batch, seq_len, …)`, "row" for `(batch, …)`.
        targets: name of the labels -> how to draw them for inputs of a shape.
        exact_counts: the loss takes the step's number of items, so that micro-batches of any size add up.
        extra_dims: dimensions of the inputs between batch and seq_len.
        config: fields that this head's toy configuration has besides the architecture's.
    """

    outputs: dict[str, str]
    targets: dict[str, Callable[[torch.Tensor], torch.Tensor]] = field(default_factory=dict)
    exact_counts: bool = True
    extra_dims: tuple[int, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Toy:
    """A tiny configuration of an architecture that takes text, and what its heads take and give."""

    config: dict[str, Any]
    heads: dict[str, Head]
    vocab_size: int = 60


def masked_tokens(ids: torch.Tensor) -> torch.Tensor:
    """Labels on about a third of the tokens, on at least one in each row."""
    chosen = torch.rand(ids.shape) < 0.3
    chosen[..., 0] = True
    return ids.masked_fill(~chosen, IGNORE)


def classes(count: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """A class for each row."""
    return lambda ids: torch.randint(0, count, ids.shape[:1])


def token_classes(ids: torch.Tensor) -> torch.Tensor:
    """A class for each token, none for some."""
    return torch.randint(0, NUM_LABELS, ids.shape).masked_fill(torch.rand(ids.shape) < 0.2, IGNORE)


def places(ids: torch.Tensor) -> torch.Tensor:
    """A position in each row."""
    return torch.randint(0, ids.shape[-1], ids.shape[:1])


TOYS = {
    "seq_bert": Toy(
        config={
            "vocab_size": 60,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 24,
            "max_position_embeddings": 16,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            # far from the published 0.02, so that attention and logits are not nearly uniform
            "initializer_range": 0.3,
        },
        heads={
            "AutoModel": Head({"last_hidden_state": "token", "pooler_output": "row"}),
            "AutoModelForPreTraining": Head(
                {"prediction_logits": "token", "seq_relationship_logits": "row"},
                {"labels": masked_tokens, "next_sentence_label": classes(2)},
            ),
            "AutoModelForMaskedLM": Head({"logits": "token"}, {"labels": masked_tokens}),
            "AutoModelForNextSentencePrediction": Head({"logits": "row"}, {"labels": classes(2)}),
            "AutoModelForSequenceClassification": Head(
                {"logits": "row"}, {"labels": classes(NUM_LABELS)}, config={"num_labels": NUM_LABELS}
            ),
            "AutoModelForTokenClassification": Head(
                {"logits": "token"}, {"labels": token_classes}, config={"num_labels": NUM_LABELS}
            ),
            "AutoModelForQuestionAnswering": Head(
                {"start_logits": "token", "end_logits": "token"},
                {"start_positions": places, "end_positions": places},
                exact_counts=False,
            ),
            "AutoModelForMultipleChoice": Head(
                {"logits": "row"}, {"labels": classes(NUM_CHOICES)}, extra_dims=(NUM_CHOICES,)
            ),
        },
    ),
}


@dataclass(frozen=True)
class Case:
    """One registered class with its toy."""

    auto_class: str
    model_class: type[PreTrainedModel]
    toy: Toy

    @property
    def head(self) -> Head:
        return self.toy.heads[self.auto_class]

    @property
    def auto(self) -> Any:
        return getattr(transformers, self.auto_class)

    def config(self, **overrides: Any) -> Any:
        return self.model_class.config_class(**{**self.toy.config, **self.head.config, **overrides})

    def model(self, dtype: torch.dtype = torch.float64, **overrides: Any) -> Any:
        """A model with the same weights at every call, none of them at a value that hides it; in eval mode."""
        torch.manual_seed(1)
        model = self.model_class(self.config(**overrides)).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return model.to(dtype).eval()

    def row(self, length: int) -> dict[str, torch.Tensor]:
        """One example without batch dimension or padding: inputs and targets."""
        ids = torch.randint(1, self.toy.vocab_size, (1, *self.head.extra_dims, length))
        row = {"input_ids": ids, "token_type_ids": torch.randint(0, 2, ids.shape)}
        row |= {name: draw(ids) for name, draw in self.head.targets.items()}
        return {name: values[0] for name, values in row.items()}

    def batch(self, lengths: tuple[int, ...] = (9, 4, 1), targets: bool = True, side: str = "right") -> dict:
        """A padded batch of rows of these lengths; without targets also without their labels."""
        rows = [self.row(length) for length in lengths]
        return without_targets(collate(rows, side)) if not targets else collate(rows, side)


def collate(rows: list[dict[str, torch.Tensor]], side: str = "right") -> dict[str, torch.Tensor]:
    """Pads rows to the longest one, with a mask, `IGNORE` as the label of padding, and token 0 elsewhere."""
    width = max(row["input_ids"].shape[-1] for row in rows)
    batch: dict[str, list[torch.Tensor]] = {}
    for row in rows:
        length = row["input_ids"].shape[-1]
        padding = (0, width - length) if side == "right" else (width - length, 0)
        padded = {"attention_mask": torch.nn.functional.pad(torch.ones_like(row["input_ids"]), padding)}
        for name, values in row.items():
            is_sequence = values.dim() > 0 and values.shape[-1] == length
            filler = IGNORE if name == "labels" else 0
            padded[name] = torch.nn.functional.pad(values, padding, value=filler) if is_sequence else values
        for name, values in padded.items():
            batch.setdefault(name, []).append(values)
    return {name: torch.stack(values) for name, values in batch.items()}


def without_targets(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inputs alone."""
    return {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")}


def gradients(model: PreTrainedModel, batch: dict[str, Any]) -> tuple[Any, dict[str, torch.Tensor]]:
    """Outputs and every parameter's gradient of the loss on `batch`."""
    model.zero_grad()
    outputs = model(**batch)
    outputs.loss.backward()
    return outputs, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


CASES = [
    Case(auto_class, model_class, TOYS[architecture.config.model_type])
    for architecture in ARCHITECTURES
    for auto_class, model_class in architecture.models.items()
]
TRAINABLE = [case for case in CASES if case.head.targets]


def name_of(case: Case) -> str:
    """Test id."""
    return case.model_class.__name__
