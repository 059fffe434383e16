"""Configurations of the recurrent models: RNN (Elman 1990), LSTM (Hochreiter & Schmidhuber 1997), GRU (Cho 2014)."""

from itertools import pairwise

from huggingface_hub.dataclasses import strict

from .saving import CarriesCode

POOLINGS = ("last", "mean", "max", "attention")
RECURRENT_INITS = ("orthogonal", "identity", "uniform")
SOFTMAXES = ("full", "chunked", "adaptive")
NONLINEARITIES = ("tanh", "relu")

_RATES = (
    "hidden_dropout_prob",
    "embedding_dropout_prob",
    "input_dropout_prob",
    "output_dropout_prob",
    "recurrent_dropout_prob",
    "classifier_dropout",
)


@strict
class RecurrentConfig(CarriesCode):
    r"""What the configurations of RNN, LSTM and GRU have in common.

    Args:
        vocab_size (`int`): token ids lie below it.
        hidden_size (`int`): units of each layer and direction.
        embedding_size (`int`, *optional*): width of the embeddings; `None` is `hidden_size`.
        num_hidden_layers (`int`): layers.
        bidirectional (`bool`): a second recurrence from right to left in each layer (Schuster & Paliwal 1997); not for
            language models.
        hidden_dropout_prob (`float`): dropout between layers.
        input_dropout_prob (`float`): dropout on the embeddings.
        output_dropout_prob (`float`): dropout on the last layer's output.
        embedding_dropout_prob (`float`): dropout of whole words of the embedding table (Gal & Ghahramani 2016).
        recurrent_dropout_prob (`float`): dropout of recurrent weights (Merity et al. 2017, section 2, weight-drop).
        locked_dropout (`bool`): one mask for all steps of a row (Gal & Ghahramani 2016), else one for each step.
        layer_norm (`bool`): layer-normalised cells (Ba et al. 2016, section 3.1). They run step by step, in Python.
        residual (`bool`): adds a layer's input to its output where both are equally wide (Wu et al. 2016).
        learn_initial_state (`bool`): the state before the first token is a parameter, else zero.
        recurrent_init (`str`): `orthogonal` in each gate (Saxe et al. 2014), `identity` (Le et al. 2015; with
            `nonlinearity="relu"` the IRNN) or `uniform` (±1/√hidden_size, as PyTorch's).
        initializer_range (`float`): embeddings are uniform in ±this (Merity et al. 2017).
        pooling (`str`): what a classifier sees: the `last` state, the `mean` or `max` over tokens, or an `attention`
            over them (Yang et al. 2016).
        classifier_dropout (`float`, *optional*): dropout before a classifier; `None` is `hidden_dropout_prob`.
        use_crf (`bool`): token classification with a linear-chain CRF (Lample et al. 2016).
        softmax (`str`): of the language model: `full`; `chunked`, the same numbers, but a training step never holds
            the logits of all tokens; or `adaptive` (Grave et al. 2017).
        adaptive_cutoffs (`list[int]`, *optional*): where the clusters of the adaptive softmax begin; ids must be
            sorted from frequent to rare.
        adaptive_div_value (`float`): each of its clusters is so many times narrower than the one before.
        label_smoothing (`float`): of the language model's targets, while training.
        activation_regularization (`float`): weight of the squared outputs in the language model's training loss
            (Merity et al. 2017, section 4.4, AR).
        temporal_activation_regularization (`float`): weight of their squared differences (ibid., TAR).
        tie_word_embeddings (`bool`): the language model's output table is its input table (Press & Wolf 2017); where
            the widths differ, a linear layer goes between.

    Raises:
        huggingface_hub.errors.StrictDataclassError: a field of the wrong type or outside its range.
    """

    keys_to_ignore_at_inference = ["past_key_values", "ar_loss", "tar_loss"]
    # Which recurrence: the configuration class decides.
    cell_type = ""

    vocab_size: int = 30000
    hidden_size: int = 512
    embedding_size: int | None = None
    num_hidden_layers: int = 2
    bidirectional: bool = False
    hidden_dropout_prob: float | int = 0.0
    input_dropout_prob: float | int = 0.0
    output_dropout_prob: float | int = 0.0
    embedding_dropout_prob: float | int = 0.0
    recurrent_dropout_prob: float | int = 0.0
    locked_dropout: bool = True
    layer_norm: bool = False
    residual: bool = False
    learn_initial_state: bool = False
    recurrent_init: str = "orthogonal"
    initializer_range: float | int = 0.1
    pooling: str = "last"
    classifier_dropout: float | int | None = None
    use_crf: bool = False
    softmax: str = "full"
    adaptive_cutoffs: list[int] | None = None
    adaptive_div_value: float | int = 4.0
    label_smoothing: float | int = 0.0
    activation_regularization: float | int = 0.0
    temporal_activation_regularization: float | int = 0.0
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = True
    use_cache: bool = True

    @property
    def num_directions(self) -> int:
        """Recurrences of a layer: 1 or 2."""
        return 2 if self.bidirectional else 1

    @property
    def input_size(self) -> int:
        """Width of the embeddings."""
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    @property
    def state_size(self) -> int:
        """Width of the hidden state of one direction."""
        return getattr(self, "projection_size", None) or self.hidden_size

    @property
    def output_size(self) -> int:
        """Width of a layer's output."""
        return self.state_size * self.num_directions

    def validate_sizes(self) -> None:
        """Every size is positive."""
        for name in ("vocab_size", "hidden_size", "embedding_size", "num_hidden_layers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")

    def validate_rates(self) -> None:
        """Dropout rates and label smoothing lie in [0, 1); weights and ranges are not negative."""
        for name in (*_RATES, "label_smoothing"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name}={value} must lie in [0, 1).")
        for name in ("initializer_range", "activation_regularization", "temporal_activation_regularization"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative.")

    def validate_names(self) -> None:
        """Pooling, softmax and initialisation are known ones, and the padding id is in the vocabulary."""
        self._require_one_of("pooling", POOLINGS)
        self._require_one_of("softmax", SOFTMAXES)
        self._require_one_of("recurrent_init", RECURRENT_INITS)
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(f"pad_token_id={self.pad_token_id} must lie in [0, vocab_size={self.vocab_size}).")

    def validate_softmax(self) -> None:
        """The adaptive softmax has rising cutoffs within the vocabulary, and goes without tying and smoothing."""
        cutoffs = self.adaptive_cutoffs
        if self.softmax != "adaptive":
            if cutoffs is not None:
                raise ValueError(f"adaptive_cutoffs={cutoffs} go with softmax='adaptive', not {self.softmax!r}.")
            return
        bounds = [0, *(cutoffs or []), self.vocab_size]
        if not cutoffs or any(low >= high for low, high in pairwise(bounds)):
            raise ValueError(
                f"adaptive_cutoffs={cutoffs} must rise strictly between 0 and vocab_size={self.vocab_size}."
            )
        if self.adaptive_div_value < 1:
            raise ValueError(f"adaptive_div_value={self.adaptive_div_value} must be at least 1.")
        if self.output_size < self.adaptive_div_value ** len(cutoffs):
            raise ValueError(
                f"adaptive_div_value={self.adaptive_div_value} leaves the last of {len(cutoffs) + 1} clusters empty: "
                f"{self.output_size} / {self.adaptive_div_value}^{len(cutoffs)} is below 1."
            )
        if self.tie_word_embeddings:
            raise ValueError("tie_word_embeddings=True: the adaptive softmax has no output table to tie; use False.")
        if self.label_smoothing:
            raise ValueError(f"label_smoothing={self.label_smoothing}: the adaptive softmax has none; use 0.")

    def _require_one_of(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(allowed)}.")

    def _require_chrono(self, length: int | None) -> None:
        if length is not None and length < 3:
            raise ValueError(f"chrono_max_length={length} must be at least 3.")


@strict
class RNNConfig(RecurrentConfig):
    r"""Configuration of the RNN models: `h' = f(W x + U h + b)` (Elman 1990).

    Args:
        nonlinearity (`str`): f: `tanh` or `relu`.
    """

    model_type = "rnn"
    cell_type = "rnn"

    nonlinearity: str = "tanh"

    def validate_nonlinearity(self) -> None:
        """One that the fused kernels have."""
        self._require_one_of("nonlinearity", NONLINEARITIES)


@strict
class LSTMConfig(RecurrentConfig):
    r"""Configuration of the LSTM models (Hochreiter & Schmidhuber 1997; with forget gates, Gers et al. 2000).

    Args:
        projection_size (`int`, *optional*): the hidden state is projected to this width (Sak et al. 2014).
        forget_gate_bias (`float`): what the forget gate's bias begins at, in all (Jozefowicz et al. 2015).
        chrono_max_length (`int`, *optional*): longest dependency expected, in tokens: forget and input gates begin
            with memories spread over it (Tallec & Ollivier 2018, section 2.2), in place of `forget_gate_bias`.
    """

    model_type = "lstm"
    cell_type = "lstm"

    projection_size: int | None = None
    forget_gate_bias: float | int = 1.0
    chrono_max_length: int | None = None

    def validate_lstm(self) -> None:
        """The projection is narrower than the cell and goes with its fused kernel; the longest dependency is one."""
        if self.projection_size is not None and not 1 <= self.projection_size < self.hidden_size:
            raise ValueError(
                f"projection_size={self.projection_size} must lie in [1, hidden_size={self.hidden_size})."
            )
        if self.projection_size is not None and self.layer_norm:
            raise ValueError(f"projection_size={self.projection_size} does not go with layer_norm=True; use None.")
        self._require_chrono(self.chrono_max_length)


@strict
class GRUConfig(RecurrentConfig):
    r"""Configuration of the GRU models (Cho et al. 2014), the reset gate after the product as in cuDNN.

    Args:
        chrono_max_length (`int`, *optional*): longest dependency expected, in tokens: update gates begin with memories
            spread over it (Tallec & Ollivier 2018, section 2.2).
    """

    model_type = "gru"
    cell_type = "gru"

    chrono_max_length: int | None = None

    def validate_gru(self) -> None:
        """The longest dependency is one."""
        self._require_chrono(self.chrono_max_length)


__all__ = ["GRUConfig", "LSTMConfig", "RNNConfig", "RecurrentConfig"]
