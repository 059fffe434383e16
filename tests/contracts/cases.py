"""The table behind the contracts: for every model class a toy configuration, inputs, targets and outputs.

A new architecture adds one entry to `TOYS`; every test of this folder then runs on each of its classes. What a row is,
how rows are padded, and which part of an output is real, is the modality's affair: `text.py`, `images.py`.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from hf_seqmodels import SeqViTForMaskedPatchPrediction
from hf_seqmodels.registry import ARCHITECTURES
from tests.contracts.images import Images, colours, some_patches
from tests.contracts.text import (
    IGNORE,
    NUM_LABELS,
    Text,
    classes,
    masked_tokens,
    places,
    same_tokens,
    token_classes,
)

NUM_CHOICES = 3
EXACT = {"rtol": 0, "atol": 1e-12}  # float64 sums in another order

Row = dict[str, torch.Tensor]


class Modality(Protocol):
    """What tests need to know of text or images. A row's length is its number of tokens or patches."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what a model takes without targets."""

    @property
    def sides(self) -> tuple[str, ...]:
        """Where `collate` can put the padding."""

    def draw(self, length: int, extra_dims: tuple[int, ...] = ()) -> tuple[Row, torch.Tensor]:
        """The inputs of one row as a batch of one, and its tokens `(1, …, length)`, for which targets are drawn."""

    def alone(self, row: Row) -> dict[str, Any]:
        """A batch of this row, without padding or mask."""

    def collate(self, rows: list[Row], side: str = "right") -> dict[str, Any]:
        """A padded batch with `attention_mask`."""

    def real_parts(self, kind: str, values: Any, batch: dict[str, Any]) -> list[torch.Tensor]:
        """What an output of this kind says of each row, without its padding."""


@dataclass(frozen=True)
class Head:
    """What one class takes and gives.

    Args:
        outputs: field of the output -> its kind, as the modality's `real_parts` names it.
        targets: name of the labels -> how to draw them for a row's tokens. A mask of patches is one too, though also
            an input.
        exact_counts: the loss takes the step's number of items, so that micro-batches of any size add up.
        extra_dims: dimensions of the inputs between batch and seq_len.
        shifts: its labels are the tokens themselves, and the first one of a row is not predicted.
        config: fields that this head's toy configuration has besides the architecture's.
        variants: ways of building this head that the architecture's other heads do not have.
        shortest: tokens that a row must have.
        remaining_loss: share of its loss that overfitting must get below.
        encodes_visible: the encoder does not see the tokens of `bool_masked_pos` at all.
    """

    outputs: dict[str, str]
    targets: dict[str, Callable[[torch.Tensor], torch.Tensor]] = field(default_factory=dict)
    exact_counts: bool = True
    extra_dims: tuple[int, ...] = ()
    shifts: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    shortest: int = 1
    remaining_loss: float = 0.05
    encodes_visible: bool = False


@dataclass(frozen=True)
class Toy:
    """A tiny configuration of an architecture, and what its classes take and give.

    Args:
        heads: name of an Auto class, or a class that has none -> its head.
        variants: ways of computing or building the model that every promise holds for: a name -> fields.
        final_norm: module that takes the last of the `hidden_states` to `last_hidden_state`.
        attends: it has attentions, and kernels to choose from.
        rates: its configuration's dropout rates.
    """

    modality: Modality
    config: dict[str, Any]
    heads: dict[str | type[PreTrainedModel], Head]
    variants: dict[str, dict[str, Any]]
    final_norm: str | None = None
    attends: bool = True
    rates: tuple[str, ...] = ("hidden_dropout_prob", "attention_probs_dropout_prob")


