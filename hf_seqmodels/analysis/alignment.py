"""Which source token a translation model looks at for each target token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .errors import NotInModelError
from .evaluating import evaluating

Span = tuple[int, int]


@dataclass(frozen=True)
class AttentionMap:
    """The attention that each target token was written with.

    Args:
        source: tokens of the source, its end included.
        target: tokens of the target, without the start, its end included.
        weights: `(len(target), len(source))`; rows sum to 1.
        text: the target as text.
        source_spans: of each source token, the characters of the source text that it stands for.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    weights: np.ndarray
    text: str
    source_spans: tuple[Span, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "source": list(self.source),
            "target": list(self.target),
            "text": self.text,
            "weights": self.weights.round(6).tolist(),
        }


def attention_map(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    layer: int = -1,
    head: int | None = None,
    **generate_kwargs: Any,
) -> AttentionMap:
    """Translates `text` and says what the decoder attended to at each token of the result.

    The attention is that of the sequence which the search chose, computed once more in one pass over it: the steps of
    a search belong to beams of which most were dropped, and a cached step equals this pass.

    Args:
        model: an encoder–decoder with attention to its source.
        tokenizer: its tokenizer, a fast one.
        layer: of the decoder; -1 is the last.
        head: of that layer; `None` takes the mean over heads.
        generate_kwargs: for `generate()`, such as `num_beams`.

    Raises:
        NotInModelError: the model has no cross-attention, or no such layer or head.
    """
    encoding = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    spans = tuple((int(start), int(end)) for start, end in encoding.pop("offset_mapping")[0])
    inputs = {name: encoding[name].to(model.device) for name in ("input_ids", "attention_mask")}
    generator: Any = model
    with evaluating(model), torch.no_grad():
        sequence = generator.generate(**inputs, **generate_kwargs)[:1]
        outputs = _with_attentions(generator, inputs, sequence[:, :-1])
    layers = outputs.cross_attentions
    if not -len(layers) <= layer < len(layers):
        raise NotInModelError(f"layer={layer}: the decoder has {len(layers)} layers with attention to the source.")
    heads = layers[layer][0]
    if head is not None and not 0 <= head < len(heads):
        raise NotInModelError(f"head={head}: the layer has {len(heads)} heads.")
    weights = heads.mean(0) if head is None else heads[head]
    return AttentionMap(
        source=tuple(tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())),
        target=tuple(tokenizer.convert_ids_to_tokens(sequence[0, 1:].tolist())),
        weights=weights.double().cpu().numpy(),
        text=str(tokenizer.decode(sequence[0], skip_special_tokens=True)),
        source_spans=spans,
    )


def _with_attentions(model: Any, inputs: dict[str, torch.Tensor], decoder_input_ids: torch.Tensor) -> Any:
    try:
        outputs = model(**inputs, decoder_input_ids=decoder_input_ids, output_attentions=True, use_cache=False)
    except ValueError as error:
        raise NotInModelError(f"{type(model).__name__}: {error}") from error
    if not getattr(outputs, "cross_attentions", None):
        raise NotInModelError(f"{type(model).__name__} has no attention to a source.")
    return outputs


def share_within(weights: np.ndarray, source_spans: Sequence[Span], wanted: Sequence[Span | None]) -> float:
    """Share of the target tokens whose strongest attention falls on the part of the source that they come from.

    Args:
        weights: `(target_len, source_len)`.
        source_spans: characters of each source token.
        wanted: for each target token the characters that it is taken from; `None` leaves it out.
    """
    hits = []
    for row, span in zip(weights, wanted):
        if span is not None:
            start, end = source_spans[int(row.argmax())]
            hits.append(start < span[1] and end > span[0])
    return float(np.mean(hits)) if hits else float("nan")
