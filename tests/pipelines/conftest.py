"""Pipelines on the happy path say nothing: no warning, no error in a log."""

import logging
import warnings
from collections.abc import Iterator

import pytest
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

from tests.pipelines.toys import bert_tokenizer


class _Collecting(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture(autouse=True)
def said() -> Iterator[list[str]]:
    """What was logged or warned of; a test that expects something takes it out."""
    handler = _Collecting()
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield handler.messages
    logger.removeHandler(handler)
    assert [*handler.messages, *(str(warning.message) for warning in caught)] == []


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    made: BertTokenizerFast = bert_tokenizer()
    return made