def recurrent(**variants: dict[str, Any]) -> Toy:
    """RNN, LSTM or GRU, with variants that the others do not have."""
    bidirectional = {"bidirectional": True, "residual": True, "learn_initial_state": True}
    return Toy(
        modality=Text(token_types=False),
        config={
            "vocab_size": 60,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "initializer_range": 1.0,  # far from the default 0.1, so that states are not nearly zero
        },
        heads={
            "AutoModel": Head({"last_hidden_state": "token"}, variants={"bidirectional": bidirectional}),
            "AutoModelForCausalLM": Head(
                {"logits": "token"},
                {"labels": same_tokens},
                shifts=True,
                variants={
                    "penalised": {
                        "residual": True,
                        "activation_regularization": 0.5,
                        "temporal_activation_regularization": 0.7,
                        "label_smoothing": 0.1,
                    },
                    "chunked": {"softmax": "chunked", "label_smoothing": 0.1},
                    "adaptive": {
                        "softmax": "adaptive",
                        "adaptive_cutoffs": [12, 30],
                        "adaptive_div_value": 2.0,
                        "tie_word_embeddings": False,
                    },
                },
            ),
            "AutoModelForSequenceClassification": Head(
                {"logits": "row"},
                {"labels": classes(NUM_LABELS)},
                config={"num_labels": NUM_LABELS},
                variants={
                    "bidirectional": bidirectional,
                    "mean": {"pooling": "mean"},
                    "max": {"pooling": "max", "bidirectional": True},
                    "attention": {"pooling": "attention"},
                },
            ),
            "AutoModelForTokenClassification": Head(
                {"logits": "token"},
                {"labels": token_classes},
                config={"num_labels": NUM_LABELS},
                variants={"bidirectional": bidirectional, "crf": {**bidirectional, "use_crf": True}},
            ),
        },
        variants={
            "plain": {},
            "layernorm": {"layer_norm": True, "learn_initial_state": True},
            "narrow": {"embedding_size": 10},
            **variants,
        },
        attends=False,
        rates=(
            "hidden_dropout_prob",
            "input_dropout_prob",
            "output_dropout_prob",
            "embedding_dropout_prob",
            "recurrent_dropout_prob",
        ),
    )


TOYS = {
    "rnn": recurrent(relu={"nonlinearity": "relu", "recurrent_init": "identity"}),
    "lstm": recurrent(projected={"projection_size": 6, "learn_initial_state": True}),
    "gru": recurrent(),
    "seq_bert": Toy(
        modality=Text(),
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
        variants={"padded": {"unpad_inputs": False}, "unpad_inputs": {"unpad_inputs": True}},
    ),
    "seq_vit": Toy(
        modality=Images(),
        config={
            "image_size": [6, 8],
            "patch_size": [2, 4],
            "num_channels": 2,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 24,
            "decoder_hidden_size": 12,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 3,
            "decoder_intermediate_size": 20,
            "initializer_range": 0.3,
        },
        heads={
            "AutoModel": Head({"last_hidden_state": "token", "pooler_output": "row"}),
            "AutoModelForPreTraining": Head(
                {"logits": "token"}, {"bool_masked_pos": some_patches}, shortest=2, encodes_visible=True
            ),
            "AutoModelForImageClassification": Head(
                {"logits": "row"}, {"labels": classes(NUM_LABELS)}, config={"num_labels": NUM_LABELS}
            ),
            "AutoModelForMaskedImageModeling": Head(
                {"reconstruction": "image"},
                {"bool_masked_pos": some_patches},
                remaining_loss=0.22,  # an absolute error, whose square is 0.05
            ),
            SeqViTForMaskedPatchPrediction: Head(
                {"logits": "token"}, {"bool_masked_pos": some_patches, "labels": colours}, config={"colour_bits": 2}
            ),
            "AutoBackbone": Head({"feature_maps": "maps"}, config={"out_features": ["stem", "stage1", "stage2"]}),
        },
        variants={
            "plain": {},
            "conv-mean-sincos": {
                "stem": "conv",
                "stem_channels": 5,
                "pooling": "mean",
                "position_embedding_type": "sincos",
                "num_register_tokens": 2,
            },
            "shifted-map-scaled": {"stem": "shifted", "pooling": "map", "layer_scale_init_value": 0.5},
            "unplaced-seq-qknorm": {
                "position_embedding_type": "none",
                "pooling": "seq",
                "use_cls_token": False,
                "use_qk_norm": True,
                "qkv_bias": False,
                "norm_pix_loss": True,
            },
            "local-distilled-prelogits": {
                "use_locality_attention": True,
                "use_distillation_token": True,
                "pre_logits_size": 8,
            },
        },
        final_norm="layernorm",
    ),
}


