"""Translation with encoder–decoders, with scores and what the decoder looked at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Pipeline, PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from hf_seqmodels.analysis.alignment import AttentionMap, Span
from hf_seqmodels.analysis.errors import NotInModelError
from hf_seqmodels.analysis.evaluating import evaluating

# A translation is at most so many times as long as its source, and so many tokens longer, unless a length is given.
LENGTH_RATIO, LENGTH_MARGIN = 1.5, 10


@dataclass(frozen=True)
class _Source:
    """Of each token, the characters that it stands for, if the tokenizer knows; whether there is nothing to say."""

    spans: tuple[Span, ...]
    blank: bool


class _OwnLength(StoppingCriteria):
    """Ends each row at its own length, so that no row depends on how long the others of its batch are."""

    def __init__(self, longest: torch.Tensor):
        self.longest = longest

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        # `input_ids` `(rows, 1 + target_len)` has several rows, one after the other, for each of the sources.
        longest = self.longest.repeat_interleave(len(input_ids) // len(self.longest))
        return input_ids.shape[1] > longest.to(input_ids.device)


class TranslationPipeline(Pipeline):
    """`pipeline("translation", model=…)` for every encoder–decoder.

    ```python
    translate = pipeline("translation", model=folder)
    translate("Ein Hund.")  # [{"translation_text": "A dog.", "score": -0.12}]
    ```

    `score` is the mean natural log-probability of the translation's tokens, its end included, as the model itself
    gives them: `1/T · Σ log p(y_t | y_<t, source)`, in one pass over the result. So it means the same whatever search
    or temperature found the translation.
    """

    tokenizer: Any
    _load_tokenizer: Any = True
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False
    _load_feature_extractor: Any = False
    _pipeline_calls_generate = True

    def __init__(self, model: PreTrainedModel, *args: Any, **kwargs: Any):
        if not model.config.is_encoder_decoder or not model.can_generate():
            raise ValueError(
                f"model={type(model).__name__}: translation needs an encoder–decoder that generates, such as "
                "VanillaTransformerForConditionalGeneration."
            )
        super().__init__(model, *args, **kwargs)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Translates a text, a list of texts, or a generator or torch dataset of texts.

        White space around a text is left out, and a blank text has the blank translation, of score 0.

        Args:
            inputs: the text or texts.
            batch_size: texts at a time; by default 1. Each is translated as if it were alone.
            return_attention: adds `"attention"`, an `AttentionMap` of the decoder's last layer, mean over its heads
                (`hf_seqmodels.analysis.attention_map` has the other layers; `to_dict()` is for JSON).
            truncation: cut texts that are too long, instead of refusing them.
            max_source_length: tokens of a text at most, its end included; by default what the tokenizer and the
                model's positions allow.
            kwargs: for `generate()`, such as `num_beams`, `num_return_sequences`, `max_new_tokens`, `do_sample`. If
                neither they nor the model's generation configuration limit the length, a translation has at most 1.5
                times its source's tokens and 10 more.

        Returns:
            For a text, a list of `{"translation_text": …, "score": …}`, as many as `num_return_sequences`. For a list
            of texts, one such entry for each, or a list of them if there are several for each. For a generator or
            dataset, an iterator over lists as for a text.

        Raises:
            ValueError: an input is no text, or too long.
            NotInModelError: the attention is asked for of a model which has none.
        """
        if isinstance(inputs, tuple):
            inputs = list(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        results = super().__call__(inputs, **kwargs)
        if isinstance(inputs, list) and all(len(entries) == 1 for entries in results):
            return [entry for (entry,) in results]
        return results

    def _sanitize_parameters(
        self,
        return_attention: bool | None = None,
        truncation: bool | None = None,
        max_source_length: int | None = None,
        **generate_kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess: dict[str, Any] = {}
        forward: dict[str, Any] = dict(generate_kwargs)
        if truncation is not None:
            if not isinstance(truncation, bool):
                raise ValueError(f"truncation={truncation!r} must be True or False.")
            preprocess["truncation"] = truncation
        if max_source_length is not None:
            if max_source_length < 2:
                raise ValueError(f"max_source_length={max_source_length} must be at least 2: a token and its end.")
            preprocess["max_source_length"] = max_source_length
        if return_attention is not None:
            if return_attention and not self.tokenizer.is_fast:
                raise ValueError(
                    f"return_attention={return_attention} needs a fast tokenizer, not {type(self.tokenizer).__name__}."
                )
            forward["return_attention"] = return_attention
        return preprocess, forward, {}

    def preprocess(self, text: Any, truncation: bool = False, max_source_length: int | None = None) -> dict[str, Any]:  # type: ignore[override]
        if not isinstance(text, str):
            raise ValueError(f"text={text!r} must be a string, not {type(text).__name__}.")
        limits = [self.tokenizer.model_max_length, getattr(self.model.config, "max_position_embeddings", None)]
        longest = min(limit for limit in [*limits, max_source_length] if limit is not None)
        cut = {"truncation": True, "max_length": longest} if truncation else {}
        offsets = {"return_offsets_mapping": True} if self.tokenizer.is_fast else {}
        encoding = self.tokenizer(text.strip(), verbose=False, **cut, **offsets)
        ids = encoding["input_ids"]
        if len(ids) > longest:
            raise ValueError(
                f"text={_shortened(text)!r} has {len(ids)} tokens, above the {longest} that are allowed. Give one "
                "sentence at a time, set truncation=True to cut it, or raise max_source_length if the model allows."
            )
        left_out = len(text) - len(text.lstrip())
        spans = tuple((start + left_out, end + left_out) for start, end in encoding.get("offset_mapping", ()))
        return {
            "input_ids": torch.tensor([ids]),
            "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
            "source": _Source(spans, blank=not text.strip()),
        }

    def _forward(  # type: ignore[override]
        self, inputs: dict[str, Any], return_attention: bool = False, **generate_kwargs: Any
    ) -> dict[str, Any]:
        source = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        options, longest = self._search(source["attention_mask"], generate_kwargs)
        model: Any = self.model
        with evaluating(model):
            sequences = model.generate(**source, **options)
            repeats = len(sequences) // len(source["input_ids"])
            repeated = {name: values.repeat_interleave(repeats, dim=0) for name, values in source.items()}
            outputs = _look_again(model, repeated, sequences[:, :-1], return_attention)
        targets = sequences[:, 1:]
        settings = self._get_set_generation_params(options)
        possible = torch.ones_like(targets, dtype=torch.bool)
        if longest is not None:
            # Beam search fills up with the end token what was stopped before it.
            own = longest.repeat_interleave(repeats)[:, None]
            possible = torch.arange(targets.shape[1], device=targets.device) < own
        real = _up_to_the_end(targets, possible, settings.get("eos_token_id"), settings.get("pad_token_id"))
        logits = outputs.logits.float()
        chosen = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
        lengths = real.sum(1)
        scores = chosen.double().masked_fill(~real, 0).sum(1) / lengths.clamp(min=1)
        found = {"targets": targets, "lengths": lengths, "scores": scores}
        if return_attention:
            found["weights"] = outputs.cross_attentions[-1].mean(1)
        return {
            **source,
            **{name: values.unflatten(0, (-1, repeats)) for name, values in found.items()},
            "source": inputs["source"],
        }

    def _search(
        self, attention_mask: torch.Tensor, generate_kwargs: dict[str, Any]
    ) -> tuple[dict[str, Any], torch.Tensor | None]:
        """Arguments of `generate()` for sources with this mask, and each one's own limit unless one is given."""
        options = self._prepare_generate_kwargs(generate_kwargs, return_dict_in_generate=False)
        settings = self._get_set_generation_params(options)
        if settings.get("max_new_tokens") is not None or settings.get("max_length") is not None:
            return options, None
        longest = (attention_mask.sum(1) * LENGTH_RATIO).round().long() + LENGTH_MARGIN
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None:
            longest = longest.clamp(max=limit)
        own = StoppingCriteriaList([*options.pop("stopping_criteria", ()), _OwnLength(longest)])
        if (config := options.get("generation_config")) is not None:
            config.max_new_tokens = int(longest.max())  # the pipeline's own copy of the user's
        else:
            options["max_new_tokens"] = int(longest.max())
        return {**options, "stopping_criteria": own}, longest

    def postprocess(self, outputs: dict[str, Any]) -> list[dict[str, Any]]:  # type: ignore[override]
        source = outputs["source"]
        read = outputs["attention_mask"][0].bool()
        tokens = self.tokenizer.convert_ids_to_tokens(outputs["input_ids"][0, read].tolist())
        entries = []
        for row, target in enumerate(outputs["targets"][0]):
            length = 0 if source.blank else int(outputs["lengths"][0, row])
            target = target[:length].tolist()
            text = str(self.tokenizer.decode(target, skip_special_tokens=True)).strip()
            entry: dict[str, Any] = {
                "translation_text": text,
                "score": 0.0 if source.blank else float(outputs["scores"][0, row]),
            }
            if "weights" in outputs:
                entry["attention"] = AttentionMap(
                    source=tuple(tokens),
                    target=tuple(self.tokenizer.convert_ids_to_tokens(target)),
                    weights=outputs["weights"][0, row, :length][:, read].double().numpy(),
                    text=text,
                    source_spans=source.spans,
                )
            entries.append(entry)
        return entries


def _look_again(
    model: Any, source: dict[str, torch.Tensor], decoder_input_ids: torch.Tensor, wants_attention: bool
) -> Any:
    """One pass over what a search found; `cross_attentions` are there if they are wanted."""
    inputs = {**source, "decoder_input_ids": decoder_input_ids, "use_cache": False}
    if not wants_attention:
        return model(**inputs)
    try:
        outputs = model(**inputs, output_attentions=True)
    except ValueError as error:
        raise NotInModelError(f"return_attention=True: {type(model).__name__}: {error}") from error
    if not getattr(outputs, "cross_attentions", None):
        raise NotInModelError(f"return_attention=True: {type(model).__name__} gives no attention to a source.")
    return outputs


def _up_to_the_end(
    targets: torch.Tensor, possible: torch.Tensor, eos_token_id: int | Sequence[int] | None, pad_token_id: int | None
) -> torch.Tensor:
    """`(rows, target_len)`: true up to each target's first end, and up to its padding where it was stopped before.

    Args:
        targets: `(rows, target_len)`.
        possible: `(rows, target_len)`, false beyond a row's own limit.
    """
    ends = torch.zeros_like(possible)
    if eos_token_id is not None:
        ends = possible & torch.isin(targets, torch.as_tensor(eos_token_id, device=targets.device))
    open_still = ends.cumsum(1) - ends.long() == 0
    said = possible if pad_token_id is None else ends | (possible & (targets != pad_token_id))
    return open_still & (said.flip(1).cumsum(1).flip(1) > 0)


def _shortened(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else text[:longest] + "…"


__all__ = ["TranslationPipeline"]
