"""Our models as ONNX files, for onnxruntime and other runtimes without PyTorch. Needs the extra [onnx].

Each file takes batches and sequences of any size; images have the size that the model was made for (see
`resize_positions`). Inputs and outputs have the names of the forward's arguments and of the output's fields; integers
are int64, masks of patches bool, numbers float32.

- BERT: `model.onnx`, from `input_ids`, `attention_mask` and `token_type_ids`.
- ViT: `model.onnx`, from `pixel_values`, and `bool_masked_pos` of masked models; a backbone gives `feature_map.stage1`
  and so on.
- RNN, LSTM, GRU: `model.onnx`, from `input_ids` and `attention_mask`. Bare and language models of one direction give
  the state after the sequence, too, `present_hidden` `(batch, layers, state)` and, of LSTMs, `present_cell`; their
  `model_with_past.onnx` takes one besides, `past_hidden` and `past_cell`.
- Encoder–decoders: `encoder_model.onnx`, from `input_ids` and `attention_mask`, gives `encoder_hidden_states`, what
  else the decoder needs of the source, and its first state. `decoder_model.onnx` takes `decoder_input_ids` and these,
  and gives `logits` (a bare model `last_hidden_state`), the `cross_attentions` of AttentionSeq2Seq, and the state.

Decoding goes alike for all that have a state: an output `present_…` is the input `past_…` of the next call; every
other input, new tokens aside, is the encoder's input or output of that name. Padding may lie on either side, except in
`decoder_input_ids`, where it lies on the right and what is said of it means nothing.
"""

import contextlib
import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim
from transformers import PreTrainedModel

from hf_seqmodels.conversion.onnx_crf import ScannedCRF
from hf_seqmodels.conversion.onnx_parts import Part, bert_parts, recurrent_parts, vit_parts
from hf_seqmodels.conversion.onnx_recurrence import replace_recurrences
from hf_seqmodels.conversion.onnx_translation import recurrent_translation_parts, transformer_parts
from hf_seqmodels.models.modeling_bert import SeqBertPreTrainedModel
from hf_seqmodels.models.modeling_rnn import RecurrentPreTrainedModel
from hf_seqmodels.models.modeling_seq2seq import RecurrentSeq2SeqPreTrainedModel
from hf_seqmodels.models.modeling_transformer import (
    VanillaTransformerDecoder,
    VanillaTransformerEncoder,
    VanillaTransformerPreTrainedModel,
)
from hf_seqmodels.models.modeling_vit import SeqViTPreTrainedModel
from hf_seqmodels.models.modeling_vit_mae import SeqViTForPreTraining

try:
    import onnx
    import onnxscript  # noqa: F401 - torch.onnx needs it
    from onnx_ir.passes.common import RemoveUnusedNodesPass
except ModuleNotFoundError as error:
    raise ImportError("hf_seqmodels.conversion.onnx needs the extra: pip install 'hf_seqmodels[onnx]'.") from error

OLDEST_OPSET = 18
_FAMILIES: dict[type[PreTrainedModel], Callable[[Any], dict[str, Part]]] = {
    SeqBertPreTrainedModel: bert_parts,
    SeqViTPreTrainedModel: vit_parts,
    RecurrentPreTrainedModel: recurrent_parts,
    RecurrentSeq2SeqPreTrainedModel: recurrent_translation_parts,
    VanillaTransformerPreTrainedModel: transformer_parts,
}
# They say what is no news to a user: that torchvision is missing, which constants were not folded, that two inputs
# have one batch size.
_TALKATIVE = ("torch.onnx._internal.exporter._registration", "onnxscript")
_NO_NEWS = (r".*isinstance\(treespec, LeafSpec\)", r"# The axis name: \w+ will not be used")


def export_onnx(model: PreTrainedModel, folder: str | PathLike[str], *, opset: int = OLDEST_OPSET) -> Path:
    """Writes a model as ONNX files, in float32 (see the module's table).

    Args:
        model: one of this package; it is not changed. A CRF's `logits` and `predictions` are those of all real tokens.
        folder: gets the files; it is made if it is not there.
        opset: version of ONNX's operators.

    Returns:
        `folder`.

    Raises:
        ValueError: a model or an opset that cannot be exported, or a file that is there already.
    """
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise ValueError(f"opset={opset} must lie in [{OLDEST_OPSET}, {newest}].")
    parts = _parts(model)
    target = Path(folder)
    for name in parts:
        if (target / f"{name}.onnx").exists():
            raise ValueError(f"folder={str(target)!r} has {name}.onnx already; choose another folder.")
    target.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        _write(part, target / f"{name}.onnx", opset)
    return target


def _parts(model: PreTrainedModel) -> dict[str, Part]:
    """What becomes of a copy of `model`."""
    if isinstance(model, SeqViTForPreTraining):
        raise ValueError(
            "model=SeqViTForPreTraining: its encoder sees the visible patches alone, whose number depends on the "
            "mask, and its decoder is for pretraining only. Load the checkpoint as SeqViTModel and export that."
        )
    families = [build for family, build in _FAMILIES.items() if isinstance(model, family)]
    if not families or isinstance(model, VanillaTransformerEncoder | VanillaTransformerDecoder):
        raise ValueError(f"model={type(model).__name__}: only whole models of this package can be exported.")
    copied: Any = copy.deepcopy(model)
    copied = copied.to(device="cpu", dtype=torch.float32).eval()
    for module in copied.modules():
        # Each model within has a configuration, which may be another object.
        config = getattr(module, "config", None)
        for name in ("unpad_inputs", "use_cache", "output_attentions", "output_hidden_states"):
            if hasattr(config, name):
                setattr(config, name, False)
    if copied._supports_sdpa:
        copied.set_attn_implementation("sdpa")
    if not isinstance(model, RecurrentSeq2SeqPreTrainedModel):
        replace_recurrences(copied)
    if getattr(copied, "crf", None) is not None:
        copied.crf = ScannedCRF(copied.crf)
    return families[0](copied)


def _write(part: Part, path: Path, opset: int) -> None:
    axes = part.axes
    sizes = {name: dict.fromkeys(axes[name], Dim.DYNAMIC) for name in part.examples}
    # scan() compiles its step, and an earlier export's code is taken for that of another state (torch 2.13).
    torch._dynamo.reset()
    with torch.no_grad(), _quietly():
        program = torch.export.export(
            part.module, (), {"inputs": part.examples}, dynamic_shapes={"inputs": sizes}, strict=False
        )
        written = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            input_names=list(part.examples),
            output_names=list(part.module(part.examples)),
            dynamic_shapes={"inputs": {name: axes[name] for name in part.examples}},
            verbose=False,
        )
    assert written is not None
    # torch leaves constants in the body of a Scan that nothing uses, at which onnxruntime would warn.
    RemoveUnusedNodesPass()(written.model)
    written.save(path)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            for message in _NO_NEWS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


__all__ = ["OLDEST_OPSET", "export_onnx"]