@dataclass(frozen=True)
class Case:
    """One class with its toy."""

    key: str | type[PreTrainedModel]
    model_class: type[PreTrainedModel]
    toy: Toy

    @property
    def head(self) -> Head:
        return self.toy.heads[self.key]

    @property
    def auto(self) -> Any:
        """The Auto class, or the class itself where there is none."""
        return getattr(transformers, self.key) if isinstance(self.key, str) else self.model_class

    def load(self, folder: Any, **kwargs: Any) -> Any:
        """From a local folder, through the Auto class; but transformers 5.23's AutoBackbone asks the Hub for it."""
        return (self.model_class if self.key == "AutoBackbone" else self.auto).from_pretrained(folder, **kwargs)

    @property
    def variants(self) -> dict[str, dict[str, Any]]:
        """The architecture's and the head's own."""
        return {**self.toy.variants, **self.head.variants}

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

    def row(self, length: int) -> Row:
        """One example without batch dimension or padding: inputs and targets."""
        row, tokens = self.toy.modality.draw(max(length, self.head.shortest), self.head.extra_dims)
        row |= {name: draw(tokens) for name, draw in self.head.targets.items()}
        return {name: values[0] for name, values in row.items()}

    def batch(self, lengths: tuple[int, ...] = (9, 4, 1), targets: bool = True, side: str = "right") -> dict[str, Any]:
        """A padded batch of rows of these lengths; without targets also without their labels."""
        batch = self.collate([self.row(length) for length in lengths], side)
        return batch if targets else self.without_targets(batch)

    def collate(self, rows: list[Row], side: str = "right") -> dict[str, Any]:
        return self.toy.modality.collate(rows, side)

    def alone(self, row: Row) -> dict[str, Any]:
        return self.toy.modality.alone(row)

    def without_targets(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The inputs alone."""
        return {name: batch[name] for name in self.toy.modality.inputs if name in batch}

    def num_items(self, rows: Iterable[Row]) -> int:
        """What the loss of these rows is a mean over."""
        targets = [row["labels"] != IGNORE if "labels" in row else row["bool_masked_pos"] for row in rows]
        return sum(int((target[1:] if self.head.shifts else target).sum()) for target in targets)

    def real_parts(self, outputs: Any, batch: dict[str, Any]) -> dict[str, list[torch.Tensor]]:
        """Each output of each row, without padding."""
        return {
            name: self.toy.modality.real_parts(kind, outputs[name], batch) for name, kind in self.head.outputs.items()
        }

    def real_tokens(self, batch: dict[str, Any], model: PreTrainedModel) -> torch.Tensor:
        """`(batch, seq_len)` of the encoder's hidden states: which are no padding."""
        real = batch["attention_mask"].flatten(0, -2).bool()
        if self.head.encodes_visible:
            counts = (real & ~batch["bool_masked_pos"]).sum(1)
            real = torch.arange(int(counts.max())) < counts[:, None]
        return nn.functional.pad(real, (getattr(model.config, "num_prefix_tokens", 0), 0), value=True)


def gradients(model: PreTrainedModel, batch: dict[str, Any]) -> tuple[Any, dict[str, torch.Tensor]]:
    """Outputs and every parameter's gradient of the loss on `batch`."""
    model.zero_grad()
    outputs = model(**batch)
    outputs.loss.backward()
    return outputs, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal_gradients(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """The same parameters have gradients, and equal ones."""
    assert got.keys() == expected.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(got[name], grad, **EXACT, msg=lambda text, name=name: f"{name}: {text}")


@contextlib.contextmanager
def uncompiled_flex() -> Iterator[None]:
    """flex's own definition in plain operations: exact in float64 and quick. (It has no backward on CPUs.)"""
    with torch.compiler.set_stance("force_eager"), torch.no_grad():
        yield


def _cases() -> Iterable[Case]:
    for architecture in ARCHITECTURES:
        toy = TOYS[architecture.config.model_type]
        yield from (Case(name, model_class, toy) for name, model_class in architecture.models.items())
        yield from (Case(key, key, toy) for key in toy.heads if isinstance(key, type))


CASES = list(_cases())
TRAINABLE = [case for case in CASES if case.head.targets]
ATTENDING = [case for case in CASES if case.toy.attends]
TEXT, IMAGES = ([case for case in CASES if isinstance(case.toy.modality, kind)] for kind in (Text, Images))


def name_of(case: Case) -> str:
    """Test id."""
    return case.model_class.__name__


def case_named(name: str) -> Case:
    """The case of a class."""
    return next(case for case in CASES if name_of(case) == name)


def over_variants(cases: list[Case], kernels: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """Runs a test with `case` and the `options` of each of its variants; under each kernel, where it has some."""
    return pytest.mark.parametrize(
        ("case", "options"),
        [
            pytest.param(case, {**options, **kernel}, id="-".join([name_of(case), name, *kernel.values()]))
            for case in cases
            for name, options in case.variants.items()
            for kernel in ([{"attn_implementation": kernel} for kernel in kernels] if case.toy.attends else []) or [{}]
        ],
    )
