"""Contract 5: attention kernels, packing and sparse computation change the speed, never the result."""

import itertools

import pytest
import torch

from tests.contracts.cases import (
    ATTENDING,
    EXACT,
    IMAGES,
    TEXT,
    TRAINABLE,
    TRANSLATING,
    Case,
    assert_equal_gradients,
    case_named,
    gradients,
    name_of,
    over_variants,
    uncompiled_flex,
)

LENGTHS = (11, 4, 1, 7)
REFERENCE = {"sparse_prediction": False, "sparse_last_layer": False, "unpad_inputs": False}
SWITCHES = [
    {"sparse_prediction": sparse, "sparse_last_layer": last, "unpad_inputs": unpad, "attn_implementation": kernel}
    for kernel, unpad, (sparse, last) in itertools.product(
        ("eager", "sdpa"), (False, True), ((False, False), (True, False), (True, True))
    )
]
TRAINABLE_TEXT = [case for case in TRAINABLE if case in TEXT and case in ATTENDING]
RECURRENT_TRANSLATORS = [case for case in TRAINABLE if case in TRANSLATING and case not in ATTENDING]
PRETRAINING = [case_named("SeqBertForPreTraining"), case_named("SeqBertForMaskedLM")]


def title(switches: dict) -> str:
    return "-".join([switches["attn_implementation"], *(name for name, on in switches.items() if on is True)])


def masked_logits(outputs, batch, case: Case) -> torch.Tensor | None:
    """The vocabulary's scores where something is to be predicted, whether the model gave all or only these."""
    logits = outputs.get("prediction_logits", outputs.get("logits"))
    return logits[batch["labels"] != -100] if logits.dim() == 3 else logits


@pytest.mark.parametrize(
    ("case", "switches"),
    [(c, s) for c in TRAINABLE_TEXT for s in SWITCHES if c in PRETRAINING or not s["sparse_prediction"]],
    ids=lambda value: name_of(value) if isinstance(value, Case) else title(value),
)
def test_loss_and_gradients_equal_the_plain_computation(case: Case, switches: dict) -> None:
    batch = case.batch(LENGTHS)
    expected, expected_grads = gradients(case.model(attn_implementation="eager", **REFERENCE).train(), batch)
    outputs, grads = gradients(case.model(**switches).train(), batch)
    torch.testing.assert_close(outputs.loss, expected.loss, **EXACT)
    assert_equal_gradients(grads, expected_grads)
    if case in PRETRAINING:
        logits, expected_logits = (masked_logits(out, batch, case) for out in (outputs, expected))
        torch.testing.assert_close(logits, expected_logits, **EXACT)


@over_variants([case for case in TRAINABLE if case in IMAGES])
def test_loss_and_gradients_under_sdpa(case: Case, options: dict) -> None:
    batch = case.batch(LENGTHS)
    eager, sdpa = (case.model(attn_implementation=kernel, **options).train() for kernel in ("eager", "sdpa"))
    (expected, expected_grads), (outputs, grads) = (gradients(model, batch) for model in (eager, sdpa))
    torch.testing.assert_close(outputs.loss, expected.loss, **EXACT)
    assert_equal_gradients(grads, expected_grads)


