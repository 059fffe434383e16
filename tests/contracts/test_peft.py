"""PEFT's LoRA on BERT, ViT and the Transformer: adapters are what is trained, saved, merged, and never passed by.

By name one adapts what the LoRA paper does, the projections of queries and values (Hu et al. 2021, section 4.2):
`query` and `value` in SeqBert, `qkv` in SeqViT, `q_proj` and `v_proj` in VanillaTransformer.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from tests.contracts.cases import EXACT, Case, assert_equal_gradients, case_named, gradients
from tests.contracts.test_accumulation import largest_difference, rows_for_trainer, step_of_sgd
from tests.contracts.trainer_runs import (
    arguments,
    dropping_model,
    earlier_is_better,
    nothing_old_collected,
    rows_of,
    same,
    trainer_of,
)

# A fresh adapter adds nothing; drawn at random (`init_lora_weights=False`), it shows where it is passed by.
DRAWN: dict[str, Any] = {"r": 2, "lora_alpha": 8, "init_lora_weights": False}
BY_NAME: dict[str, dict[str, Any]] = {
    "SeqBertForSequenceClassification": {"task_type": "SEQ_CLS", "target_modules": ["query", "value"]},
    "SeqBertForMaskedLM": {"target_modules": ["query", "value"]},
    "SeqViTForImageClassification": {"target_modules": ["qkv"], "modules_to_save": ["classifier"]},
    "VanillaTransformerForConditionalGeneration": {
        "task_type": "SEQ_2_SEQ_LM",
        "target_modules": ["q_proj", "v_proj"],
    },
}
CLASSIFYING = ("SeqBertForSequenceClassification", "SeqViTForImageClassification")

# PEFT 0.21 asks a model for this.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

each_model = pytest.mark.parametrize("name", BY_NAME)
each_target = pytest.mark.parametrize("target", ["by name", "all-linear"])


@pytest.fixture(autouse=True, scope="module")
def _quick_collections() -> Iterator[None]:
    with nothing_old_collected():
        yield


def lora(name: str, target: str = "by name", **changes: Any) -> LoraConfig:
    """The adapter of a class, as a user would configure it."""
    settings = {**DRAWN, **BY_NAME[name], **changes}
    if target == "all-linear":
        settings["target_modules"] = target
    return LoraConfig(**settings)


def adapted(case: Case, config: LoraConfig, model: Any = None, **options: Any) -> PeftModel:
    """The toy with adapters, of the same weights at every call."""
    base = case.model(**options) if model is None else model
    torch.manual_seed(7)
    return get_peft_model(base, config)


def outputs_of(case: Case, model: Any, **options: Any) -> dict[str, torch.Tensor]:
    """Of one padded batch, in eval mode."""
    torch.manual_seed(5)
    batch = case.batch((9, 4, 1), targets=False)
    with torch.no_grad():
        outputs = model.eval()(**batch, **options)
    return {name: outputs[name] for name in case.head.outputs}


def assert_equal_outputs(case: Case, first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    for name in case.head.outputs:
        torch.testing.assert_close(first[name], second[name], **EXACT)


@each_model
@each_target
def test_merged_is_unmerged(name: str, target: str) -> None:
    """In float64, to the rounding of W + BA; the frozen model's outputs are others."""
    case = case_named(name)
    model = adapted(case, lora(name, target))
    expected = outputs_of(case, model)
    with model.disable_adapter():
        assert (outputs_of(case, model)["logits"] - expected["logits"]).abs().max() > 1e-2
        assert_equal_outputs(case, outputs_of(case, model), outputs_of(case, case.model()))
    merged = model.merge_and_unload()
    assert type(merged) is case.model_class
    assert_equal_outputs(case, outputs_of(case, merged), expected)


PATHS = {
    "SeqBertForSequenceClassification": [{"unpad_inputs": True}, {"unpad_inputs": False}],
    "SeqBertForMaskedLM": [
        {"unpad_inputs": True, "sparse_prediction": True, "sparse_last_layer": True},
        {"unpad_inputs": False, "sparse_prediction": False, "sparse_last_layer": False},
        {"unpad_inputs": False, "sparse_prediction": True, "sparse_last_layer": True},
    ],
    # Asked for hidden states, the last layer computes all tokens, not the class token alone.
    "SeqViTForImageClassification": [{}, {"output_hidden_states": True}, {"attn_implementation": "eager"}],
    "VanillaTransformerForConditionalGeneration": [
        {"unpad_inputs": True, "sparse_prediction": True},
        {"unpad_inputs": False, "sparse_prediction": False},
    ],
}


