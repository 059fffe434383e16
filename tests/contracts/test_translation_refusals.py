"""Contract 9 for encoder–decoders: bad configurations, inputs, sources and caches are refused by name."""

import json
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from hf_seqmodels.models.recurrent_cache import RecurrentCache
from tests.contracts.cases import TRANSLATING, Case, case_named, name_of

each_case = pytest.mark.parametrize("case", TRANSLATING, ids=name_of)
WITH_HEAD = [case for case in TRANSLATING if case.head.targets]
RECURRENT = [case for case in TRANSLATING if not case.toy.attends]
SIZES = ("encoder_layers", "decoder_layers", "encoder_ffn_dim", "decoder_ffn_dim", "max_position_embeddings")

BAD_FIELDS: list[tuple[str, dict[str, Any], str]] = [
    *(
        ("Seq2SeqModel", {name: value}, f"{name}={value} must be at least 1")
        for name in ("hidden_size", "embedding_size", "num_hidden_layers")
        for value in (0, -4)
    ),
    *(("VanillaTransformerModel", {name: 0}, f"{name}=0 must be at least 1") for name in ("d_model", *SIZES)),
    *(
        ("AttentionSeq2SeqModel", {name: value}, rf"{name}={value} must lie in \[0, 1\)")
        for name in (
            "hidden_dropout_prob",
            "input_dropout_prob",
            "output_dropout_prob",
            "embedding_dropout_prob",
            "recurrent_dropout_prob",
            "label_smoothing",
        )
        for value in (-0.1, 1)
    ),
    *(
        ("VanillaTransformerModel", {name: 1.0}, rf"{name}=1.0 must lie in \[0, 1\)")
        for name in ("dropout", "attention_dropout", "activation_dropout", "label_smoothing")
    ),
    ("Seq2SeqModel", {"vocab_size": 0}, "vocab_size=0"),
    ("Seq2SeqModel", {"hidden_size": 15}, "hidden_size=15 must be even with bidirectional=True"),
    ("Seq2SeqModel", {"cell_type": "qrnn"}, "cell_type='qrnn' is not known; choose one of rnn, lstm, gru"),
    ("Seq2SeqModel", {"bridge": "relu"}, "bridge='relu' is not known; choose one of copy, linear, tanh"),
    ("Seq2SeqModel", {"sampling_unit": "row"}, "sampling_unit='row' is not known; choose one of token, step"),
    ("Seq2SeqModel", {"recurrent_init": "identity"}, "recurrent_init='identity' is not known; choose one of"),
    ("Seq2SeqModel", {"initializer_range": -1.0}, "initializer_range=-1.0 must not be negative"),
    ("Seq2SeqModel", {"pad_token_id": 60}, r"pad_token_id=60 must lie in \[0, vocab_size=60\)"),
    ("Seq2SeqModel", {"decoder_start_token_id": -1}, r"decoder_start_token_id=-1 must lie in \[0, vocab_size=60\)"),
    ("Seq2SeqModel", {"tie_word_embeddings": False}, "share_embeddings=True needs tie_word_embeddings=True"),
    ("Seq2SeqModel", {"feed_context": 1}, "feed_context"),
    ("AttentionSeq2SeqModel", {"score": "cosine"}, "score='cosine' is not known; choose one of dot, scaled_dot, gen"),
    ("AttentionSeq2SeqModel", {"coverage": True}, "coverage=True needs score='additive', not 'general'"),
    ("AttentionSeq2SeqModel", {"coverage_weight": 1.0}, "coverage_weight=1.0 must be at least 0, and 0 without cover"),
    (
        "AttentionSeq2SeqModel",
        {"coverage_weight": -1.0, "coverage": True, "score": "additive"},
        "coverage_weight=-1.0 must be at least 0",
    ),
    ("VanillaTransformerModel", {"encoder_attention_heads": 3}, "d_model=16 is not divisible by encoder_attention_he"),
    ("VanillaTransformerModel", {"decoder_attention_heads": 5}, "d_model=16 is not divisible by decoder_attention_he"),
    ("VanillaTransformerModel", {"decoder_attention_heads": 0}, "decoder_attention_heads=0 must be at least 1"),
    (
        "VanillaTransformerModel",
        {"d_model": 15, "encoder_attention_heads": 3, "decoder_attention_heads": 3},
        "d_model=15 must be even for sinusoidal positions",
    ),
    ("VanillaTransformerModel", {"activation_function": "rely"}, "activation_function='rely' is not known"),
    ("VanillaTransformerModel", {"position_embedding_type": "rotary"}, "position_embedding_type='rotary' is not know"),
    ("VanillaTransformerModel", {"init_std": -0.1}, "init_std=-0.1 must not be negative"),
    ("VanillaTransformerModel", {"pad_token_id": -1}, r"pad_token_id=-1 must lie in \[0, vocab_size=60\)"),
    (
        "VanillaTransformerModel",
        {"tie_word_embeddings": False},
        "share_encoder_decoder_embeddings=True needs tie_word_embeddings=True",
    ),
    ("VanillaTransformerModel", {"unpad_inputs": 1}, "unpad_inputs"),
]


