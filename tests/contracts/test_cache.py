"""Contract 3: what a cache carries changes the speed of generation, never what is generated."""

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import Cache, GenerationMixin
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging as transformers_logging

from hf_seqmodels.models.recurrent_cache import RecurrentCache
from tests.contracts.cases import CASES, EXACT, Case, name_of, over_variants

GENERATING = [case for case in CASES if issubclass(case.model_class, GenerationMixin)]
RECURRENT = [case for case in GENERATING if not case.toy.attends]
LENGTHS = (5, 2, 7)
NEW = 6
MODES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "several beams": {"num_beams": 3, "num_return_sequences": 2},
    "sampling": {"do_sample": True, "temperature": 1.5},
    "several samples": {"do_sample": True, "temperature": 1.5, "num_return_sequences": 3},
}

each_case = pytest.mark.parametrize("case", GENERATING, ids=name_of)
each_recurrent = pytest.mark.parametrize("case", RECURRENT, ids=name_of)
# equal rows (no mask is needed then), or rows with padding on the left
either_batch = pytest.mark.parametrize("lengths", [(4, 4, 4), LENGTHS], ids=["unpadded", "left-padded"])


@pytest.fixture(autouse=True)
def _nobody_is_warned(caplog) -> Iterator[None]:
    """Neither by Python nor by transformers' own log."""
    transformers_logging.enable_propagation()
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        yield
    transformers_logging.disable_propagation()
    assert [record.getMessage() for record in caplog.get_records("call")] == []


def prompts(case: Case, lengths: tuple[int, ...] = LENGTHS) -> dict[str, torch.Tensor]:
    batch = case.batch(lengths, targets=False, side="left")
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def generate(model: Any, batch: dict[str, Any], **options: Any) -> Any:
    """Sequences and scores, from the same random state at every call."""
    torch.manual_seed(7)
    options = {"max_new_tokens": NEW, "pad_token_id": 0, "return_dict_in_generate": True, **options}
    return model.generate(**batch, output_scores=True, **options)


def assert_same_generation(got: Any, expected: Any) -> None:
    assert torch.equal(got.sequences, expected.sequences)
    torch.testing.assert_close(got.scores, expected.scores, rtol=0, atol=1e-10)


@either_batch
@pytest.mark.parametrize("mode", MODES)
@over_variants(GENERATING)
def test_generation_is_the_same_without_a_cache(case: Case, options: dict, mode: str, lengths: tuple) -> None:
    model, batch = case.model(**options), prompts(case, lengths)
    expected = generate(model, batch, use_cache=False, **MODES[mode])
    got = generate(model, batch, **MODES[mode])
    assert_same_generation(got, expected)
    assert expected.past_key_values is None and isinstance(got.past_key_values, Cache)
    assert got.sequences.shape[1] == batch["input_ids"].shape[1] + NEW  # max_new_tokens, neither more nor fewer
    assert got.sequences[:, -NEW:].unique().numel() > 4  # there was something to get wrong


@each_case
@pytest.mark.parametrize("mode", MODES)
def test_rows_that_end_early(case: Case, mode: str) -> None:
    model, batch = case.model(), prompts(case)
    free = generate(model, batch, use_cache=False, **MODES[mode]).sequences
    end = int(free[0, -NEW + 2])  # so that the first row ends with its third new token, at the latest
    got, expected = (
        generate(model, batch, eos_token_id=end, use_cache=use_cache, **MODES[mode]) for use_cache in (True, False)
    )
    assert torch.equal(got.sequences, expected.sequences)
    assert (got.sequences[:, -NEW:] == end).any()


@each_case
@pytest.mark.parametrize("mode", MODES)
def test_rows_alone(case: Case, mode: str) -> None:
    """What is generated for a row does not depend on the rows beside it, nor on its padding."""
    if "do_sample" in MODES[mode]:
        pytest.skip("rows draw from one random state")
    model = case.model()
    rows = [case.row(length) for length in LENGTHS]
    batch = case.collate(rows, side="left")
    got = generate(model, {name: batch[name] for name in ("input_ids", "attention_mask")}, **MODES[mode]).sequences
    for row, sequences in zip(rows, got.chunk(len(rows))):
        alone = generate(model, {"input_ids": row["input_ids"][None]}, **MODES[mode]).sequences
        assert torch.equal(alone[:, -NEW:], sequences[:, -NEW:])


class _Orderless(RecurrentCache):
    """Does not follow its beams, like a state kept on the module."""

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Nothing."""


@each_recurrent
def test_a_cache_that_ignores_beams_fails_the_same_check(case: Case) -> None:
    """The control."""
    model, batch = case.model(), prompts(case)
    expected = generate(model, batch, use_cache=False, num_beams=3)
    empty, orderless = RecurrentCache(2), _Orderless(2)
    assert_same_generation(generate(model, batch, num_beams=3, past_key_values=empty), expected)
    with pytest.raises(AssertionError):
        assert_same_generation(generate(model, batch, num_beams=3, past_key_values=orderless), expected)


class _Collector(BaseStreamer):
    """Holds what is streamed: first the prompts `(batch, length)`, then `(batch,)` for each step."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.steps.append(value if value.dim() == 2 else value.unsqueeze(-1))

    def end(self) -> None:
        self.ended = True


@over_variants(GENERATING)
@pytest.mark.parametrize("mode", ["greedy", "sampling"])
def test_streaming(case: Case, options: dict, mode: str) -> None:
    streamer = _Collector()
    sequences = generate(case.model(**options), prompts(case), streamer=streamer, **MODES[mode]).sequences
    assert torch.equal(torch.cat(streamer.steps, dim=1), sequences) and streamer.ended