@over_variants([case_named("VanillaTransformerForConditionalGeneration")], kernels=("eager", "sdpa"))
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("unpad", [False, True], ids=["padded", "unpadded"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_translation_equals_the_plain_computation(
    case: Case, options: dict, sparse: bool, unpad: bool, side: str
) -> None:
    batch, switches = case.batch(LENGTHS, side=side), {"sparse_prediction": sparse, "unpad_inputs": unpad}
    plain = {**options, "attn_implementation": "eager", "sparse_prediction": False, "unpad_inputs": False}
    expected, expected_grads = gradients(case.model(**plain).train(), batch)
    outputs, grads = gradients(case.model(**{**options, **switches}).train(), batch)
    torch.testing.assert_close(outputs.loss, expected.loss, **EXACT)
    assert_equal_gradients(grads, expected_grads)
    wanted = batch["labels"] != -100
    logits = outputs.logits if sparse else outputs.logits[wanted]
    torch.testing.assert_close(logits, expected.logits[wanted], **EXACT)


@over_variants(RECURRENT_TRANSLATORS)
def test_sparse_prediction_of_recurrent_translation(case: Case, options: dict) -> None:
    batch = case.batch(LENGTHS)
    (dense, dense_grads), (sparse, grads) = (
        gradients(case.model(**options, sparse_prediction=switch).train(), batch) for switch in (False, True)
    )
    torch.testing.assert_close(sparse.loss, dense.loss, **EXACT)
    torch.testing.assert_close(sparse.logits, dense.logits[batch["labels"] != -100], **EXACT)
    assert_equal_gradients(grads, dense_grads)


@over_variants(ATTENDING)
def test_kernels_give_equal_outputs(case: Case, options: dict) -> None:
    """The same model switched to another kernel, in eval, on every real token."""
    batch = case.batch(LENGTHS, targets=False)
    model = case.model(attn_implementation="eager", **options)
    kernels = ["sdpa"] if options.get("use_locality_attention") else ["sdpa", "flex_attention"]
    with uncompiled_flex():
        expected = case.real_parts(model(**batch), batch)
        for kernel in kernels:
            model.set_attn_implementation(kernel)
            outputs = case.real_parts(model(**batch), batch)
            torch.testing.assert_close(outputs, expected, **EXACT)


@pytest.mark.parametrize("case", PRETRAINING, ids=name_of)
def test_sparse_last_layer_under_flex(case: Case) -> None:
    batch, row = packed(case, LENGTHS)
    with uncompiled_flex():
        expected = case.model(attn_implementation="eager")(**batch)
        model = case.model(attn_implementation="flex_attention")
        for inputs in (batch, row):
            outputs = model(**inputs, sparse_prediction=True)
            torch.testing.assert_close(outputs.loss, expected.loss, **EXACT)


@pytest.mark.slow
def test_compiled_flex() -> None:
    case = case_named("SeqBertModel")
    batch = case.batch(LENGTHS, targets=False)
    real = batch["attention_mask"].bool()
    model = case.model(torch.float32)
    with torch.no_grad():
        expected = model(**batch).last_hidden_state[real]
        model.set_attn_implementation("flex_attention")
        outputs = model(**batch).last_hidden_state[real]
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-4)


def packed(case: Case, lengths: tuple[int, ...]) -> tuple[dict, dict]:
    """The same rows as a padded batch and as one packed row."""
    batch = case.batch(lengths)
    real = batch["attention_mask"].bool()
    row = {name: values[real][None] for name, values in batch.items() if values.shape == real.shape}
    del row["attention_mask"]
    row |= {name: values for name, values in batch.items() if values.dim() == 1}
    row["cu_seq_lens"] = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
    return batch, row


@pytest.mark.parametrize("case", PRETRAINING, ids=name_of)
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_packed_rows_equal_padded_ones(case: Case, kernel: str, sparse: bool) -> None:
    batch, row = packed(case, LENGTHS)
    expected, expected_grads = gradients(case.model(attn_implementation="eager", **REFERENCE).train(), batch)
    model = case.model(attn_implementation=kernel, sparse_prediction=sparse, sparse_last_layer=sparse).train()
    outputs, grads = gradients(model, row)
    torch.testing.assert_close(outputs.loss, expected.loss, **EXACT)
    if "seq_relationship_logits" in outputs:
        torch.testing.assert_close(outputs.seq_relationship_logits, expected.seq_relationship_logits, **EXACT)
    torch.testing.assert_close(masked_logits(outputs, row, case), masked_logits(expected, batch, case), **EXACT)
    assert_equal_gradients(grads, expected_grads)


def test_segments_do_not_see_each_other_under_flex() -> None:
    case = case_named("SeqBertModel")
    batch = case.batch(LENGTHS, targets=False)
    real = batch["attention_mask"].bool()
    row = {name: batch[name][real][None] for name in ("input_ids", "token_type_ids")}
    bounds = torch.tensor([0, *itertools.accumulate(LENGTHS)])
    model = case.model()
    with uncompiled_flex():
        expected = model(**batch)
        model.set_attn_implementation("flex_attention")
        outputs = model(**row, cu_seq_lens=bounds)
    torch.testing.assert_close(outputs.last_hidden_state[0], expected.last_hidden_state[real], **EXACT)
    torch.testing.assert_close(outputs.pooler_output, expected.pooler_output, **EXACT)


@pytest.mark.parametrize("case", PRETRAINING, ids=name_of)
def test_sparse_prediction_in_eval_on_request(case: Case) -> None:
    model, batch = case.model(), case.batch(LENGTHS)
    with torch.no_grad():
        dense, sparse = model(**batch), model(**batch, sparse_prediction=True)
    logits = sparse.get("prediction_logits", sparse.get("logits"))
    assert logits.shape == (int((batch["labels"] != -100).sum()), model.config.vocab_size)
    torch.testing.assert_close(logits, masked_logits(dense, batch, case), **EXACT)
    torch.testing.assert_close(sparse.loss, dense.loss, **EXACT)


FAST = [
    {"attn_implementation": "sdpa", "sparse_prediction": True, "sparse_last_layer": True, "unpad_inputs": unpad}
    for unpad in (False, True)
]


@pytest.mark.parametrize("case", PRETRAINING, ids=name_of)
@pytest.mark.parametrize("switches", FAST, ids=title)
@pytest.mark.parametrize("autocast", [False, True], ids=["bf16", "autocast"])
def test_fast_paths_are_as_accurate_in_bf16(case: Case, switches: dict, autocast: bool) -> None:
    """Error against float64 at most twice that of the plain computation in the same precision, over six batches."""
    fast_error = plain_error = 0.0
    for seed in range(6):
        torch.manual_seed(seed)
        batch = case.batch(LENGTHS)
        weights = torch.float32 if autocast else torch.bfloat16
        plain = case.model(weights, attn_implementation="eager", **REFERENCE).train()
        exact = case.model(attn_implementation="eager", **REFERENCE).train()
        exact.load_state_dict(plain.state_dict())
        _, truth = gradients(exact, batch)
        fast = case.model(weights, **switches).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            fast_error += error(gradients(fast, batch)[1], truth)
            plain_error += error(gradients(plain, batch)[1], truth)
    assert 0 < fast_error <= 2 * plain_error


def error(grads: dict[str, torch.Tensor], truth: dict[str, torch.Tensor]) -> float:
    """Norm of the difference over all parameters, relative to the true gradient's."""
    difference = sum((grads[name].double() - grad).square().sum() for name, grad in truth.items())
    return (difference / sum(grad.square().sum() for grad in truth.values())).sqrt().item()


def test_without_targets_and_inputs_embeds_every_kernel_agrees() -> None:
    """Embeddings in place of ids go the same ways."""
    case = case_named("SeqBertModel")
    batch = case.batch(LENGTHS, targets=False)
    model, unpadding = case.model(), case.model(unpad_inputs=True)
    embeds = model.get_input_embeddings()(batch.pop("input_ids"))
    with torch.no_grad():
        expected, outputs = model(**batch, inputs_embeds=embeds), unpadding(**batch, inputs_embeds=embeds)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(outputs.last_hidden_state[real], expected.last_hidden_state[real], **EXACT)
    assert outputs.last_hidden_state[~real].eq(0).all()
