"""Vocabulary tables can be grown and shrunk, tied or not, and come back from a checkpoint so."""

import pytest
import torch

from hf_seqmodels import SeqBertConfig, SeqBertForMaskedLM, SeqBertForPreTraining, SeqBertModel

SIZES = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.mark.parametrize("model_class", [SeqBertForMaskedLM, SeqBertForPreTraining])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("size", [37, 21])
def test_resize(model_class: type, tied: bool, size: int, tmp_path) -> None:
    model = model_class(SeqBertConfig(**SIZES, tie_word_embeddings=tied))
    head, words = model.cls.predictions, model.get_input_embeddings().weight.detach().clone()
    bias = torch.nn.init.normal_(head.decoder.bias).detach().clone()
    model.resize_token_embeddings(size)
    head, common = model.cls.predictions, min(size, 30)
    assert model.config.vocab_size == size
    assert torch.equal(model.get_input_embeddings().weight[:common], words[:common])
    assert torch.equal(head.decoder.bias[:common], bias[:common])
    assert head.decoder.weight.shape == (size, 8) and head.decoder.bias.shape == (size,)
    assert (head.decoder.weight is model.get_input_embeddings().weight) is tied
    assert getattr(head, "bias", None) is (head.decoder.bias if tied else None)
    ids = torch.randint(1, size, (2, 5))
    outputs = model.train()(ids, labels=ids)
    outputs.loss.backward()
    assert head.decoder.bias.grad.abs().max() > 0
    model.eval().save_pretrained(tmp_path)
    again, report = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    torch.testing.assert_close(again(ids).to_tuple()[0], model(ids).to_tuple()[0])


def test_the_bare_model_resizes_too() -> None:
    model = SeqBertModel(SeqBertConfig(**SIZES))
    model.resize_token_embeddings(64)
    assert model(torch.full((1, 3), 63)).last_hidden_state.shape == (1, 3, 8)


@pytest.mark.parametrize("pad", [0, 3, None])
def test_padding_has_a_zero_embedding(pad: int | None) -> None:
    words = SeqBertModel(SeqBertConfig(**SIZES, pad_token_id=pad)).get_input_embeddings()
    assert words.padding_idx == pad
    assert words.weight.ne(0).any(-1).all() if pad is None else words.weight[pad].eq(0).all()
