"""Weights go both ways between SeqBert and transformers' BERT, in memory and through folders."""

import json
import warnings

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForPreTraining, BertConfig, BertForPreTraining, Trainer, TrainingArguments

import hf_seqmodels
from hf_seqmodels import SeqBertConfig, SeqBertForPreTraining
from hf_seqmodels.conversion.bert import (
    config_from_transformers,
    config_to_transformers,
    from_transformers,
    to_transformers,
)

HEADS = [
    "Model",
    "ForPreTraining",
    "ForMaskedLM",
    "ForNextSentencePrediction",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
]
SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
}
# The same weights go through the same sums in another order: float32 rounding (6e-8 of values around 1) through two
# layers stays some orders below this, and anything of substance (an epsilon, a mask, an activation) lies far above.
TOLERANCE = {"rtol": 0, "atol": 1e-5}


def randomise(model):
    """Weights and biases that are all far from their initial values, so that none can hide."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def inputs_for(head):
    shape = (3, 4, 9) if head == "ForMultipleChoice" else (3, 9)
    mask = torch.ones(shape, dtype=torch.long)
    mask[0, ..., 6:] = 0
    return {
        "input_ids": torch.randint(1, 50, shape),
        "token_type_ids": torch.randint(0, 2, shape),
        "attention_mask": mask,
    }


def assert_same_outputs(ours, theirs, inputs):
    with torch.no_grad():
        outputs, expected = ours(**inputs), theirs(**inputs)
    assert outputs.keys() == expected.keys()
    for name in outputs:
        torch.testing.assert_close(outputs[name], expected[name], **TOLERANCE)


@pytest.mark.parametrize("head", HEADS)
def test_both_directions_give_equal_outputs(head):
    theirs = randomise(getattr(transformers, f"Bert{head}")(BertConfig(**SIZES)))
    ours = from_transformers(theirs)
    assert type(ours) is getattr(hf_seqmodels, f"SeqBert{head}")
    assert_same_outputs(ours, theirs, inputs_for(head))
    back = to_transformers(ours)
    assert type(back) is type(theirs)
    for name, weight in theirs.state_dict().items():
        assert torch.equal(back.state_dict()[name], weight), name


def test_a_copy_shares_no_memory_and_keeps_mode_dtype_and_pooler():
    theirs = transformers.BertModel(BertConfig(**SIZES), add_pooling_layer=False).to(torch.bfloat16).train()
    state = torch.random.get_rng_state()
    ours = from_transformers(theirs)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert ours.pooler is None and ours.dtype == torch.bfloat16 and ours.training
    assert not {p.data_ptr() for p in ours.parameters()} & {p.data_ptr() for p in theirs.parameters()}


def test_untied_weights_stay_untied(tmp_path):
    theirs = randomise(BertForPreTraining(BertConfig(**SIZES, tie_word_embeddings=False)))
    ours = from_transformers(theirs)
    assert ours.cls.predictions.decoder.weight is not ours.bert.embeddings.word_embeddings.weight
    assert_same_outputs(ours, theirs, inputs_for("ForPreTraining"))
    assert_same_outputs(ours, to_transformers(ours), inputs_for("ForPreTraining"))
    theirs.save_pretrained(tmp_path)
    loaded, report = SeqBertForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert_same_outputs(loaded, theirs, inputs_for("ForPreTraining"))
    # the bias that only tied heads use is gone: every parameter trains
    loaded(**inputs_for("ForPreTraining")).to_tuple()[0].sum().backward()
    assert all(parameter.grad is not None for parameter in loaded.cls.predictions.parameters())


def test_config_fields_survive_both_ways():
    config = BertConfig(**SIZES, hidden_act="relu", classifier_dropout=0.3, num_labels=5, layer_norm_eps=1e-6)
    ours = config_from_transformers(config, unpad_inputs=True)
    assert (ours.model_type, ours.unpad_inputs, ours.num_labels) == ("seq_bert", True, 5)
    back = config_to_transformers(ours).to_dict()
    assert "unpad_inputs" not in back
    assert back == config.to_dict()


def test_refuses_decoders_and_unknown_heads():
    with pytest.raises(ValueError, match="is_decoder=True: SeqBert is an encoder"):
        from_transformers(transformers.BertForMaskedLM(BertConfig(**SIZES, is_decoder=True)))
    with pytest.raises(ValueError, match="model=BertLMHeadModel: there is no SeqBert class with this head"):
        from_transformers(transformers.BertLMHeadModel(BertConfig(**SIZES)))
    with pytest.raises(ValueError, match="model=BertForPreTraining is not a SeqBert"):
        to_transformers(BertForPreTraining(BertConfig(**SIZES)))


def old_names(name):
    """The names of TensorFlow's checkpoints of 2018, which many folders on the Hub still carry."""
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


