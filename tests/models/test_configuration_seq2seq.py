"""What the configurations of encoder–decoders say of their parts. (Refusals: `tests/contracts`.)"""

import pytest
import torch

from hf_seqmodels.models.configuration_rnn import GRUConfig, LSTMConfig, RNNConfig
from hf_seqmodels.models.configuration_seq2seq import AttentionSeq2SeqConfig, Seq2SeqConfig
from hf_seqmodels.models.modeling_seq2seq import AttentionSeq2SeqModel, Seq2SeqModel

SMALL = {"vocab_size": 20, "hidden_size": 8, "embedding_size": 6, "num_hidden_layers": 2}


@pytest.mark.parametrize(("cell_type", "kind"), [("rnn", RNNConfig), ("lstm", LSTMConfig), ("gru", GRUConfig)])
def test_stacks_are_of_the_cell(cell_type: str, kind: type) -> None:
    config = Seq2SeqConfig(**SMALL, cell_type=cell_type, hidden_dropout_prob=0.1, residual=True, locked_dropout=True)
    for stack in (config.encoder_config(), config.decoder_config()):
        assert type(stack) is kind
        assert (stack.vocab_size, stack.num_hidden_layers, stack.hidden_dropout_prob) == (20, 2, 0.1)
        assert stack.residual and stack.locked_dropout
    assert (config.encoder_layers, config.decoder_layers, config.is_encoder_decoder) == (2, 2, True)


def test_two_directions_share_the_units() -> None:
    both, one = (Seq2SeqConfig(**SMALL, bidirectional=value).encoder_config() for value in (True, False))
    assert (both.hidden_size, both.bidirectional, one.hidden_size, one.bidirectional) == (4, True, 8, False)
    assert not Seq2SeqConfig(**SMALL).decoder_config().bidirectional


@pytest.mark.parametrize(
    ("config", "width"),
    [
        (Seq2SeqConfig(**SMALL), 6),
        (Seq2SeqConfig(**SMALL, feed_context=True), 14),
        (AttentionSeq2SeqConfig(**SMALL), 6),
        (AttentionSeq2SeqConfig(**SMALL, input_feeding=True), 14),
        (Seq2SeqConfig(vocab_size=20, hidden_size=8), 8),
    ],
)
def test_width_of_the_decoders_input(config: Seq2SeqConfig | AttentionSeq2SeqConfig, width: int) -> None:
    assert config.decoder_input_size == config.decoder_config().input_size == width
    model_class = AttentionSeq2SeqModel if isinstance(config, AttentionSeq2SeqConfig) else Seq2SeqModel
    ids = torch.ones(1, 3, dtype=torch.long)
    states = model_class(config)(ids, decoder_input_ids=ids, output_hidden_states=True).decoder_hidden_states
    assert states[0].shape == (1, 3, width)


def test_when_a_decoder_goes_step_by_step() -> None:
    assert not AttentionSeq2SeqConfig(**SMALL).is_stepwise
    assert AttentionSeq2SeqConfig(**SMALL, input_feeding=True).is_stepwise
    assert AttentionSeq2SeqConfig(**SMALL, score="additive", coverage=True).is_stepwise
