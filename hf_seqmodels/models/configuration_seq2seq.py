"""Configurations of the recurrent encoder–decoders: with a fixed-size context, and with attention."""

from typing import Any

from huggingface_hub.dataclasses import strict

from .configuration_rnn import GRUConfig, LSTMConfig, RecurrentConfig, RNNConfig
from .saving import CarriesCode

BRIDGES = ("copy", "linear", "tanh")
SCORES = ("dot", "scaled_dot", "general", "additive")
CELLS: dict[str, type[RecurrentConfig]] = {"rnn": RNNConfig, "lstm": LSTMConfig, "gru": GRUConfig}

_RATES = (
    "hidden_dropout_prob",
    "input_dropout_prob",
    "output_dropout_prob",
    "embedding_dropout_prob",
    "recurrent_dropout_prob",
    "label_smoothing",
)
# Fields that encoder and decoder hand on to their recurrent stacks.
_OF_THE_STACK = (
    "vocab_size",
    "num_hidden_layers",
    "hidden_dropout_prob",
    "input_dropout_prob",
    "output_dropout_prob",
    "recurrent_dropout_prob",
    "locked_dropout",
    "residual",
)


@strict
class RecurrentSeq2SeqConfig(CarriesCode):
    r"""What the configurations of Seq2Seq and AttentionSeq2Seq have in common.

    Args:
        vocab_size (`int`): of source and target together.
        cell_type (`str`): `rnn`, `lstm` or `gru`.
        hidden_size (`int`): units of a decoder layer, and width of the encoder's outputs.
        embedding_size (`int`, *optional*): width of the embeddings; `None` is `hidden_size`.
        num_hidden_layers (`int`): layers of the encoder, and of the decoder.
        bidirectional (`bool`): the encoder reads both ways, half the units each (Schuster & Paliwal 1997).
        bridge (`str`): how the decoder's first state comes from the encoder's last: `copy`, a `linear` layer, or one
            and a `tanh` (Bahdanau et al. 2015, A.2.2).
        reverse_source (`bool`): the encoder reads the source from its end (Sutskever et al. 2014, section 3.3).
        hidden_dropout_prob (`float`): dropout between layers; the others as in `RecurrentConfig`.
        share_embeddings (`bool`): source and target have one embedding table (Press & Wolf 2017, three-way tying).
        sampling_unit (`str`): scheduled sampling tosses a coin for each `token`, or one for all rows at each `step`.
        label_smoothing (`float`): of the targets, while training.
        sparse_prediction (`bool`): while training on labels, run the output layer only where there is one; `logits` is
            `(num_targets, vocab_size)` then. It changes the speed, never the result.

    Raises:
        huggingface_hub.errors.StrictDataclassError: a field of the wrong type or outside its range.
    """

    attends_to_source = False
    keys_to_ignore_at_inference = ["past_key_values", "encoder_last_hidden_state"]
    attribute_map = {"encoder_layers": "num_hidden_layers", "decoder_layers": "num_hidden_layers"}

    vocab_size: int = 8000
    cell_type: str = "lstm"
    hidden_size: int = 512
    embedding_size: int | None = None
    num_hidden_layers: int = 2
    bidirectional: bool = True
    bridge: str = "copy"
    reverse_source: bool = False
    hidden_dropout_prob: float | int = 0.0
    input_dropout_prob: float | int = 0.0
    output_dropout_prob: float | int = 0.0
    embedding_dropout_prob: float | int = 0.0
    recurrent_dropout_prob: float | int = 0.0
    locked_dropout: bool = False
    residual: bool = False
    share_embeddings: bool = True
    sampling_unit: str = "token"
    label_smoothing: float | int = 0.0
    sparse_prediction: bool = True
    recurrent_init: str = "orthogonal"
    forget_gate_bias: float | int = 1.0
    initializer_range: float | int = 0.1
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | None = None
    tie_word_embeddings: bool = True
    use_cache: bool = True

    @property
    def input_size(self) -> int:
        """Width of the embeddings."""
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    @property
    def decoder_input_size(self) -> int:
        """Width of what the decoder's first layer gets at each step."""
        return self.input_size

    def _stack_config(self, **fields: Any) -> RecurrentConfig:
        shared = {name: getattr(self, name) for name in _OF_THE_STACK}
        return CELLS[self.cell_type](**shared, **fields)

    def encoder_config(self) -> RecurrentConfig:
        """Of the encoder's recurrent layers."""
        directions = 2 if self.bidirectional else 1
        return self._stack_config(
            hidden_size=self.hidden_size // directions,
            embedding_size=self.input_size,
            bidirectional=self.bidirectional,
        )

    def decoder_config(self) -> RecurrentConfig:
        """Of the decoder's recurrent layers."""
        return self._stack_config(hidden_size=self.hidden_size, embedding_size=self.decoder_input_size)

    def validate_sizes(self) -> None:
        """Every size is positive; two directions share the units equally."""
        for name in ("vocab_size", "hidden_size", "embedding_size", "num_hidden_layers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if self.bidirectional and self.hidden_size % 2:
            raise ValueError(f"hidden_size={self.hidden_size} must be even with bidirectional=True.")

    def validate_rates(self) -> None:
        """Dropout rates and label smoothing lie in [0, 1)."""
        for name in _RATES:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1).")
        if self.initializer_range < 0:
            raise ValueError(f"initializer_range={self.initializer_range} must not be negative.")

    def validate_names(self) -> None:
        """Cell, bridge and initialisation are known ones; special tokens are in the vocabulary."""
        for name, allowed in (
            ("cell_type", tuple(CELLS)),
            ("bridge", BRIDGES),
            ("recurrent_init", ("orthogonal", "uniform")),
            ("sampling_unit", ("token", "step")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not known; choose one of {', '.join(allowed)}.")
        for name in ("pad_token_id", "decoder_start_token_id"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < self.vocab_size:
                raise ValueError(f"{name}={value} must lie in [0, vocab_size={self.vocab_size}).")
        if self.share_embeddings and not self.tie_word_embeddings:
            raise ValueError("share_embeddings=True needs tie_word_embeddings=True, which ties all tables or none.")


@strict
class Seq2SeqConfig(RecurrentSeq2SeqConfig):
    r"""Configuration of Seq2Seq (Sutskever et al. 2014; Cho et al. 2014): a fixed-size context.

    Args:
        feed_context (`bool`): the context, the encoder's last state, is an input at every step of the decoder and of
            its output (Cho et al. 2014, section 2.2), besides being its first state.
    """

    model_type = "seq2seq"

    feed_context: bool = False

    @property
    def decoder_input_size(self) -> int:
        """Width of what the decoder's first layer gets at each step."""
        return self.input_size + (self.hidden_size if self.feed_context else 0)


@strict
class AttentionSeq2SeqConfig(RecurrentSeq2SeqConfig):
    r"""Configuration of AttentionSeq2Seq (Bahdanau et al. 2015; Luong et al. 2015).

    Args:
        score (`str`): of a decoder state and a source position: `dot`, `scaled_dot` (Vaswani et al. 2017), `general`
            (Luong et al. 2015, equation 8) or `additive` (Bahdanau et al. 2015, A.1.2).
        input_feeding (`bool`): the last step's attentional state is an input of the next (Luong et al. 2015, section
            3.3). The decoder runs step by step then, in training, too; without it, it is one call and one product.
        coverage (`bool`): what has been attended to so far enters the additive score (Tu et al. 2016; See et al. 2017,
            equation 11). Step by step as well.
        coverage_weight (`float`): of the loss on attending twice (See et al. 2017, equation 12), while training.
    """

    model_type = "attention_seq2seq"
    attends_to_source = True

    score: str = "general"
    input_feeding: bool = False
    coverage: bool = False
    coverage_weight: float | int = 0.0

    @property
    def decoder_input_size(self) -> int:
        """Width of what the decoder's first layer gets at each step."""
        return self.input_size + (self.hidden_size if self.input_feeding else 0)

    @property
    def is_stepwise(self) -> bool:
        """Whether a step of the decoder needs the attention of the one before."""
        return self.input_feeding or self.coverage

    def validate_attention(self) -> None:
        """The score is a known one, and coverage goes with the additive one."""
        if self.score not in SCORES:
            raise ValueError(f"score={self.score!r} is not known; choose one of {', '.join(SCORES)}.")
        if self.coverage and self.score != "additive":
            raise ValueError(f"coverage=True needs score='additive', not {self.score!r}.")
        if self.coverage_weight < 0 or (self.coverage_weight and not self.coverage):
            raise ValueError(f"coverage_weight={self.coverage_weight} must be at least 0, and 0 without coverage.")


__all__ = ["AttentionSeq2SeqConfig", "RecurrentSeq2SeqConfig", "Seq2SeqConfig"]