@each_model
@each_target
def test_no_fast_path_passes_adapters_by(name: str, target: str) -> None:
    """Loss and the adapters' gradients are the same, whichever way they are computed."""
    case = case_named(name)
    torch.manual_seed(5)
    batch = case.batch((9, 4, 1))
    (expected, expected_grads), *results = (
        gradients(adapted(case, lora(name, target), **options).train(), batch) for options in PATHS[name]
    )
    assert all("lora_" in key or "modules_to_save" in key for key in expected_grads)
    for outputs, grads in results:
        torch.testing.assert_close(outputs.loss, expected.loss, **EXACT)
        assert_equal_gradients(grads, expected_grads)


def test_nor_does_a_chunked_softmax() -> None:
    case, losses = case_named("LSTMForCausalLM"), []
    torch.manual_seed(5)
    batch = case.batch((9, 4, 1))
    for softmax in ("chunked", "full"):
        config = LoraConfig(**DRAWN, task_type="CAUSAL_LM", target_modules=["lm_head"])
        model = adapted(case, config, softmax=softmax, tie_word_embeddings=False).train()
        losses.append(gradients(model, batch))
    torch.testing.assert_close(losses[0][0].loss, losses[1][0].loss, **EXACT)
    assert_equal_gradients(losses[0][1], losses[1][1])


def test_nor_do_default_token_types() -> None:
    case = case_named("SeqBertForSequenceClassification")
    model = adapted(case, LoraConfig(**DRAWN, target_modules=["token_type_embeddings"])).eval()
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        default, zeros = model(input_ids=ids), model(input_ids=ids, token_type_ids=torch.zeros_like(ids))
    torch.testing.assert_close(default.logits, zeros.logits, **EXACT)


@pytest.mark.parametrize("settings", [{"target_modules": ["rnn"]}, {"target_parameters": ["rnn.weight_ih_l0"]}])
def test_recurrent_weights_are_refused(settings: dict[str, Any]) -> None:
    """Fused kernels take their weights, so LoRA could only be passed by: there is an error, not a silence."""
    case = case_named("LSTMForSequenceClassification")
    with pytest.raises((ValueError, AttributeError)):
        outputs_of(case, adapted(case, LoraConfig(**DRAWN, **settings)))


@each_model
@each_target
def test_trainer_trains_adapters_alone(name: str, target: str, tmp_path) -> None:
    """As users begin: adapters that add nothing yet. With and without activation checkpointing."""
    case = case_named(name)
    config = lora(name, target, init_lora_weights=True)
    results = []
    for checkpointing in (False, True):
        model = adapted(case, config, dropping_model(case))
        before = {key: weight.clone() for key, weight in model.state_dict().items()}
        trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
        settings = arguments(case, tmp_path, max_steps=3, activation_checkpointing=checkpointing)
        trainer_of(case, model, settings, rows_of(case, 6)).train()
        after = model.state_dict()
        assert {key for key in after if not torch.equal(after[key], before[key])} == trained
        assert all("lora_" in key or "classifier.modules_to_save" in key for key in trained)
        results.append({key: weight.clone() for key, weight in after.items()})
    assert same(*results)


@each_model
def test_accumulation_is_invisible(name: str, tmp_path) -> None:
    case = case_named(name)
    rows = rows_for_trainer(case)
    expected, result = (step_of_sgd(case, adapted(case, lora(name)), rows, *cut, tmp_path) for cut in ((8, 1), (2, 4)))
    assert max(grad.abs().max().item() for key, grad in expected.items() if "lora_" in key) > 1e-3
    assert largest_difference(result, expected) < 1e-12  # float64 sums in another order, over the learning rate


