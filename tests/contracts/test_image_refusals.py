"""Contract 9 for images: bad configurations and inputs are refused by name."""

import json
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from hf_seqmodels import SeqViTConfig, SeqViTForPreTraining
from hf_seqmodels.models.patches import random_patches
from tests.contracts.cases import IMAGES, Case, case_named, name_of

BAD_FIELDS = [
    ("num_attention_heads", 3, "hidden_size=16 is not divisible by num_attention_heads=3"),
    ("decoder_num_attention_heads", 5, "decoder_hidden_size=12 is not divisible by decoder_num_attention_heads=5"),
    ("hidden_size", 0, "hidden_size=0 must be at least 1"),
    ("num_channels", -1, "num_channels=-1 must be at least 1"),
    ("colour_bits", 0, "colour_bits=0 must be at least 1"),
    ("image_size", 7, "image size 7×7 is not divisible by patch_size 2×4"),
    ("image_size", [6, 9], "image size 6×9 is not divisible by patch_size 2×4"),
    ("image_size", [6], r"image_size=\[6\] must be a positive number or a \(height, width\) pair"),
    ("image_size", [6, 8, 2], r"image_size=\[6, 8, 2\] must be a positive number or a \(height, width\) pair"),
    ("image_size", 0, "image_size=0 must be a positive number"),
    ("image_size", "6", "image_size"),
    ("patch_size", [0, 4], r"patch_size=\[0, 4\] must be a positive number"),
    ("patch_size", 16, "image size 6×8 is not divisible by patch_size 16×16"),
    ("num_register_tokens", -1, "num_register_tokens=-1 must not be negative"),
    ("pre_logits_size", 0, "pre_logits_size=0 must be at least 1, or None"),
    ("stem_channels", 0, "stem_channels=0 must be at least 1, or None"),
    ("pooling", "max", "pooling"),
    ("stem", "convolution", "stem"),
    ("position_embedding_type", "rotary", "position_embedding_type"),
    ("use_cls_token", False, "pooling='cls' needs use_cls_token=True"),
    ("hidden_act", "gellu", "hidden_act='gellu' is not known; choose one of"),
    ("mask_ratio", 0.0, r"mask_ratio=0.0 must lie in \(0, 1\)"),
    ("mask_ratio", 1.0, r"mask_ratio=1.0 must lie in \(0, 1\)"),
    ("patch_dropout_rate", 1.0, r"patch_dropout_rate=1.0 must lie in \[0, 1\)"),
    ("drop_path_rate", -0.1, r"drop_path_rate=-0.1 must lie in \[0, 1\)"),
    ("label_smoothing", 1, r"label_smoothing=1 must lie in \[0, 1\)"),
    ("decoder_hidden_size", 6, r"decoder_hidden_size=6 must be divisible by 4"),
    ("layer_norm_eps", 0.0, "layer_norm_eps=0.0 must be positive"),
    ("initializer_range", -1, "initializer_range=-1 must not be negative"),
    ("use_qk_norm", 1, "use_qk_norm"),
]