@pytest.mark.parametrize(("name", "fields", "message"), BAD_FIELDS)
def test_bad_configurations(name: str, fields: dict[str, Any], message: str, tmp_path) -> None:
    case = case_named(name)
    with pytest.raises(StrictDataclassError, match=message):
        case.config(**fields)
    config = case.config()
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**saved, **fields}))
    with pytest.raises(StrictDataclassError, match=message):
        type(config).from_pretrained(tmp_path)


def pair(**changes: Any) -> dict[str, Any]:
    """Two sources of six tokens, two targets of four; with changes."""
    batch = {
        "input_ids": torch.full((2, 6), 5),
        "attention_mask": torch.ones(2, 6, dtype=torch.long),
        "decoder_input_ids": torch.full((2, 4), 7),
        "decoder_attention_mask": torch.ones(2, 4, dtype=torch.long),
        **changes,
    }
    return {name: value for name, value in batch.items() if value is not None}


hidden_row = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
BAD_INPUTS = {
    "no source": (pair(input_ids=None), "Exactly one of input_ids and inputs_embeds"),
    "two sources": (pair(inputs_embeds=torch.zeros(2, 6, 16)), "Exactly one of input_ids and inputs_embeds"),
    "one dimension": (pair(input_ids=torch.arange(6)), r"input_ids must be \(batch, seq_len\); got \(6,\)"),
    "embeddings of another width": (
        pair(input_ids=None, inputs_embeds=torch.zeros(2, 6, 8)),
        r"inputs_embeds must be \(batch, seq_len, (embedding_size|d_model)=16\); got \(2, 6, 8\)",
    ),
    "float ids": (pair(input_ids=torch.zeros(2, 6)), "input_ids must hold int64 or int32, not torch.float32"),
    "no tokens": (pair(input_ids=torch.zeros(2, 0, dtype=torch.long)), "seq_len=0; each row needs"),
    "outside the vocabulary": (pair(input_ids=torch.full((2, 6), 60)), "^input_ids holds 60, outside"),
    "short mask": (pair(attention_mask=torch.ones(2, 5)), r"attention_mask of shape \(2, 5\) does not fit"),
    "mask of another batch": (pair(attention_mask=torch.ones(1, 6)), r"attention_mask of shape \(1, 6\) does not"),
    "source of zero length": (pair(attention_mask=hidden_row), "attention_mask hides every token of row 1"),
    "no target": (pair(decoder_input_ids=None, decoder_attention_mask=None), "decoder_input_ids are missing"),
    "two targets": (pair(decoder_inputs_embeds=torch.zeros(2, 4, 16)), "Exactly one of"),
    "target outside the vocabulary": (
        pair(decoder_input_ids=torch.full((2, 4), 60)),
        "decoder_input_ids holds 60, outside",
    ),
    "targets of another batch": (
        pair(decoder_input_ids=torch.full((3, 4), 7), decoder_attention_mask=None),
        "The decoder's input has batch size 3",
    ),
    "target mask of another length": (
        pair(decoder_attention_mask=torch.ones(2, 3)),
        r"decoder_attention_mask of shape \(2, 3\) does not fit",
    ),
    "target mask of another batch": (
        pair(decoder_attention_mask=torch.ones(1, 4)),
        r"decoder_attention_mask of shape \(1, 4\) does not fit",
    ),
}


