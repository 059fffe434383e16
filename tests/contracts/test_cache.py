"""Contract 3: the cache is invisible: whatever decodes, with it comes the same as without."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import DynamicCache, GenerationMixin
from transformers.generation import BaseStreamer

from hf_seqmodels.models.recurrent_cache import RecurrentCache
from hf_seqmodels.models.transformer_layers import TransformerCache
from tests.contracts.cases import CASES, EXACT, TRANSLATING, Case, case_named, name_of, over_variants

GENERATING = [case for case in CASES if issubclass(case.model_class, GenerationMixin)]
LANGUAGE_MODELS = [case for case in GENERATING if case not in TRANSLATING]
RECURRENT = [case for case in LANGUAGE_MODELS if not case.toy.attends]
LENGTHS = (9, 4, 1)
NEW = 5
MODES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "two beams each": {"num_beams": 3, "num_return_sequences": 2},
    "sampling": {"do_sample": True},
    "three samples each": {"do_sample": True, "num_return_sequences": 3},
    "sampled beams": {"do_sample": True, "num_beams": 3},
}
each_case = pytest.mark.parametrize("case", GENERATING, ids=name_of)
each_recurrent = pytest.mark.parametrize("case", RECURRENT, ids=name_of)


@pytest.fixture(autouse=True)
def _no_warnings(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Neither Python's nor those that transformers logs."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert not caplog.records


def prompts(case: Case, lengths: tuple[int, ...] = LENGTHS) -> dict[str, torch.Tensor]:
    """A batch padded on the left; none if all lengths are equal."""
    return without_decoder_inputs(case.batch(lengths, targets=False, side="left"))


def without_decoder_inputs(inputs: dict[str, Any]) -> dict[str, Any]:
    """An encoder–decoder begins from its start token."""
    return {name: values for name, values in inputs.items() if not name.startswith("decoder_")}


def generate(model: Any, inputs: dict[str, Any], **options: Any) -> Any:
    """New tokens and the logits that they came from; the same random numbers at each call."""
    torch.manual_seed(3)
    return model.generate(
        **inputs, **{"max_new_tokens": NEW, "return_dict_in_generate": True, "output_logits": True, **options}
    )


def assert_same(got: Any, expected: Any) -> None:
    """Equal tokens, from equal logits."""
    assert torch.equal(got.sequences, expected.sequences)
    torch.testing.assert_close(got.logits, expected.logits, **EXACT)


@over_variants(GENERATING)
@pytest.mark.parametrize("mode", MODES)
def test_cached_equals_uncached(case: Case, options: dict, mode: str) -> None:
    model = case.model(**options)
    for lengths in (LENGTHS, (5, 5)):
        inputs = prompts(case, lengths)
        cached = generate(model, inputs, **MODES[mode])
        uncached = generate(model, inputs, **MODES[mode], use_cache=False)
        assert cached.past_key_values is not None and uncached.past_key_values is None
        assert len(cached.sequences) == len(lengths) * MODES[mode].get("num_return_sequences", 1)
        assert_same(cached, uncached)


@each_case
def test_rows_that_end_early(case: Case) -> None:
    model, inputs = case.model(), prompts(case)
    first = generate(model, inputs).sequences[0, -NEW:]
    end = {"eos_token_id": int(first[1]), "pad_token_id": 0}
    for mode in MODES.values():
        cached, uncached = (generate(model, inputs, **mode, **end, use_cache=cache) for cache in (True, False))
        assert_same(cached, uncached)
    ended = generate(model, inputs, **end).sequences
    length = int((first == first[1]).nonzero()[0]) + 1  # an encoder–decoder may say the same from the start
    assert (ended[0, -NEW:] == torch.tensor([*first[:length], *[0] * (NEW - length)])).all()


@over_variants(GENERATING)
def test_a_left_padded_batch_decodes_as_each_row_alone(case: Case, options: dict) -> None:
    model, rows = case.model(**options), [case.row(length) for length in LENGTHS]
    inputs = without_decoder_inputs(case.without_targets(case.collate(rows, "left")))
    for mode in ("greedy", "beams"):
        together = generate(model, inputs, **MODES[mode]).sequences
        for row, got in zip(rows, together):
            lone = without_decoder_inputs(case.without_targets(case.alone(row)))
            (alone,) = generate(model, lone, **MODES[mode]).sequences
            assert torch.equal(got[-NEW:], alone[-NEW:])


class Unmoved(RecurrentCache):
    """Keeps its rows where they are, whatever beam they now belong to."""

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Does nothing."""