@pytest.mark.parametrize("rename", [None, old_names], ids=["today's names", "gamma and beta"])
def test_a_bert_folder_loads_as_it_is(tmp_path, rename, caplog):
    theirs = randomise(BertForPreTraining(BertConfig(**SIZES)))
    folder = tmp_path / "bert"
    theirs.save_pretrained(folder)
    if rename is not None:
        weights = load_file(folder / "model.safetensors")
        assert any(rename(name) != name for name in weights)
        save_file({rename(n): w for n, w in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    transformers.utils.logging.enable_propagation()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ours, report = SeqBertForPreTraining.from_pretrained(folder, output_loading_info=True)
    finally:
        transformers.utils.logging.disable_propagation()
    assert [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    assert type(ours.config) is SeqBertConfig and ours.config.model_type == "seq_bert"
    assert_same_outputs(ours, theirs, inputs_for("ForPreTraining"))

    ours.save_pretrained(tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["model_type"] == "seq_bert"
    assert not any("gamma" in name for name in load_file(tmp_path / "ours" / "model.safetensors"))
    again = AutoModelForPreTraining.from_pretrained(tmp_path / "ours")
    assert type(again) is SeqBertForPreTraining
    assert_same_outputs(again, theirs, inputs_for("ForPreTraining"))


def test_trainer_resumes_a_model_that_came_from_old_names(tmp_path):
    """Trainer restores by `load_state_dict(strict=False)`: a checkpoint under the old names would be passed over."""
    BertForPreTraining(BertConfig(**SIZES)).save_pretrained(tmp_path / "bert")
    weights = load_file(tmp_path / "bert" / "model.safetensors")
    weights = {old_names(name): weight for name, weight in weights.items()}
    save_file(weights, tmp_path / "bert" / "model.safetensors", {"format": "pt"})
    rows = [{"input_ids": torch.arange(8), "labels": torch.arange(8), "next_sentence_label": torch.tensor(1)}] * 4
    arguments = TrainingArguments(
        str(tmp_path / "run"), max_steps=2, save_steps=2, use_cpu=True, report_to="none", disable_tqdm=True
    )
    trained = Trainer(SeqBertForPreTraining.from_pretrained(tmp_path / "bert"), arguments, train_dataset=rows)
    trained.train()
    resumed = Trainer(SeqBertForPreTraining(SeqBertConfig(**SIZES)), arguments, train_dataset=rows)
    resumed.train(resume_from_checkpoint=True)
    for name, weight in trained.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_ours_saved_as_theirs_loads_without_us(tmp_path):
    ours = randomise(SeqBertForPreTraining(SeqBertConfig(**SIZES)))
    to_transformers(ours).save_pretrained(tmp_path)
    theirs = AutoModelForPreTraining.from_pretrained(tmp_path)
    assert type(theirs) is BertForPreTraining
    assert_same_outputs(ours, theirs, inputs_for("ForPreTraining"))


@pytest.mark.parametrize(
    ("field", "message"),
    [({"is_decoder": True}, "is_decoder=True"), ({"position_embedding_type": "relative_key"}, "'relative_key'")],
)
def test_a_folder_of_another_kind_of_bert_is_refused(tmp_path, field, message):
    BertForPreTraining(BertConfig(**SIZES)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **field}))
    with pytest.raises(ValueError, match=message):
        SeqBertForPreTraining.from_pretrained(tmp_path)
