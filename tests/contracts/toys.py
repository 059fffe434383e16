"""The table behind the contracts: for every architecture a toy configuration, heads, targets, outputs and variants.

A new architecture adds one entry to `TOYS`; every test of this folder then runs on each of its classes. What a row is,
how rows are padded, and which part of an output is real, is the modality's affair: `text.py`, `images.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

from hf_seqmodels import SeqViTForMaskedPatchPrediction
from tests.contracts.images import Images, colours, some_patches
from tests.contracts.text import NUM_LABELS, Text, classes, masked_tokens, places, same_tokens, token_classes
from tests.contracts.translation import START, TextToText, some_targets

NUM_CHOICES = 3

Row = dict[str, torch.Tensor]


class Modality(Protocol):
    """What tests need to know of text, images or pairs of texts.

    A row's length is its number of tokens or patches, those of the source in a pair.
    """

    @property
    def sides(self) -> tuple[str, ...]:
        """Where `collate` can put the padding."""

    def draw(self, length: int, extra_dims: tuple[int, ...] = ()) -> tuple[Row, torch.Tensor]:
        """The inputs of one row as a batch of one, and its tokens `(1, …, length)`, for which targets are drawn."""

    def alone(self, row: Row) -> dict[str, Any]:
        """A batch of this row, without padding or mask."""

    def collate(self, rows: list[Row], side: str = "right") -> dict[str, Any]:
        """A padded batch with `attention_mask`."""

    def without_targets(self, batch: dict[str, Any]) -> dict[str, Any]:
        """What a model takes without targets."""

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


RATES = (
    "hidden_dropout_prob",
    "input_dropout_prob",
    "output_dropout_prob",
    "embedding_dropout_prob",
    "recurrent_dropout_prob",
)


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
        rates=RATES,
    )


def translating(
    config: dict[str, Any], variants: dict[str, dict[str, Any]], attends: bool = False, rates: tuple[str, ...] = RATES
) -> Toy:
    """An encoder–decoder."""
    source = {"encoder_last_hidden_state": "source"}
    return Toy(
        modality=TextToText(),
        config={"vocab_size": 60, "decoder_start_token_id": START, **config},
        heads={
            "AutoModel": Head({"last_hidden_state": "target", **source}),
            "AutoModelForSeq2SeqLM": Head({"logits": "target", **source}, {"labels": some_targets}),
        },
        variants=variants,
        attends=attends,
        rates=rates,
    )


RECURRENT_TRANSLATION = {"hidden_size": 16, "num_hidden_layers": 2, "initializer_range": 1.0}

TOYS = {
    "rnn": recurrent(relu={"nonlinearity": "relu", "recurrent_init": "identity"}),
    "lstm": recurrent(projected={"projection_size": 6, "learn_initial_state": True}),
    "gru": recurrent(),
    "seq2seq": translating(
        RECURRENT_TRANSLATION,
        {
            "plain": {},
            "fed": {"feed_context": True, "cell_type": "gru", "bridge": "tanh", "label_smoothing": 0.1},
            "reversed": {"reverse_source": True, "bidirectional": False, "cell_type": "rnn", "bridge": "linear"},
            "narrow": {"embedding_size": 10, "residual": True, "bridge": "tanh"},
        },
    ),
    "attention_seq2seq": translating(
        RECURRENT_TRANSLATION,
        {
            "general": {},
            "coverage": {"score": "additive", "coverage": True, "coverage_weight": 0.5, "bridge": "tanh"},
            "feeding": {"score": "scaled_dot", "input_feeding": True, "cell_type": "gru"},
            "feeding-coverage": {"score": "additive", "coverage": True, "input_feeding": True, "reverse_source": True},
            "own embeddings": {"score": "dot", "share_embeddings": False, "embedding_size": 10},
            "untied": {"score": "additive", "share_embeddings": False, "tie_word_embeddings": False},
        },
    ),
    "vanilla_transformer": translating(
        {
            "d_model": 16,
            "encoder_layers": 2,
            "decoder_layers": 3,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 20,
            "dropout": 0.0,
            "max_position_embeddings": 16,
        },
        {
            "padded": {"unpad_inputs": False},
            "unpadded": {"unpad_inputs": True, "label_smoothing": 0.1},
            "pre-LN": {"normalize_before": True, "position_embedding_type": "learned"},
            "own embeddings": {"share_encoder_decoder_embeddings": False, "activation_function": "silu"},
            "untied": {
                "share_encoder_decoder_embeddings": False,
                "tie_word_embeddings": False,
                "scale_embedding": False,
            },
        },
        attends=True,
        rates=("dropout", "attention_dropout", "activation_dropout"),
    ),
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