@each_case
@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs(case: Case, name: str) -> None:
    inputs, message = BAD_INPUTS[name]
    with pytest.raises(ValueError, match=message):
        case.model(torch.float32)(**inputs)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_longer_than_the_positions(positions: str) -> None:
    model = case_named("VanillaTransformerModel").model(position_embedding_type=positions)
    ids, message = torch.full((2, 17), 5), "17 tokens is longer than max_position_embeddings=16"
    with pytest.raises(ValueError, match=message):
        model(ids, decoder_input_ids=ids[:, :3])
    with pytest.raises(ValueError, match=message):
        model(ids[:, :3], decoder_input_ids=ids)
    cache = model(ids[:, :3], decoder_input_ids=ids[:, :15]).past_key_values
    with pytest.raises(ValueError, match=message):
        model(ids[:, :3], decoder_input_ids=ids[:, :2], past_key_values=cache)


BAD_LABELS = {
    "beyond the vocabulary": (torch.full((2, 4), 60), r"labels holds 60, outside \[0, 60\) \(-100 means"),
    "negative": (torch.full((2, 4), -1), "labels holds -1"),
    "of another batch": (torch.full((3, 4), 5), "The decoder's input has batch size 3"),
}


@pytest.mark.parametrize("case", WITH_HEAD, ids=name_of)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", BAD_LABELS)
def test_bad_labels(case: Case, training: bool, name: str) -> None:
    labels, message = BAD_LABELS[name]
    with pytest.raises(ValueError, match=message):
        case.model().train(training)(torch.full((2, 6), 5), labels=labels)


@pytest.mark.parametrize("case", WITH_HEAD, ids=name_of)
def test_labels_that_do_not_fit_the_decoders_inputs(case: Case) -> None:
    with pytest.raises(ValueError, match=r"labels of shape \(2, 3\) do not fit; \(2, 4\) is expected"):
        case.model()(**pair(), labels=torch.full((2, 3), 5))


@pytest.mark.parametrize("case", WITH_HEAD, ids=name_of)
def test_labels_need_a_start_and_padding(case: Case) -> None:
    for missing in ("decoder_start_token_id", "pad_token_id"):
        with pytest.raises(ValueError, match=f"{missing}=None.*labels need both to be shifted"):
            case.model(**{missing: None})(torch.full((2, 6), 5), labels=torch.full((2, 4), 5))


@pytest.mark.parametrize("name", ["Seq2SeqModel", "Seq2SeqForConditionalGeneration"])
def test_seq2seq_has_no_attention(name: str) -> None:
    for model, asked in (
        (case_named(name).model(), {"output_attentions": True}),
        (case_named(name).model(output_attentions=True), {}),
    ):
        with pytest.raises(ValueError, match="output_attentions=True: Seq2Seq has no attention, only a fixed-size"):
            model(**pair(), **asked)


def cache_of(name: str, rows: int = 2, source_len: int = 6, **options: Any) -> Any:
    """What some model keeps of three target tokens."""
    model = case_named(name).model(**options)
    source, target = torch.full((rows, source_len), 5), torch.full((rows, 3), 7)
    return model(source, decoder_input_ids=target).past_key_values


FED = {"input_feeding": True}
COVERED = {"score": "additive", "coverage": True}
BAD_STATES: list[tuple[str, dict[str, Any], Any, str]] = [
    ("Seq2SeqModel", {}, DynamicCache, "past_key_values is a DynamicCache; Seq2SeqModel|RecurrentSeq2SeqModel needs"),
    ("Seq2SeqModel", {}, tuple, "past_key_values is a tuple"),
    ("Seq2SeqModel", {}, lambda: RecurrentCache(3), "past_key_values has 3 layers; this decoder's state has 2"),
    ("Seq2SeqModel", {}, lambda: RecurrentCache(0), "past_key_values has 0 layers"),
    ("Seq2SeqModel", {}, lambda: cache_of("Seq2SeqModel", rows=3), r"states of shapes \[\[\(3, 1, 16\)"),
    ("Seq2SeqModel", {}, lambda: cache_of("Seq2SeqModel", hidden_size=8), r"states of shapes \[\[\(2, 1, 8\)"),
    ("Seq2SeqModel", {}, lambda: cache_of("Seq2SeqModel", cell_type="gru"), "holds states of shapes"),
    ("Seq2SeqModel", {"cell_type": "gru"}, lambda: cache_of("Seq2SeqModel"), "holds states of shapes"),
    ("Seq2SeqModel", {}, lambda: cache_of("VanillaTransformerModel"), "past_key_values is a TransformerCache"),
    ("AttentionSeq2SeqModel", FED, lambda: cache_of("AttentionSeq2SeqModel"), "has 2 layers; .* state has 3"),
    ("AttentionSeq2SeqModel", {}, lambda: cache_of("AttentionSeq2SeqModel", **COVERED), "has 3 layers; .* has 2"),
    (
        "AttentionSeq2SeqModel",
        COVERED,
        lambda: cache_of("AttentionSeq2SeqModel", source_len=9, **COVERED),
        r"\[\(2, 1, 9\)\]\]; .*\[\(2, 1, 6\)\]\] are expected",
    ),
    ("VanillaTransformerModel", {}, DynamicCache, "past_key_values is a DynamicCache; an EncoderDecoderCache"),
    ("VanillaTransformerModel", {}, lambda: cache_of("Seq2SeqModel"), "past_key_values is a RecurrentCache"),
    (
        "VanillaTransformerModel",
        {},
        lambda: cache_of("VanillaTransformerModel", rows=4),
        r"past_key_values of target tokens has batch size \(4,\); \(2,\) is expected",
    ),
    (
        "VanillaTransformerModel",
        {},
        lambda: cache_of("VanillaTransformerModel", source_len=9),
        r"past_key_values of sources has batch size and length \(2, 9\); \(2, 6\) is expected",
    ),
    (
        "VanillaTransformerModel",
        {},
        lambda: cache_of("VanillaTransformerModel", decoder_layers=2),
        "past_key_values has 2 layers, the model decoder_layers=3",
    ),
]