@each_recurrent
def test_beams_need_their_own_states(case: Case) -> None:
    """The control: beams do change places, and with states that do not follow the same check sees a difference."""
    model, inputs = case.model(), prompts(case)
    layers = model.config.num_hidden_layers
    expected = generate(model, inputs, num_beams=3, use_cache=False)
    assert_same(generate(model, inputs, num_beams=3, past_key_values=RecurrentCache(layers)), expected)
    wrong = generate(model, inputs, num_beams=3, past_key_values=Unmoved(layers))
    with pytest.raises(AssertionError):
        assert_same(wrong, expected)


class Recorder(BaseStreamer):
    """What a streamer is told, token by token."""

    def __init__(self) -> None:
        self.told: list[torch.Tensor] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        """The prompt, then each token."""
        self.told.append(value.flatten())

    def end(self) -> None:
        """No more will come."""
        self.ended = True


@each_case
@pytest.mark.parametrize("use_cache", [True, False])
def test_streaming(case: Case, use_cache: bool) -> None:
    model, inputs, streamer = case.model(), prompts(case, (5,)), Recorder()
    sequences = generate(model, inputs, streamer=streamer, use_cache=use_cache).sequences
    assert streamer.ended and torch.equal(torch.cat(streamer.told), sequences[0])
    assert torch.equal(sequences, generate(model, inputs).sequences)