@pytest.mark.parametrize(("field", "value", "message"), BAD_FIELDS)
def test_bad_configurations(field: str, value: object, message: str, tmp_path) -> None:
    config = case_named("SeqViTModel").config()
    with pytest.raises(StrictDataclassError, match=message):
        SeqViTConfig(**{**case_named("SeqViTModel").toy.config, field: value})
    config.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**fields, field: value}))
    with pytest.raises(StrictDataclassError, match=message):
        SeqViTConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_hidden_layers": 0}, "num_hidden_layers=0 must be at least 1"),
        ({"use_distillation_token": True, "pooling": "mean"}, "goes with pooling='cls', not with 'mean'"),
        (
            {"position_embedding_type": "sincos", "hidden_size": 18, "num_attention_heads": 3},
            "'sincos' needs hidden_size=18 divisible by 4",
        ),
        ({"stem": "conv", "patch_size": [2, 6], "image_size": 12}, r"patch_size=\[2, 6\] must be a power of two"),
        ({"norm_pix_loss": True, "patch_size": 1, "num_channels": 1}, "one value has no variance"),
    ],
)
def test_options_that_do_not_go_together(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(StrictDataclassError, match=message):
        SeqViTConfig(**{**case_named("SeqViTModel").toy.config, **fields})


def images(height: int = 6, width: int = 8, **changes: Any) -> dict[str, Any]:
    """Two images of 3 × 2 patches, with changes."""
    return {"pixel_values": torch.zeros(2, 2, height, width)} | changes


def mask(*cells: int) -> torch.Tensor:
    """The same mask of 3 × 2 patches for both images."""
    return torch.tensor([cells, cells])


BAD_INPUTS = {
    "channels": (
        images(pixel_values=torch.zeros(2, 3, 6, 8)),
        r"pixel_values of shape \(2, 3, 6, 8\): \(batch, num_channels=2, height, width\) is expected",
    ),
    "no batch": (images(pixel_values=torch.zeros(2, 6, 8)), r"pixel_values of shape \(2, 6, 8\)"),
    "half a patch": (images(7), "image size 7×8 is not divisible by patch_size 2×4"),
    "smaller than a patch": (images(6, 2), "image size 6×2 is not divisible by patch_size 2×4"),
    "another size": (images(8), r"4×2 patches, but the positions are those of 3×2 \(image_size=\[6, 8\]\): resize"),
    "another size of one image": (
        images(attention_mask=mask(1, 1, 1, 1, 0, 0)),
        "an image of 2×2 patches, but the positions are those of 3×2",
    ),
    "mask of another shape": (
        images(attention_mask=torch.ones(2, 5)),
        r"attention_mask of shape \(2, 5\): \(batch, num_patches\) = \(2, 6\) is expected",
    ),
    "mask of pixels": (images(attention_mask=torch.ones(2, 6, 8)), r"attention_mask of shape \(2, 6, 8\)"),
    "hole": (images(attention_mask=mask(1, 1, 1, 0, 1, 1)), "attention_mask of image 0: its real patches must fill"),
    "bottom right": (images(attention_mask=mask(0, 0, 0, 1, 0, 1)), "rectangle that begins in the top left corner"),
    "all padding": (
        images(attention_mask=mask(0, 0, 0, 0, 0, 0)),
        "attention_mask of image 0|hides every patch of an image",
    ),
}


@pytest.mark.parametrize("case", IMAGES, ids=name_of)
@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs(case: Case, name: str) -> None:
    inputs, message = BAD_INPUTS[name]
    with pytest.raises(ValueError, match=message):
        case.model()(**inputs)


MASKED = [case for case in IMAGES if "bool_masked_pos" in case.head.targets]


@pytest.mark.parametrize("case", MASKED, ids=name_of)
def test_masks_of_the_wrong_length(case: Case) -> None:
    with pytest.raises(ValueError, match=r"bool_masked_pos of shape \(2, 5\): \(batch, num_patches\) = \(2, 6\)"):
        case.model()(**images(bool_masked_pos=torch.ones(2, 5)))


BAD_CALLS = {
    "nothing to reconstruct": (
        "SeqViTForPreTraining",
        {"bool_masked_pos": mask(0, 0, 0, 0, 0, 0)},
        "bool_masked_pos marks no patch",
    ),
    "nothing to paint": (
        "SeqViTForMaskedImageModeling",
        {"bool_masked_pos": mask(0, 0, 0, 0, 0, 0)},
        "bool_masked_pos marks no patch",
    ),
    "nothing to see": (
        "SeqViTForPreTraining",
        {"bool_masked_pos": torch.tensor([[1] * 6, [1] * 5 + [0]])},
        "bool_masked_pos hides every patch of an image",
    ),
    "no mask token": (
        "SeqViTModel",
        {"bool_masked_pos": mask(1, 0, 0, 0, 0, 0)},
        "bool_masked_pos needs a mask token: build the model with use_mask_token=True",
    ),
    "keep beyond the grid": (
        "SeqViTModel",
        {"ids_keep": torch.tensor([[0, 6], [0, 1]])},
        r"ids_keep holds 6, outside \[0, num_patches=6\)",
    ),
    "keep nothing": ("SeqViTModel", {"ids_keep": torch.zeros(2, 0, dtype=torch.long)}, r"ids_keep of shape \(2, 0\)"),
    "keep for another batch": ("SeqViTModel", {"ids_keep": torch.zeros(3, 1, dtype=torch.long)}, "ids_keep of shape"),
    "class": (
        "SeqViTForImageClassification",
        {"labels": torch.tensor([0, 4])},
        r"labels holds 4, outside \[0, 4\)",
    ),
    "negative class": ("SeqViTForImageClassification", {"labels": torch.tensor([0, -1])}, "labels holds -1"),
    "a class too many": (
        "SeqViTForImageClassification",
        {"labels": torch.tensor([0, 1, 2])},
        r"labels of shape \(3,\) do not fit; \(2,\) is expected",
    ),
    "soft labels of other classes": (
        "SeqViTForImageClassification",
        {"labels": torch.rand(2, 3)},
        r"soft labels of shape \(2, 3\) do not fit logits of shape \(2, 4\)",
    ),
    "float classes": ("SeqViTForImageClassification", {"labels": torch.rand(2)}, r"soft labels of shape \(2,\)"),
    "no pupil": (
        "SeqViTForImageClassification",
        {"labels": torch.tensor([0, 1]), "teacher_logits": torch.rand(2, 4)},
        "teacher_logits needs a model with use_distillation_token=True",
    ),
    "colour": (
        "SeqViTForMaskedPatchPrediction",
        {"labels": torch.full((2, 6), 16)},
        r"labels holds 16, outside \[0, 16\)",
    ),
    "colours of another grid": (
        "SeqViTForMaskedPatchPrediction",
        {"labels": torch.zeros(2, 5, dtype=torch.long)},
        r"labels of shape \(2, 5\) do not fit; \(2, 6\) is expected",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_bad_calls(name: str, training: bool) -> None:
    model_name, changes, message = BAD_CALLS[name]
    with pytest.raises(ValueError, match=message):
        case_named(model_name).model().train(training)(**images(**changes))


def test_a_teacher_of_other_classes() -> None:
    model = case_named("SeqViTForImageClassification").model(use_distillation_token=True)
    with pytest.raises(ValueError, match=r"teacher_logits of shape \(2, 3\) do not fit; \(2, 4\) is expected"):
        model(**images(labels=torch.tensor([0, 1]), teacher_logits=torch.rand(2, 3)))


def test_a_classifier_without_classes() -> None:
    with pytest.raises(ValueError, match="a classifier needs num_labels of at least 1"):
        case_named("SeqViTForImageClassification").model(num_labels=0)


def test_unknown_problem_type() -> None:
    model = case_named("SeqViTForImageClassification").model()
    model.config.problem_type = "clustering"
    with pytest.raises(ValueError, match="problem_type='clustering' is not known; choose one of regression"):
        model(**images(labels=torch.tensor([0, 1])))


def test_too_many_colours() -> None:
    with pytest.raises(ValueError, match="colour_bits=8 of num_channels=2 make 65536 classes of colour, more than"):
        case_named("SeqViTForMaskedPatchPrediction").model(colour_bits=8)


def test_locality_attention_under_another_kernel() -> None:
    model = case_named("SeqViTModel").model(use_locality_attention=True, attn_implementation="flex_attention")
    with pytest.raises(
        ValueError, match="use_locality_attention=True with attn_implementation='flex_attention': choo"
    ):
        model(**images())


@pytest.mark.parametrize("ratio", [-0.1, 0.0, 1.0, 1.5])
def test_ratios_outside_their_range(ratio: float) -> None:
    message = rf"mask ratio {ratio} must lie in \(0, 1\)"
    with pytest.raises(ValueError, match=message):
        random_patches(torch.rand(2, 6), ratio)


def test_images_of_one_patch_cannot_be_autoencoded() -> None:
    """Whether the model or the caller hides it: the encoder would see nothing."""
    model: SeqViTForPreTraining = case_named("SeqViTForPreTraining").model()
    with pytest.raises(ValueError, match="hides every patch of an image"):
        model(torch.zeros(1, 2, 2, 4), interpolate_pos_encoding=True)


def test_resizing_to_a_size_that_patches_do_not_divide() -> None:
    model = case_named("SeqViTModel").model()
    with pytest.raises(ValueError, match="image size 7×8 is not divisible by patch_size 2×4"):
        model.resize_positions([7, 8])
    assert model.config.image_size == [6, 8]