@pytest.mark.parametrize(("name", "options", "make", "message"), BAD_STATES)
def test_bad_caches(name: str, options: dict, make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case_named(name).model(**options)(**pair(decoder_attention_mask=None), past_key_values=make())


@pytest.mark.parametrize("case", RECURRENT, ids=name_of)
def test_sources_of_another_model(case: Case) -> None:
    model = case.model()

    def encoded(**options: Any) -> Any:
        return case.model(**options).base_model.encoder(torch.full((2, 6), 5))

    for given, message in (
        (
            BaseModelOutput(torch.zeros(2, 6, 16)),
            "encoder_outputs is a BaseModelOutput; the output of this model",
        ),
        ((torch.zeros(2, 6, 16),), "encoder_outputs is a tuple"),
        (encoded(num_hidden_layers=1), r"final_hidden of shape \(2, 1, 16\), with final_cell, is another model's"),
        (
            encoded(hidden_size=8),
            r"final_hidden of shape \(2, 2, 8\), with final_cell, is another model's",
        ),
        (encoded(cell_type="gru"), "without final_cell, is another model's; .* of cell_type='lstm' is expected"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**pair(input_ids=None), encoder_outputs=given)
    with pytest.raises(ValueError, match=r"attention_mask of shape \(2, 5\) does not fit the input \(2, 6\)"):
        model(**pair(input_ids=None, attention_mask=torch.ones(2, 5)), encoder_outputs=encoded())


def test_sources_of_another_model_for_a_transformer() -> None:
    model = case_named("VanillaTransformerModel").model()
    recurrent = case_named("Seq2SeqModel").model().encoder(torch.full((2, 6), 5))
    for given, message in (
        (recurrent, "encoder_outputs is a RecurrentEncoderOutput; a BaseModelOutput is needed"),
        (BaseModelOutput(torch.zeros(2, 6, 8)), r"encoder_hidden_states of shape \(2, 6, 8\) .* d_model=16"),
        ((torch.zeros(2, 16),), r"encoder_hidden_states of shape \(2, 16\) are another model's"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**pair(input_ids=None), encoder_outputs=given)
    with pytest.raises(ValueError, match=r"attention_mask of shape \(2, 5\) does not fit the input \(2, 6\)"):
        model(
            **pair(input_ids=None, attention_mask=torch.ones(2, 5)),
            encoder_outputs=BaseModelOutput(torch.zeros(2, 6, 16).double()),
        )


def test_an_empty_cache_of_the_library_will_do() -> None:
    model = case_named("VanillaTransformerModel").model()
    outputs = model(**pair(), past_key_values=EncoderDecoderCache(DynamicCache(), DynamicCache()))
    torch.testing.assert_close(outputs.last_hidden_state, model(**pair()).last_hidden_state, rtol=0, atol=0)


@each_case
def test_own_tables_are_set_by_hand(case: Case) -> None:
    own = {"share_encoder_decoder_embeddings": False} if case.toy.attends else {"share_embeddings": False}
    with pytest.raises(ValueError, match=r"=False: set encoder.embed_tokens and decoder.embed_tokens yourself"):
        case.model(**own).set_input_embeddings(torch.nn.Embedding(60, 16))
