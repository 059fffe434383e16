"""`import hf_seqmodels` gives `pipeline()` back the tasks that transformers 5 took out."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForQuestionAnswering, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast, pipeline
from transformers.pipelines import PIPELINE_REGISTRY, REMOVED_TASKS, check_task

from hf_seqmodels.pipelines import QuestionAnsweringPipeline, TranslationPipeline, register
from tests.pipelines.toys import TEXT, saved_bert


def test_both_tasks_are_there_and_the_others_stay_removed() -> None:
    assert check_task("translation")[1]["impl"] is TranslationPipeline
    assert check_task("question-answering")[1]["impl"] is QuestionAnsweringPipeline
    for task, auto_class in (
        ("translation", AutoModelForSeq2SeqLM),
        ("question-answering", AutoModelForQuestionAnswering),
    ):
        assert PIPELINE_REGISTRY.supported_tasks[task]["pt"] == (auto_class,)
        assert task not in REMOVED_TASKS
    with pytest.raises(KeyError, match="has been removed from transformers"):
        check_task("summarization")


def test_registering_again_is_harmless() -> None:
    before = dict(PIPELINE_REGISTRY.supported_tasks)
    register()  # a warning would fail this test
    assert before == PIPELINE_REGISTRY.supported_tasks


def test_a_saved_pipeline_needs_no_trust(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Where the package is imported, its own code is used, and no other is asked for."""
    _, folder = saved_bert("ForQuestionAnswering", tokenizer, tmp_path / "model")
    answer = pipeline("question-answering", folder, device="cpu")
    expected = answer(question="Who sat?", context=TEXT[0])
    answer.save_pretrained(tmp_path / "pipeline")
    config = json.loads((tmp_path / "pipeline" / "config.json").read_text(encoding="utf-8"))
    assert not config.get("custom_pipelines")
    again = pipeline("question-answering", model=str(tmp_path / "pipeline"), device="cpu")
    assert again(question="Who sat?", context=TEXT[0]) == expected