@each_model
def test_resumes_and_ends_with_the_best_adapters(name: str, tmp_path) -> None:
    case = case_named(name)

    def run(folder: Path, resumed_from: Path | None = None) -> Any:
        settings = arguments(
            case,
            folder,
            eval_strategy="steps",
            eval_steps=2,
            save_strategy="steps",
            save_steps=2,
            load_best_model_at_end=True,
            metric_for_best_model="score",
        )
        model = adapted(case, lora(name), dropping_model(case))
        metrics = earlier_is_better([] if resumed_from is None else [None])
        trainer = trainer_of(case, model, settings, rows_of(case), compute_metrics=metrics)
        trainer.train(resume_from_checkpoint=None if resumed_from is None else str(resumed_from))
        return trainer

    trainer = run(tmp_path / "whole")
    torch.manual_seed(99)
    run(tmp_path / "resumed", tmp_path / "whole/checkpoint-2")
    best, last, again = (
        load_file(tmp_path / folder / "adapter_model.safetensors")
        for folder in ("whole/checkpoint-2", "whole/checkpoint-4", "resumed/checkpoint-4")
    )
    assert same(again, last) and not same(best, last)
    assert trainer.state.best_model_checkpoint == str(tmp_path / "whole/checkpoint-2")
    trainer.save_model(str(tmp_path / "final"))
    assert same(load_file(tmp_path / "final/adapter_model.safetensors"), best)


@each_model
def test_adapters_round_trip(name: str, tmp_path) -> None:
    """What is saved is the adapter, with the classifier that was trained along; a fresh base takes it up."""
    case = case_named(name)
    model = adapted(case, lora(name))
    if name in CLASSIFYING:
        with torch.no_grad():
            model.base_model.model.classifier.modules_to_save["default"].weight.mul_(2.0)
    expected = outputs_of(case, model)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert all("lora_" in key or "classifier" in key for key in saved)
    assert any("classifier" in key for key in saved) == (name in CLASSIFYING)
    again = PeftModel.from_pretrained(case.model(), tmp_path)
    assert same(outputs_of(case, again), expected)


def test_a_folder_of_adapters_by_auto_classes(tmp_path) -> None:
    """PEFT's and transformers' own find the base model that the adapter names."""
    case = case_named("SeqBertForSequenceClassification")
    case.model().save_pretrained(tmp_path / "base")
    model = adapted(case, lora(case.model_class.__name__), case.load(tmp_path / "base"))
    expected = outputs_of(case, model)
    model.save_pretrained(tmp_path / "adapter")
    for auto in (AutoPeftModelForSequenceClassification, AutoModelForSequenceClassification):
        again = auto.from_pretrained(tmp_path / "adapter", dtype=torch.float64)
        assert_equal_outputs(case, outputs_of(case, again), expected)


@each_model
def test_transformers_own_adapters(name: str, tmp_path) -> None:
    """`model.add_adapter`: the same outputs as PEFT's wrapper; on, off, saved and loaded."""
    case = case_named(name)
    config = lora(name)
    config.modules_to_save = None  # which add_adapter has no use for
    expected = outputs_of(case, adapted(case, lora(name, task_type=None, modules_to_save=None)))
    model = case.model()
    torch.manual_seed(7)
    model.add_adapter(config)
    assert_equal_outputs(case, outputs_of(case, model), expected)
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    again = case.model()
    again.load_adapter(str(tmp_path))
    assert same(outputs_of(case, again), outputs_of(case, model))
    again.disable_adapters()
    assert_equal_outputs(case, outputs_of(case, again), outputs_of(case, case.model()))


@pytest.mark.parametrize("beams", [1, 3])
@each_target
def test_generates_by_its_adapters(beams: int, target: str) -> None:
    """The merged model's translations, with a cache and without; the frozen model's are others."""
    name = "VanillaTransformerForConditionalGeneration"
    case = case_named(name)
    model = adapted(case, lora(name, target)).eval()
    torch.manual_seed(5)
    batch = case.batch((9, 4, 1))
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    settings = {"max_new_tokens": 8, "num_beams": beams, "do_sample": False}
    expected = model.generate(**inputs, **settings)
    assert torch.equal(model.generate(**inputs, **settings, use_cache=False), expected)
    with model.disable_adapter():
        assert not torch.equal(model.generate(**inputs, **settings), expected)
    assert torch.equal(model.merge_and_unload().generate(**inputs, **settings), expected)
