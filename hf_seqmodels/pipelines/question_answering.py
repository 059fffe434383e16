"""Extractive question answering: the part of a context that answers a question."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.pipelines.base import ChunkPipeline

from hf_seqmodels.analysis.evaluating import evaluating

from .answer_spans import Window, best_spans

# Places in a window, in the tensor "roles".
_OTHER, _CONTEXT, _NULL = 0, 1, 2
_LONGEST_INPUT, _LONGEST_OVERLAP = 384, 128


@dataclass(frozen=True)
class _Passage:
    """A context, and of each of its tokens the characters `(num_tokens, 2)` and the word `(num_tokens,)`."""

    text: str
    spans: np.ndarray
    words: np.ndarray


class QuestionAnsweringPipeline(ChunkPipeline):
    """`pipeline("question-answering", model=…)` for models with start and end logits, such as SeqBert's.

    ```python
    answer = pipeline("question-answering", model=folder)
    answer(question="Who sat?", context="The cat sat.")
    # {"score": 0.9, "start": 4, "end": 7, "answer": "cat"}
    ```

    A context that is too long is read in overlapping windows; each of its tokens counts once, in the window that shows
    most of its surroundings. `score` is the probability that the answer starts in its first word times the probability
    that it ends in its last, each a softmax over all tokens of the context and nothing else.
    """

    tokenizer: Any
    _load_tokenizer: Any = True
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False
    _load_feature_extractor: Any = False

    def __init__(self, model: PreTrainedModel, tokenizer: Any = None, **kwargs: Any):
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(
                f"tokenizer={type(tokenizer).__name__}: question answering needs a fast tokenizer, which knows each "
                "token's characters."
            )
        super().__init__(model, tokenizer=tokenizer, **kwargs)

    def __call__(self, inputs: Any = None, context: Any = None, *, question: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Answers a question, or several.

        Args:
            inputs: `{"question": …, "context": …}`, other keys ignored; or a list, a generator or a torch dataset of
                such; or a question, or a list of questions, as text.
            context: the text that answers the question, where that is given as text; one for all questions or one for
                each.
            question: the same as `inputs` that are text, by name.
            batch_size: windows at a time, perhaps of several questions; by default 1.
            top_k: answers for each question; by default 1. There are fewer if the context has fewer spans.
            max_answer_len: tokens of an answer at most; by default 15. A single word may have more.
            max_seq_len: tokens of a window at most, question included; by default 384, or what the tokenizer and the
                model's positions allow.
            max_question_len: tokens that are read of the question; by default 64.
            doc_stride: tokens that a window shares with the next; by default 128, and at most half of those that are
                the context's.
            handle_impossible_answer: there may be no answer (Rajpurkar et al. 2018): the probability at `[CLS]`, from
                the window with the lowest, joins the softmax, and the answer `""` from 0 to 0 the candidates.
            align_to_words: answers are whole words, as the tokenizer separates them; by default so. Turn it off for a
                tokenizer that does not.

        Returns:
            `{"score": …, "start": …, "end": …, "answer": context[start:end]}` with places in characters; a list of
            these, the most probable first, if `top_k` is above 1. For a list of questions, a list; for a generator or
            dataset, an iterator.

        Raises:
            ValueError: a question or context is missing, empty or no text, or the windows are too short.
        """
        if question is not None:
            if inputs is not None:
                raise ValueError("Questions are given twice, as inputs and as question; give them once.")
            inputs = question
        if context is not None:
            inputs = _pairs(inputs, context)
        elif inputs is None or question is not None:
            raise ValueError(f"question={question!r} and context=None must be given together.")
        if isinstance(inputs, tuple):
            inputs = list(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, **kwargs)

    def get_iterator(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """As the base class's, but of unknown length: it would take the number of questions for that of windows."""
        iterator = super().get_iterator(*args, **kwargs)
        return (answers for answers in iterator)

    def _sanitize_parameters(  # type: ignore[override]
        self,
        top_k: int | None = None,
        max_answer_len: int | None = None,
        max_seq_len: int | None = None,
        max_question_len: int | None = None,
        doc_stride: int | None = None,
        handle_impossible_answer: bool | None = None,
        align_to_words: bool | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess = {
            "max_seq_len": max_seq_len,
            "max_question_len": max_question_len,
            "doc_stride": doc_stride,
            "align_to_words": align_to_words,
        }
        postprocess = {
            "top_k": top_k,
            "max_answer_len": max_answer_len,
            "handle_impossible_answer": handle_impossible_answer,
        }
        for name, value in {**preprocess, **postprocess}.items():
            smallest = 0 if name == "doc_stride" else 1
            if value is not None and not isinstance(value, bool) and value < smallest:
                raise ValueError(f"{name}={value} must be at least {smallest}.")
        if handle_impossible_answer and self.tokenizer.cls_token_id is None:
            raise ValueError("handle_impossible_answer=True needs a tokenizer with a cls_token; this one has none.")
        given = (
            {name: value for name, value in some.items() if value is not None} for some in (preprocess, postprocess)
        )
        return next(given), {}, next(given)

    def preprocess(  # type: ignore[override]
        self,
        example: Any,
        max_seq_len: int | None = None,
        max_question_len: int = 64,
        doc_stride: int | None = None,
        align_to_words: bool = True,
    ) -> Iterator[dict[str, Any]]:
        question, context = _checked(example)
        limits = [self.tokenizer.model_max_length, getattr(self.model.config, "max_position_embeddings", None)]
        allowed = min(limit for limit in limits if limit is not None)
        if max_seq_len is None:
            max_seq_len = min(_LONGEST_INPUT, allowed)
        elif max_seq_len > allowed:
            raise ValueError(f"max_seq_len={max_seq_len} is above the {allowed} that the model and tokenizer allow.")
        encoding = self.tokenizer(question, context, verbose=False, return_offsets_mapping=True)
        offsets = encoding.pop("offset_mapping")
        sides = np.array([-1 if side is None else side for side in encoding.sequence_ids()])
        of_context = np.flatnonzero(sides == 1)
        if not of_context.size:
            raise ValueError(f"context={context!r} has no tokens.")
        words = encoding.word_ids() if align_to_words else range(len(sides))
        passage = _Passage(
            text=context,
            spans=np.array([offsets[place] for place in of_context]),
            words=np.array([words[place] for place in of_context]),
        )
        asked = np.flatnonzero(sides == 0)[max_question_len:]
        head = np.setdiff1d(np.arange(of_context[0]), asked)
        tail = np.arange(of_context[-1] + 1, len(sides))
        room = max_seq_len - len(head) - len(tail)
        overlap = min(_LONGEST_OVERLAP, max(room, 0) // 2) if doc_stride is None else doc_stride
        if overlap >= room:
            raise ValueError(
                f"max_seq_len={max_seq_len} leaves {room} tokens for the context, which must be more than "
                f"doc_stride={overlap}."
            )
        roles = np.where(sides == 1, _CONTEXT, _OTHER)
        nulls = np.flatnonzero(np.array(encoding["input_ids"]) == self.tokenizer.cls_token_id)
        if nulls.size:
            roles[nulls[0]] = _NULL
        columns = {name: np.array(values) for name, values in encoding.items()} | {"roles": roles}
        firsts = range(0, max(len(of_context) - overlap, 1), room - overlap)
        for first in firsts:
            places = np.concatenate([head, of_context[first : first + room], tail])
            yield {
                **{name: torch.from_numpy(values[places])[None] for name, values in columns.items()},
                "passage": passage,
                "first": first,
                "is_last": first == firsts[-1],
            }

    def _forward(self, inputs: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        names = [name for name in self.tokenizer.model_input_names if name in inputs]
        with evaluating(self.model):
            outputs = self.model(**{name: inputs[name] for name in names})
        if getattr(outputs, "start_logits", None) is None:
            raise ValueError(
                f"model={type(self.model).__name__} gives no start and end logits; question answering needs a model "
                "such as SeqBertForQuestionAnswering."
            )
        kept = {name: inputs[name] for name in ("roles", "passage", "first", "is_last")}
        return {"start_logits": outputs.start_logits, "end_logits": outputs.end_logits, **kept}

    def postprocess(  # type: ignore[override]
        self,
        outputs: list[dict[str, Any]],
        top_k: int = 1,
        max_answer_len: int = 15,
        handle_impossible_answer: bool = False,
    ) -> Any:
        passage = outputs[0]["passage"]
        windows = [_window(output) for output in outputs]
        spans, no_answer = best_spans(windows, passage.words, max_answer_len, top_k, handle_impossible_answer)
        answers = []
        for span in spans:
            start = int(passage.spans[span.first : span.last + 1, 0].min())
            end = int(passage.spans[span.first : span.last + 1, 1].max())
            answers.append({"score": span.score, "start": start, "end": end, "answer": passage.text[start:end]})
        if handle_impossible_answer:
            answers.append({"score": no_answer, "start": 0, "end": 0, "answer": ""})
            answers = sorted(answers, key=lambda answer: -answer["score"])[:top_k]
        return answers[0] if top_k == 1 else answers


def _window(output: dict[str, Any]) -> Window:
    roles = output["roles"][0]
    start, end = (output[name][0].double() for name in ("start_logits", "end_logits"))
    null = None
    if (roles == _NULL).any():
        null = (float(start[roles == _NULL]), float(end[roles == _NULL]))
    own = roles == _CONTEXT
    return Window(output["first"], start[own].numpy(), end[own].numpy(), null)


def _pairs(question: Any, context: Any) -> Any:
    """Questions and contexts given apart, as one example or a list of them."""
    if isinstance(question, str) and isinstance(context, str):
        return {"question": question, "context": context}
    questions = [question] if isinstance(question, str) else question
    contexts = [context] * len(questions or ()) if isinstance(context, str) else context
    if not isinstance(questions, list) or not isinstance(contexts, list) or len(questions) != len(contexts):
        raise ValueError(
            f"question={question!r} and context={context!r} must be two texts, or lists of as many questions as "
            "contexts, or a list of questions and one context."
        )
    return [{"question": one, "context": other} for one, other in zip(questions, contexts)]


def _checked(example: Any) -> tuple[str, str]:
    if not isinstance(example, Mapping):
        raise ValueError(f"example={example!r} must be a mapping with question and context.")
    for name in ("question", "context"):
        text = example.get(name)
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name}={text!r} must be a text that is not empty.")
    return example["question"], example["context"]


__all__ = ["QuestionAnsweringPipeline"]