@over_variants(RECURRENT)
def test_generation_goes_on_from_a_returned_cache(case: Case, options: dict) -> None:
    """Right away; and behind two more tokens, as when a user answers."""
    model, inputs = case.model(**options), prompts(case)
    whole = generate(model, inputs)
    part = generate(model, inputs, max_new_tokens=2)

    def after(tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        mask = torch.ones(len(tokens), tokens.shape[1] - inputs["input_ids"].shape[1], dtype=torch.long)
        return {"input_ids": tokens, "attention_mask": torch.cat([inputs["attention_mask"], mask], 1)}

    going_on = {"past_key_values": part.past_key_values, "max_new_tokens": NEW - 2}
    got = generate(model, after(part.sequences), **going_on)
    assert torch.equal(got.sequences, whole.sequences)
    torch.testing.assert_close(got.logits, whole.logits[2:], **EXACT)

    answered = after(torch.cat([whole.sequences, torch.tensor([[7, 8], [9, 7], [8, 8]])], 1))
    assert_same(generate(model, answered, past_key_values=whole.past_key_values), generate(model, answered))


@over_variants(RECURRENT)
@pytest.mark.parametrize("side", ["left", "right"])
def test_chunks(case: Case, options: dict, side: str) -> None:
    """Of 1, 2 and 3 tokens, in some of which rows have nothing but padding."""
    model, inputs = case.model(**options), case.batch(LENGTHS, targets=False, side=side)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    with torch.no_grad():
        expected = model(**inputs)
        for size in (1, 2, 3):
            cache = RecurrentCache(model.config.num_hidden_layers)
            logits = []
            for start in range(0, ids.shape[1], size):
                past_and_now = mask[:, : start + size]
                given = past_and_now if size == 2 else past_and_now[:, start:]  # either is allowed
                outputs = model(ids[:, start : start + size], given, past_key_values=cache)
                assert outputs.past_key_values is cache
                logits.append(outputs.logits)
            real = mask.bool()
            torch.testing.assert_close(torch.cat(logits, 1)[real], expected.logits[real], **EXACT)
            torch.testing.assert_close(cache.tensors(), expected.past_key_values.tensors(), **EXACT)
            assert cache.get_seq_length() == ids.shape[1]


SELECTIONS = {
    "reordered": ("reorder_cache", torch.tensor([2, 0, 1]), [2, 0, 1]),
    "with repetitions": ("reorder_cache", torch.tensor([1, 1, 0]), [1, 1, 0]),
    "selected": ("batch_select_indices", torch.tensor([2, 0]), [2, 0]),
    "repeated": ("batch_repeat_interleave", 2, [0, 0, 1, 1, 2, 2]),
}


@over_variants(RECURRENT)
@pytest.mark.parametrize("selection", SELECTIONS)
def test_rows_of_a_cache(case: Case, options: dict, selection: str) -> None:
    method, argument, rows = SELECTIONS[selection]
    model, inputs = case.model(**options), prompts(case)
    ids, mask = inputs["input_ids"][rows], inputs["attention_mask"][rows]
    with torch.no_grad():
        expected = model(ids, mask)
        cache = RecurrentCache(model.config.num_hidden_layers)
        model(inputs["input_ids"][:, :-2], inputs["attention_mask"][:, :-2], past_key_values=cache)
        getattr(cache, method)(argument)
        got = model(ids[:, -2:], mask, past_key_values=cache)
    assert got.past_key_values.batch_size == len(rows)
    real = mask[:, -2:].bool()
    torch.testing.assert_close(got.logits[real], expected.logits[:, -2:][real], **EXACT)
    torch.testing.assert_close(got.past_key_values.tensors(), expected.past_key_values.tensors(), **EXACT)


@each_recurrent
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_the_state_is_returned_unless_unwanted(case: Case, training: bool) -> None:
    model, batch = case.model().train(training), case.batch(LENGTHS)
    unlabelled = case.without_targets(batch)
    for inputs in (batch, unlabelled):
        assert isinstance(model(**inputs).past_key_values, RecurrentCache)
        assert model(**inputs, use_cache=False).past_key_values is None
    without = case.model(use_cache=False).train(training)
    assert without(**batch).past_key_values is None
    assert isinstance(without(**batch, use_cache=True).past_key_values, RecurrentCache)


@each_recurrent
def test_the_state_does_not_grow(case: Case) -> None:
    model = case.model()

    def size(length: int) -> int:
        cache = model(torch.ones(2, length, dtype=torch.long)).past_key_values
        return sum(state.numel() for state in cache.tensors().values())

    assert size(1) == size(50)


@each_recurrent
def test_a_cut_or_restored_state_is_the_same(case: Case) -> None:
    model, inputs = case.model(), prompts(case)
    state = model(**inputs).past_key_values
    for again in (state.detach(), RecurrentCache.from_tensors(state.tensors())):
        torch.testing.assert_close(again.tensors(), state.tensors(), rtol=0, atol=0)
        assert again.get_seq_length() == state.get_seq_length() == max(LENGTHS)
    assert not any(tensor.requires_grad for tensor in state.detach().tensors().values())
    assert state.tensors()["0.hidden"].requires_grad


@over_variants(LANGUAGE_MODELS)
def test_logits_of_the_last_tokens_only(case: Case, options: dict) -> None:
    model, batch = case.model(**options), case.batch(LENGTHS)
    whole, indices = model(**batch), torch.tensor([1, 4])
    for wanted, expected in ((2, whole.logits[:, -2:]), (indices, whole.logits[:, indices])):
        part = model(**batch, logits_to_keep=wanted)
        torch.testing.assert_close(part.logits, expected, **EXACT)
        torch.testing.assert_close(part.loss, whole.loss, **EXACT)  # of all tokens all the same


@over_variants(RECURRENT)
def test_generation_from_embeddings(case: Case, options: dict) -> None:
    model, inputs = case.model(**options), prompts(case)
    embedded = {**inputs, "inputs_embeds": model.get_input_embeddings()(inputs["input_ids"]).detach()}
    del embedded["input_ids"]
    for mode in ("greedy", "beams"):
        expected = generate(model, inputs, **MODES[mode])
        for use_cache in (True, False):
            got = generate(model, embedded, **MODES[mode], use_cache=use_cache)
            assert torch.equal(got.sequences, expected.sequences[:, -NEW:])


@each_recurrent
def test_prompts_in_chunks(case: Case) -> None:
    """The first chunk of the shortest prompt is padding alone."""
    model, inputs = case.model(), prompts(case)
    state = RecurrentCache(model.config.num_hidden_layers)
    assert_same(generate(model, inputs, past_key_values=state, prefill_chunk_size=3), generate(model, inputs))


TRANSLATORS = [case for case in GENERATING if case in TRANSLATING]
STATES = [case for case in TRANSLATORS if not case.toy.attends]


@over_variants(TRANSLATORS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_targets_in_chunks(case: Case, options: dict, side: str) -> None:
    """Every token may come in a call of its own, or in one with others, behind the cache of those before."""
    model, inputs = case.model(**options), case.batch((9, 4, 1, 6), targets=False, side=side)
    target, target_mask = inputs.pop("decoder_input_ids"), inputs.pop("decoder_attention_mask")
    with torch.no_grad():
        expected = model(**inputs, decoder_input_ids=target)
        source = model.get_encoder()(**inputs)
        for size in (1, 2, 3):
            cache, logits = None, []
            for start in range(0, target.shape[1], size):
                stop = start + size
                outputs = model(
                    attention_mask=inputs["attention_mask"],
                    encoder_outputs=source,
                    decoder_input_ids=target[:, start:stop],
                    decoder_attention_mask=target_mask[:, :stop] if size == 3 else None,
                    past_key_values=cache,
                )
                assert cache is None or outputs.past_key_values is cache
                cache = outputs.past_key_values
                logits.append(outputs.logits)
            real = target_mask.bool()
            torch.testing.assert_close(torch.cat(logits, 1)[real], expected.logits[real], **EXACT)


@over_variants(TRANSLATORS)
def test_translation_goes_on_from_a_returned_cache(case: Case, options: dict) -> None:
    """Right away; and behind two more tokens, as when a user writes a part of the target.

    By its mask `generate()` knows that a target is given whole; without one it takes every token for a new one.
    """
    model, inputs = case.model(**options), prompts(case)

    def after(tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        return {**inputs, "decoder_input_ids": tokens, "decoder_attention_mask": torch.ones_like(tokens)}

    whole = generate(model, inputs)
    part = generate(model, inputs, max_new_tokens=2)
    going_on = {"past_key_values": part.past_key_values, "max_new_tokens": NEW - 2}
    assert torch.equal(generate(model, after(part.sequences), **going_on).sequences, whole.sequences)
    longer = torch.cat([part.sequences, torch.randint(2, 60, (len(LENGTHS), 2))], 1)
    for mode in ("greedy", "sampling"):
        state = generate(model, inputs, max_new_tokens=2).past_key_values
        got = generate(model, after(longer), **MODES[mode], past_key_values=state)
        assert_same(got, generate(model, after(longer), **MODES[mode], use_cache=False))


@pytest.mark.parametrize("case", STATES, ids=name_of)
def test_beams_of_translations_need_their_own_states(case: Case) -> None:
    """The control, as above."""
    model, inputs = case.model(), prompts(case)
    expected = generate(model, inputs, num_beams=3, use_cache=False)
    assert_same(generate(model, inputs, num_beams=3, past_key_values=RecurrentCache(2)), expected)
    with pytest.raises(AssertionError):
        assert_same(generate(model, inputs, num_beams=3, past_key_values=Unmoved(2)), expected)


class UnmovedKeys(TransformerCache):
    """Keeps the keys and values of every beam where they are."""

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Does nothing."""


def test_beams_of_a_transformer_need_their_own_keys() -> None:
    case = case_named("VanillaTransformerForConditionalGeneration")
    model, inputs = case.model(), prompts(case)
    expected = generate(model, inputs, num_beams=3, use_cache=False)
    right, wrong = (
        generate(model, inputs, num_beams=3, past_key_values=kind(DynamicCache(), DynamicCache()))
        for kind in (TransformerCache, UnmovedKeys)
    )
    assert_same(right, expected)
    with pytest.raises(AssertionError):
        assert_same(wrong, expected)


@pytest.mark.parametrize("mode", ["beams", "two beams each", "three samples each", "sampled beams"])
def test_beams_share_their_source(mode: str) -> None:
    """Its keys and values are kept once, however many rows look at them."""
    case = case_named("VanillaTransformerForConditionalGeneration")
    cache = generate(case.model(), prompts(case), **MODES[mode]).past_key_values
    for own, source in zip(cache.self_attention_cache.layers, cache.cross_attention_cache.layers, strict=True):
        assert (len(own.keys), len(source.keys)) == (3 * len(LENGTHS), len(LENGTHS))
        assert source.keys.shape[2] == max(LENGTHS)


@over_variants(TRANSLATORS)
def test_generation_from_a_source_already_read(case: Case, options: dict) -> None:
    """By the encoder, or as embeddings."""
    model, inputs = case.model(**options), prompts(case)
    table = (model.base_model.encoder.embed_tokens)(inputs["input_ids"]).detach()
    for mode in ("greedy", "beams"):
        expected = generate(model, inputs, **MODES[mode])
        with torch.no_grad():
            read = model.get_encoder()(**inputs)
        for given in ({"encoder_outputs": read}, {"inputs_embeds": table}):
            got = generate(model, {"attention_mask": inputs["attention_mask"], **given}, **MODES[mode])
            assert_same(got, expected)


def test_some_case_generates() -> None:
    assert case_named("LSTMForCausalLM") in RECURRENT