@over_variants(RECURRENT)
@pytest.mark.parametrize("mode", ["greedy", "sampling"])
def test_going_on_from_a_returned_cache(case: Case, options: dict, mode: str) -> None:
    model, batch = case.model(**options), prompts(case)
    expected = generate(model, batch, **MODES[mode])
    torch.manual_seed(7)
    settings = {"pad_token_id": 0, "return_dict_in_generate": True, **MODES[mode]}
    first = model.generate(**batch, max_new_tokens=2, **settings)
    mask = torch.nn.functional.pad(batch["attention_mask"], (0, 2), value=1)
    assert first.past_key_values.get_seq_length() == mask.shape[1] - 1  # all but the last token, not yet seen
    again = {"input_ids": first.sequences, "attention_mask": mask, "past_key_values": first.past_key_values}
    second = model.generate(**again, max_new_tokens=NEW - 2, **settings)
    assert torch.equal(second.sequences, expected.sequences)


@over_variants(RECURRENT)
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("side", ["left", "right"])
def test_chunks(case: Case, options: dict, size: int, side: str) -> None:
    """Logits and state, also through chunks in which a row has nothing but padding."""
    model = case.model(**options)
    batch = case.batch((9, 4, 1), targets=False, side=side)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        expected = model(ids, mask)
        cache, logits = RecurrentCache(model.config.num_hidden_layers), []
        for first in range(0, 9, size):
            seen = mask[:, : first + size]
            # the mask may be that of all tokens so far, or of the chunk
            given = seen if size > 1 else seen[:, first:]
            outputs = model(ids[:, first : first + size], given, past_key_values=cache)
            assert outputs.past_key_values is cache
            logits.append(outputs.logits)
    real = mask.bool()
    torch.testing.assert_close(torch.cat(logits, dim=1)[real], expected.logits[real], **EXACT)
    torch.testing.assert_close(cache.tensors(), expected.past_key_values.tensors(), **EXACT)


@each_recurrent
def test_prefilling_in_chunks(case: Case) -> None:
    model, batch = case.model(), prompts(case)
    got = generate(model, batch, past_key_values=RecurrentCache(2), prefill_chunk_size=2)
    assert_same_generation(got, generate(model, batch, use_cache=False))


REARRANGED = {
    "reorder_cache": (torch.tensor([2, 0, 0]), torch.tensor([2, 0, 0])),
    "batch_repeat_interleave": (2, torch.tensor([0, 0, 1, 1, 2, 2])),
    "batch_select_indices": (torch.tensor([2, 1]), torch.tensor([2, 1])),
}


@over_variants(RECURRENT)
@pytest.mark.parametrize("method", REARRANGED)
def test_rows_rearranged(case: Case, options: dict, method: str) -> None:
    argument, rows = REARRANGED[method]
    model, batch = case.model(**options), prompts(case)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        expected = model(ids[rows], mask[rows])
        cache = model(ids[:, :-1], mask[:, :-1]).past_key_values
        getattr(cache, method)(argument)
        assert cache.batch_size == len(rows)
        got = model(ids[rows, -1:], mask[rows], past_key_values=cache)
    torch.testing.assert_close(got.logits[:, -1], expected.logits[:, -1], **EXACT)
    torch.testing.assert_close(cache.tensors(), expected.past_key_values.tensors(), **EXACT)


@pytest.mark.parametrize("case", [case for case in CASES if not case.toy.attends], ids=name_of)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("targets", [False, True], ids=["", "labels"])
def test_the_state_comes_by_default(case: Case, training: bool, targets: bool) -> None:
    model = case.model().train(training)
    batch = case.batch(targets=targets)
    cache = model(**batch).past_key_values
    assert isinstance(cache, RecurrentCache) and cache.batch_size == 3 and cache.get_seq_length() == 9
    assert model(**batch, use_cache=False).past_key_values is None
    model.config.use_cache = False
    assert model(**batch).past_key_values is None
    assert isinstance(model(**batch, use_cache=True).past_key_values, RecurrentCache)


@over_variants(RECURRENT)
def test_the_state_does_not_grow(case: Case, options: dict) -> None:
    model = case.model(**options)
    with torch.no_grad():
        caches = [model(case.batch((length,), targets=False)["input_ids"]).past_key_values for length in (2, 16)]
    short, long = ({name: value.shape for name, value in cache.tensors().items()} for cache in caches)
    assert short == long and [cache.get_seq_length() for cache in caches] == [2, 16]


@over_variants(RECURRENT)
def test_logits_of_some_positions(case: Case, options: dict) -> None:
    model, batch = case.model(**options), case.batch((6, 3), side="left")
    with torch.no_grad():
        every = model(**batch)
        for kept, expected in (
            (1, every.logits[:, -1:]),
            (3, every.logits[:, -3:]),
            (torch.tensor([0, 4]), every.logits[:, [0, 4]]),
        ):
            some = model(**batch, logits_to_keep=kept)
            torch.testing.assert_close(some.logits, expected, **EXACT)
            torch.testing.assert_close(some.loss, every.loss, **EXACT)  # the loss is that of all


@over_variants(GENERATING)
@pytest.mark.parametrize("mode", ["greedy", "beams"])
def test_prompts_as_embeddings(case: Case, options: dict, mode: str) -> None:
    model, batch = case.model(**options), prompts(case)
    expected = generate(model, batch, **MODES[mode])
    embeds = model.get_input_embeddings()(batch.pop("input_ids"))
    got = generate(model, {"inputs_embeds": embeds, **batch}, **MODES[mode])
    assert torch.equal(got.sequences, expected.sequences[:, -NEW:])  # new tokens alone, as everywhere
