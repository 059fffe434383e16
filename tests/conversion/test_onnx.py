"""onnxruntime says what the model says, for batches and lengths that no export has seen."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from tests.contracts.cases import CASES, TRANSLATING, Case, case_named, name_of

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
from hf_seqmodels.conversion.onnx import OLDEST_OPSET, export_onnx  # noqa: E402 - needs the extra

# float32 sums in another order: 4e-7 to 2e-6 of the largest value, measured; a wrong mask or state is off by 1e-2 and
# more.
TOLERANCE = 1e-5
# One row, one token, more rows than the example's, rows shorter than their batch.
LENGTHS = ((9, 4, 1), (5,), (1,), (3, 2, 8, 1))
UNEXPORTED = "SeqViTForPreTraining"

# What runs by default: each family and each kind of recurrence; all else is slow.
QUICK = {
    "SeqBertForMultipleChoice-unpad_inputs",
    "SeqViTForMaskedImageModeling-plain",
    "RNNForTokenClassification-bidirectional",
    "GRUForSequenceClassification-layernorm",
    "LSTMForSequenceClassification-projected",
    "LSTMForCausalLM-plain",
    "AttentionSeq2SeqForConditionalGeneration-feeding",
    "VanillaTransformerForConditionalGeneration-pre-LN",
}


def over_exports(cases: list[Case]) -> pytest.MarkDecorator:
    """Runs a test with `case` and the `options` of each variant; most are slow."""
    return pytest.mark.parametrize(
        ("case", "options"),
        [
            pytest.param(case, options, id=name, marks=[] if name in QUICK else pytest.mark.slow)
            for case in cases
            if name_of(case) != UNEXPORTED
            for variant, options in case.variants.items()
            for name in [f"{name_of(case)}-{variant}"]
        ],
    )


class Session:
    """An ONNX file in onnxruntime: named arrays to named arrays."""

    def __init__(self, path: Path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]

    def __call__(self, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
        fed = {name: np.asarray(feeds[name]) for name in self.inputs}
        return dict(zip(self.outputs, self.session.run(None, fed)))

    def next(self, known: dict[str, Any], **new: Any) -> dict[str, np.ndarray]:
        """As the module describes decoding: `past_…` is what `present_…` was."""
        return self({**{name: known.get(name.replace("past_", "present_")) for name in self.inputs}, **new})


def assert_close(got: np.ndarray, expected: torch.Tensor, name: str) -> None:
    assert got.shape == tuple(expected.shape), name
    if expected.is_floating_point():
        error = np.abs(got - expected.numpy()).max()
        assert error <= TOLERANCE * float(expected.abs().max()), f"{name}: {error}"
    else:
        assert (got == expected.numpy()).all(), name


def batches(case: Case) -> list[dict[str, Any]]:
    """Batches of several sizes and lengths, padded on each side; images fill their size."""
    if "pixel_values" in case.batch((6,), targets=False):
        some = [
            {"pixel_values": torch.randn(rows, 2, 6, 8), "bool_masked_pos": torch.rand(rows, 6) < 0.5}
            for rows in (1, 2, 5)
        ]
        masked = "bool_masked_pos" in case.head.targets
        return [batch if masked else {"pixel_values": batch["pixel_values"]} for batch in some]
    return [case.batch(lengths, False, side) for lengths in LENGTHS for side in case.toy.modality.sides]


@over_exports([case for case in CASES if case not in TRANSLATING])
def test_onnxruntime_says_what_the_model_says(case: Case, options: dict[str, Any], tmp_path: Path) -> None:
    model = case.model(torch.float32, **options)
    session = Session(export_onnx(model, tmp_path) / "model.onnx")
    for batch in batches(case):
        got = session(batch)
        with torch.no_grad():
            expected = model(**batch)
        if "feature_maps" in expected:
            named = {f"feature_map.{name}": value for name, value in zip(model.out_features, expected.feature_maps)}
            assert got.keys() == named.keys()
            for name, value in named.items():
                assert_close(got[name], value, name)
            continue
        assert set(case.head.outputs) <= got.keys() and "loss" not in got
        if "predictions" in expected:
            assert_close(got["predictions"], expected.predictions, "predictions")
        if "attention_mask" not in batch:
            for name in case.head.outputs:
                assert_close(got[name], expected[name], name)
            continue
        torch_got: Any = {name: torch.from_numpy(value) for name, value in got.items()}
        parts, wanted = case.real_parts(torch_got, batch), case.real_parts(expected, batch)
        for name in case.head.outputs:
            for row, right in zip(parts[name], wanted[name], strict=True):
                assert_close(row.numpy(), right, name)


@over_exports(TRANSLATING)
def test_decoding_in_chunks_says_what_the_model_says(
    case: Case, options: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = case.model(torch.float32, **options)
    folder = export_onnx(model, tmp_path)
    capfd.readouterr()
    encoder, decoder = Session(folder / "encoder_model.onnx"), Session(folder / "decoder_model.onnx")
    assert capfd.readouterr().err == ""  # onnxruntime finds nothing to warn of
    for batch in batches(case):
        del batch["decoder_attention_mask"]  # targets are padded on the right, where nobody looks
        with torch.no_grad():
            expected = model(**batch)
        known = {**batch, **encoder(batch)}
        real = batch["attention_mask"].bool()
        states = torch.from_numpy(known["encoder_hidden_states"])
        assert_close(states[real].numpy(), expected.encoder_last_hidden_state[real], "encoder_hidden_states")
        name = "logits" if "logits" in expected else "last_hidden_state"
        parts = []
        # One call, or a token, another and the rest.
        for chunk in batch["decoder_input_ids"].tensor_split([1, 2], dim=1):
            if chunk.shape[1]:
                known |= decoder.next(known, decoder_input_ids=chunk)
                parts.append(known[name])
        assert_close(np.concatenate(parts, axis=1), expected[name], name)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """An LSTM whose initial state is learned, and its files."""
    model = case_named("LSTMForCausalLM").model(torch.float32, learn_initial_state=True, num_hidden_layers=1)
    return model, export_onnx(model, tmp_path_factory.mktemp("lm"))


def test_a_language_model_goes_on_from_its_state(language_model: tuple[Any, Path]) -> None:
    model, folder = language_model
    begin, resume = Session(folder / "model.onnx"), Session(folder / "model_with_past.onnx")
    prompt = torch.randint(1, 60, (3, 5))
    expected = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False)
    known: dict[str, Any] = begin({"input_ids": prompt, "attention_mask": torch.ones_like(prompt)})
    tokens = [known["logits"][:, -1].argmax(-1)]
    for _ in range(7):
        known = resume.next(known, input_ids=tokens[-1][:, None], attention_mask=np.ones((3, 1), dtype=np.int64))
        tokens.append(known["logits"][:, -1].argmax(-1))
    assert (np.stack(tokens, axis=1) == expected[:, 5:].numpy()).all()


def test_a_row_of_padding_alone_keeps_its_state(language_model: tuple[Any, Path]) -> None:
    resume = Session(language_model[1] / "model_with_past.onnx")
    states = {f"present_{name}": np.random.default_rng(0).normal(size=(2, 1, 16)) for name in ("hidden", "cell")}
    states = {name: value.astype(np.float32) for name, value in states.items()}
    mask = np.array([[1, 1], [0, 0]])
    after = resume.next(states, input_ids=np.ones((2, 2), dtype=np.int64), attention_mask=mask)
    for name, before in states.items():
        assert (after[name][1] == before[1]).all()
        assert (after[name][0] != before[0]).any()


def test_what_the_tolerance_would_miss_is_far_beyond_it(language_model: tuple[Any, Path]) -> None:
    """Negative control: padding on the left taken for tokens, or a state forgotten."""
    begin, resume = (Session(language_model[1] / f"{name}.onnx") for name in ("model", "model_with_past"))
    ids, mask = np.random.default_rng(0).integers(1, 60, (2, 4)), np.array([[0, 0, 1, 1], [1, 1, 1, 1]])
    right, wrong = (begin({"input_ids": ids, "attention_mask": given}) for given in (mask, np.ones_like(mask)))
    forgotten = {name: np.zeros_like(value) for name, value in right.items()}
    nexts = [resume.next(known, input_ids=ids, attention_mask=mask)["logits"] for known in (right, forgotten)]
    for one, other in ((right["logits"][0, 2:], wrong["logits"][0, 2:]), nexts):
        assert np.abs(one - other).max() > 1000 * TOLERANCE * np.abs(one).max()


def test_the_model_stays_as_it_was(language_model: tuple[Any, Path], tmp_path: Path) -> None:
    model = case_named("SeqBertForSequenceClassification").model(torch.float32, unpad_inputs=True).train()
    weights, config = copy.deepcopy(model.state_dict()), model.config.to_dict()
    export_onnx(model, tmp_path, opset=OLDEST_OPSET + 2)
    assert model.training and model.config.to_dict() == config
    assert all((value == weights[name]).all() for name, value in model.state_dict().items())
    # Nor do files say anything of dropout: the same twice.
    session = Session(tmp_path / "model.onnx")
    batch = case_named("SeqBertForSequenceClassification").batch((4, 2), targets=False)
    assert (session(batch)["logits"] == session(batch)["logits"]).all()
    assert {entry.version for entry in _opsets(tmp_path / "model.onnx") if entry.domain == ""} == {OLDEST_OPSET + 2}


def _opsets(path: Path) -> Any:
    import onnx

    return onnx.load(path).opset_import


def test_what_cannot_be_exported_is_refused(language_model: tuple[Any, Path], tmp_path: Path) -> None:
    model, folder = language_model
    with pytest.raises(ValueError, match=r"has model\.onnx already"):
        export_onnx(model, folder)
    with pytest.raises(ValueError, match=r"opset=17 must lie in \[18, "):
        export_onnx(model, tmp_path, opset=17)
    with pytest.raises(ValueError, match=r"model=SeqViTForPreTraining: .* Load the checkpoint as SeqViTModel"):
        export_onnx(case_named(UNEXPORTED).model(torch.float32), tmp_path)
    part = case_named("VanillaTransformerModel").model(torch.float32).encoder
    theirs = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9))
    for stranger in (part, theirs):
        with pytest.raises(ValueError, match=f"model={type(stranger).__name__}: only whole models"):
            export_onnx(stranger, tmp_path)
    assert not list(tmp_path.iterdir())
