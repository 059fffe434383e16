"""Contract 1: what is saved is what is loaded, through every Auto class."""

import math
import os

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from tests.contracts.cases import CASES, Case, over_variants


@over_variants(CASES)
def test_bit_exact_through_the_auto_class(case: Case, options: dict, tmp_path) -> None:
    model = case.model(**options)
    model.save_pretrained(tmp_path)
    assert [name for name in os.listdir(tmp_path) if name.endswith((".bin", ".pt", ".pkl"))] == []
    again, report = case.load(tmp_path, output_loading_info=True)
    assert type(again) is case.model_class
    assert not any(report.values()), report
    assert again.dtype == torch.float64 and not again.training
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    # safetensors maps weights at addresses with which BLAS takes other kernels: last bits differ until they are moved.
    for parameter in again.parameters():
        parameter.data = parameter.data.clone()
    batch = case.batch(targets=False)
    with torch.no_grad():
        outputs, expected = again(**batch), model(**batch)
    for name in case.head.outputs:
        torch.testing.assert_close(outputs[name], expected[name], rtol=0, atol=0)


@over_variants(CASES)
def test_the_config_comes_back_equal(case: Case, options: dict, tmp_path) -> None:
    config = case.config(**options)
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is type(config)
    left_out = {"_name_or_path", "transformers_version"}
    assert {k: v for k, v in again.to_dict().items() if k not in left_out} == {
        k: v for k, v in config.to_dict().items() if k not in left_out
    }
    if isinstance(case.key, str):
        assert type(case.auto.from_config(config)) is case.model_class


@over_variants(CASES)
def test_tied_weights_stay_tied(case: Case, options: dict, tmp_path) -> None:
    model = case.model(**options)
    ties = getattr(model, "all_tied_weights_keys", {})
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    again = case.load(tmp_path)
    for target, source in ties.items():
        assert target not in saved and source in saved
        assert again.get_parameter(target) is again.get_parameter(source), target


def test_some_class_has_tied_weights() -> None:
    assert any(getattr(case.model(), "all_tied_weights_keys", {}) for case in CASES)


@over_variants(CASES)
def test_missing_keys_come_back_initialised(case: Case, options: dict, tmp_path) -> None:
    """Half the weights at a time are taken from the checkpoint; what returns has the statistics of a fresh model."""
    torch.manual_seed(0)
    model = case.model_class(case.config(**options))
    names = sorted(model.state_dict())
    fresh = {name: weight.clone() for name, weight in model.state_dict().items()}
    for parity in (0, 1):
        model.save_pretrained(tmp_path)
        missing = set(names[parity::2])
        weights = {n: w for n, w in load_file(tmp_path / "model.safetensors").items() if n not in missing}
        save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
        loaded, report = case.load(tmp_path, output_loading_info=True)
        ties = set(getattr(model, "all_tied_weights_keys", {}))
        assert set(report["missing_keys"]) - ties == missing - ties
        for name, weight in loaded.state_dict().items():
            assert weight.isfinite().all(), name
            spread, expected = weight.double().std(correction=0).item(), fresh[name].double().std(correction=0).item()
            # two samples' deviations differ by about 1/√n of themselves
            tolerance = min(0.8, 4 / math.sqrt(weight.numel()))
            assert math.isclose(spread, expected, rel_tol=tolerance, abs_tol=1e-6), (name, spread, expected)
            mean = weight.double().mean().item() - fresh[name].double().mean().item()
            assert abs(mean) <= 6 * max(spread, expected) / math.sqrt(weight.numel()) + 1e-6, name
