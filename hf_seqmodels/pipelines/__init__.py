"""The tasks of `pipeline()` that transformers 5 no longer has and our models need: translation, question answering."""

from typing import Any

from transformers import AutoModelForQuestionAnswering, AutoModelForSeq2SeqLM
from transformers.pipelines import PIPELINE_REGISTRY, REMOVED_TASKS

from .question_answering import QuestionAnsweringPipeline
from .translation import TranslationPipeline

_TASKS: dict[str, tuple[Any, Any]] = {
    "question-answering": (QuestionAnsweringPipeline, AutoModelForQuestionAnswering),
    "translation": (TranslationPipeline, AutoModelForSeq2SeqLM),
}


def register() -> None:
    """Makes `pipeline("translation")` and `pipeline("question-answering")` work. Harmless when repeated."""
    for task, (pipeline_class, auto_class) in _TASKS.items():
        # `pipeline()` refuses these names before it asks the registry.
        REMOVED_TASKS.pop(task, None)
        # That of an earlier import (notebooks reload modules), which the registry would warn of.
        PIPELINE_REGISTRY.supported_tasks.pop(task, None)
        PIPELINE_REGISTRY.register_pipeline(task, pipeline_class, pt_model=auto_class, type="text")
        # With this mark a pipeline's save_pretrained() would copy its code beside the weights, and loading it would
        # ask for trust_remote_code where this package is imported, too.
        del pipeline_class._registered_impl


__all__ = ["QuestionAnsweringPipeline", "TranslationPipeline", "register"]
