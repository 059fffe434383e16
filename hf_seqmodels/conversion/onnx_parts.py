"""What of a model becomes an ONNX file: modules from named tensors to named tensors, with an example of each input."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hf_seqmodels.models.modeling_bert import SeqBertPreTrainedModel
from hf_seqmodels.models.modeling_bert_finetuning import SeqBertForMultipleChoice
from hf_seqmodels.models.modeling_rnn import RecurrentModel, RecurrentPreTrainedModel
from hf_seqmodels.models.modeling_rnn_lm import RecurrentForCausalLM
from hf_seqmodels.models.modeling_vit import SeqViTPreTrainedModel
from hf_seqmodels.models.modeling_vit_classification import SeqViTBackbone
from hf_seqmodels.models.modeling_vit_masked import SeqViTForMaskedImageModeling, SeqViTForMaskedPatchPrediction
from hf_seqmodels.models.patches import as_pair
from hf_seqmodels.models.recurrent_cache import RecurrentCache

Tensors = dict[str, torch.Tensor]

# Sizes of the examples: none is 0 or 1, which torch.export takes for constants, and no two are alike, which it might
# take for one.
BATCH, LENGTH, TARGET_LENGTH, PAST, CHOICES = 3, 7, 5, 4, 2


@dataclass(frozen=True)
class Part:
    """One ONNX file.

    Args:
        module: its forward takes and gives a dictionary of named tensors.
        examples: of the inputs.
        axes: input -> which of its axes have any length: axis -> name.
    """

    module: nn.Module
    examples: Tensors
    axes: dict[str, dict[int, str]]


class Forward(nn.Module):
    """A model's own forward.

    Args:
        model: with `use_cache`, `output_attentions` and `output_hidden_states` off.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensors) -> Tensors:
        """Every tensor of the model's output, under its name there, but what is for training only."""
        outputs = self.model(**inputs)
        return {
            name: value
            for name, value in outputs.items()
            if isinstance(value, torch.Tensor) and name not in ("loss", "mask")
        }


class FeatureMaps(nn.Module):
    """A backbone's forward: a feature map for each of its `out_features`, `feature_map.stage1` and so on."""

    def __init__(self, model: SeqViTBackbone):
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensors) -> Tensors:
        """`(batch, hidden, rows, columns)` each."""
        maps = self.model(**inputs).feature_maps
        return {f"feature_map.{name}": values for name, values in zip(self.model.out_features, maps)}


class WithState(nn.Module):
    """A recurrent model that gives its state after the sequence, and may take the one before it.

    Args:
        model: bare or a language model, of one direction.
        resumes: it takes `past_hidden` and, of an LSTM, `past_cell`; else it begins anew.
    """

    def __init__(self, model: RecurrentModel | RecurrentForCausalLM, resumes: bool):
        super().__init__()
        self.model = model
        self.resumes = resumes

    def forward(self, inputs: Tensors) -> Tensors:
        """The model's outputs, and its state as `present_states` names it."""
        cache = RecurrentCache(self.model.config.num_hidden_layers)
        if self.resumes:
            cells = inputs.get("past_cell")
            for number, layer in enumerate(cache.layers):
                cell = None if cells is None else cells[:, number, None]
                layer.set_state(inputs["past_hidden"][:, number, None], cell, 0)
        outputs = self.model(inputs["input_ids"], inputs["attention_mask"], past_key_values=cache, use_cache=True)
        named = {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}
        return named | present_states([(layer.hidden, layer.cell) for layer in cache.layers])


def present_states(states: Sequence[tuple[Any, Any]]) -> Tensors:
    """Each layer's `(batch, 1, size)` as `present_hidden` and `present_cell` (LSTM), `(batch, layers, size)`."""
    present = {"present_hidden": torch.cat([hidden for hidden, _ in states], dim=1)}
    if states[0][1] is not None:
        present["present_cell"] = torch.cat([cell for _, cell in states], dim=1)
    return present


def token_inputs(*names: str, length: int = LENGTH, axis: str = "length") -> tuple[Tensors, dict[str, dict[int, str]]]:
    """Examples and axes of integers `(batch, length)`, all ones."""
    examples = {name: torch.ones(BATCH, length, dtype=torch.int64) for name in names}
    return examples, {name: {0: "batch", 1: axis} for name in names}


def state_inputs(layers: int, state_size: int, hidden_size: int, has_cell: bool) -> tuple[Tensors, Any]:
    """Examples and axes of `past_hidden` and `past_cell`."""
    examples = {"past_hidden": torch.zeros(BATCH, layers, state_size)}
    if has_cell:
        examples["past_cell"] = torch.zeros(BATCH, layers, hidden_size)
    return examples, {name: {0: "batch"} for name in examples}


def bert_parts(model: SeqBertPreTrainedModel) -> dict[str, Part]:
    """The model with all outputs that need no labels."""
    examples, axes = token_inputs("input_ids", "attention_mask", "token_type_ids")
    if isinstance(model, SeqBertForMultipleChoice):
        examples = {name: values.unsqueeze(1).repeat(1, CHOICES, 1) for name, values in examples.items()}
        axes = {name: {0: "batch", 1: "choices", 2: "length"} for name in examples}
    return {"model": Part(Forward(model), examples, axes)}


def vit_parts(model: SeqViTPreTrainedModel) -> dict[str, Part]:
    """The model for images of its configuration's size."""
    config = model.config
    (rows, columns), (height, width) = config.grid, as_pair(config.image_size)
    examples = {"pixel_values": torch.zeros(BATCH, config.num_channels, height, width)}
    if isinstance(model, SeqViTForMaskedImageModeling | SeqViTForMaskedPatchPrediction):
        examples["bool_masked_pos"] = torch.ones(BATCH, rows * columns, dtype=torch.bool)
    module = FeatureMaps(model) if isinstance(model, SeqViTBackbone) else Forward(model)
    return {"model": Part(module, examples, {name: {0: "batch"} for name in examples})}


def recurrent_parts(model: RecurrentPreTrainedModel) -> dict[str, Part]:
    """The model; and, if it goes on from a state, the model that takes one."""
    examples, axes = token_inputs("input_ids", "attention_mask")
    config = model.config
    if not isinstance(model, RecurrentModel | RecurrentForCausalLM) or config.bidirectional:
        return {"model": Part(Forward(model), examples, axes)}
    states, state_axes = state_inputs(
        config.num_hidden_layers, config.state_size, config.hidden_size, config.cell_type == "lstm"
    )
    return {
        "model": Part(WithState(model, resumes=False), examples, axes),
        "model_with_past": Part(WithState(model, resumes=True), examples | states, axes | state_axes),
    }


__all__ = [
    "BATCH",
    "LENGTH",
    "PAST",
    "TARGET_LENGTH",
    "FeatureMaps",
    "Forward",
    "Part",
    "Tensors",
    "WithState",
    "bert_parts",
    "present_states",
    "recurrent_parts",
    "state_inputs",
    "token_inputs",
    "vit_parts",
]
