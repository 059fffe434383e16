"""The question-answering pipeline against a forward by hand and every span, one by one; and it answers."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase, pipeline
from transformers.pipelines.pt_utils import KeyDataset

import hf_seqmodels
from hf_seqmodels.pipelines import QuestionAnsweringPipeline
from tests.pipelines.toys import TEXT, letter_tokenizer, saved_bert

# Pieces of words, so that words could be cut.
TOKENIZER: Any = letter_tokenizer()
QUESTION = "Where did the cat sit?"
LONG = " ".join(TEXT)
# Probabilities of a model in float64: sums in another order.
ROUNDING = 1e-10
Answer = dict[str, Any]


@pytest.fixture(scope="module")
def answerer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """In float64, so that only a wrong answer differs."""
    folder = tmp_path_factory.mktemp("model")
    _, name = saved_bert("ForQuestionAnswering", TOKENIZER, folder, initializer_range=0.7)
    made = pipeline("question-answering", name, device="cpu", dtype=torch.float64)
    assert type(made) is QuestionAnsweringPipeline
    assert type(made.model) is hf_seqmodels.SeqBertForQuestionAnswering
    assert made.model.dtype == torch.float64
    return made


def by_hand(
    model: Any, tokenizer: Any, question: str, context: str, room: int, overlap: int, longest: int, null: bool
) -> list[Answer]:
    """All answers, from windows put together here, one forward each, and all pairs of tokens."""
    asked = tokenizer(question, add_special_tokens=False)["input_ids"]
    encoding = tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)
    ids, spans, words = encoding["input_ids"], encoding["offset_mapping"], encoding.word_ids()
    head = [tokenizer.cls_token_id, *asked, tokenizer.sep_token_id]
    logits: dict[int, tuple[int, float, float]] = {}
    nulls = []
    first = 0
    while True:
        own = ids[first : first + room]
        row = torch.tensor([[*head, *own, tokenizer.sep_token_id]])
        types = torch.tensor([[0] * len(head) + [1] * (len(own) + 1)])
        with torch.no_grad():
            outputs = model(row, token_type_ids=types)
        start, end = outputs.start_logits[0].tolist(), outputs.end_logits[0].tolist()
        nulls.append((start[0], end[0]))
        for place in range(len(own)):
            context_there = min(place, len(own) - 1 - place)
            if first + place not in logits or context_there > logits[first + place][0]:
                logits[first + place] = (context_there, start[len(head) + place], end[len(head) + place])
        if first + room >= len(ids):
            break
        first += room - overlap
    places = list(range(len(ids))) + ([-1] if null else [])
    logits[-1] = (0, *min(nulls, key=sum))
    starts = torch.tensor([logits[place][1] for place in places], dtype=torch.float64).softmax(0).tolist()
    ends = torch.tensor([logits[place][2] for place in places], dtype=torch.float64).softmax(0).tolist()
    scores: dict[tuple[int, int], float] = defaultdict(float)
    for i, word in enumerate(words):
        for j, other in enumerate(words):
            begin, finish = words.index(word), len(words) - 1 - words[::-1].index(other)
            if word == other or (word < other and finish - begin < longest):
                scores[spans[begin][0], spans[finish][1]] += starts[i] * ends[j]
    if null:
        scores[0, 0] = starts[-1] * ends[-1]
    answers = [{"score": s, "start": a, "end": b, "answer": context[a:b]} for (a, b), s in scores.items()]
    return sorted(answers, key=lambda answer: -answer["score"])


def agree(found: list[Answer], expected: list[Answer]) -> None:
    assert [answer | {"score": 0} for answer in found] == [answer | {"score": 0} for answer in expected]
    assert [answer["score"] for answer in found] == pytest.approx([one["score"] for one in expected], abs=ROUNDING)


@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [{}, {"max_seq_len": 40, "doc_stride": 5}, {"max_seq_len": 40}],
    ids=["one window", "windows", "overlap by default"],
)
def test_answers_are_those_of_all_spans(answerer: Any, sizes: dict[str, int], null: bool) -> None:
    context = LONG if sizes else TEXT[0]
    room = sizes.get("max_seq_len", TOKENIZER.model_max_length) - len(TOKENIZER(QUESTION)["input_ids"]) - 1
    overlap = sizes.get("doc_stride", room // 2)
    expected = by_hand(answerer.model, TOKENIZER, QUESTION, context, room, overlap, 9, null)
    options = {**sizes, "max_answer_len": 9, "handle_impossible_answer": null}
    agree(answerer(question=QUESTION, context=context, top_k=1000, **options), expected)
    agree([answerer(question=QUESTION, context=context, **options)], expected[:1])
    starts, ends = zip(*(match.span() for match in re.finditer(r"\w+|[^\w\s]", context)))
    assert all(answer["start"] in starts and answer["end"] in ends for answer in expected if answer["answer"])


def test_windows_make_no_difference_where_one_holds_all(answerer: Any) -> None:
    """And do elsewhere, the negative control."""
    given = {"question": QUESTION, "context": TEXT[0]}
    length = len(TOKENIZER(QUESTION, TEXT[0])["input_ids"])
    agree(answerer(given, top_k=50, max_seq_len=length), answerer(given, top_k=50))
    assert answerer(given, max_seq_len=length - 1)["score"] != pytest.approx(answerer(given)["score"], abs=1e-6)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_answers_like_each_question_alone(answerer: Any, side: str) -> None:
    rows = [{"question": "Who?", "context": TEXT[1]}, {"question": QUESTION, "context": LONG, "id": 7},
            {"question": "Rain?", "context": "The rain."}]  # fmt: skip
    options: dict[str, Any] = {"top_k": 20, "max_seq_len": 40, "handle_impossible_answer": True}
    alone = [answerer(row, **options) for row in rows]
    try:
        answerer.tokenizer.padding_side = side
        for size in (1, 2, 4, 16):
            for found, expected in zip(answerer(rows, batch_size=size, **options), alone, strict=True):
                agree(found, expected)
    finally:
        answerer.tokenizer.padding_side = "right"


def test_every_kind_of_input(answerer: Any) -> None:
    rows = [{"question": question, "context": TEXT[0]} for question in ("Who?", "Where?")]
    expected = answerer(rows)
    assert len(expected) == 2 and all(isinstance(answer, dict) for answer in expected)
    assert answerer(tuple(rows)) == list(answerer(row for row in rows)) == expected
    dataset: Any = KeyDataset([{"squad": row} for row in rows], "squad")  # type: ignore[arg-type]
    assert list(answerer(dataset)) == expected
    assert answerer(question=["Who?", "Where?"], context=TEXT[0]) == expected
    assert answerer(question=["Who?", "Where?"], context=[TEXT[0]] * 2) == expected
    assert answerer("Who?", TEXT[0]) == answerer(rows[0]) == expected[0]
    assert answerer(rows[:1]) == expected[:1] and answerer([]) == []


def test_options(answerer: Any) -> None:
    given = {"question": QUESTION, "context": TEXT[0]}
    pieces = answerer(given, align_to_words=False, top_k=1000, max_answer_len=1)
    assert len(pieces) == len(TOKENIZER(TEXT[0], add_special_tokens=False)["input_ids"])
    assert sum(piece["score"] for piece in pieces) < 1
    words = answerer(given, top_k=1000, max_answer_len=1)
    assert {word["answer"] for word in words} == set(TEXT[0].replace(".", " .").split())
    tokens = TOKENIZER(QUESTION, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    asked = {"question": QUESTION[: tokens[4][1]], "context": TEXT[0]}
    assert answerer(given, max_question_len=5) == answerer(asked) != answerer(given)
    at_construction = pipeline(
        "question-answering", model=answerer.model, tokenizer=TOKENIZER, device="cpu", top_k=2, max_answer_len=1
    )
    assert at_construction(given) == words[:2]


def test_bad_input_is_refused(answerer: Any) -> None:
    both = {"question": "Who?", "context": TEXT[0]}
    for given, message in (
        ({"question": "Who?"}, r"question='Who\?' and context=None must be given together"),
        ({"context": "Who?"}, r"question=None and context='Who\?' must be two texts"),
        ({}, "must be given together"),
        ({**both, "inputs": "Who?"}, "Questions are given twice"),
        ({"question": ["Who?"] * 2, "context": [TEXT[0]]}, "as many questions as"),
        ({"inputs": {"question": "Who?"}}, "context=None must be a text"),
        ({"inputs": [{**both, "question": " "}]}, "question=' ' must be a text"),
        ({"inputs": {**both, "context": 3}}, "context=3 must be a text"),
        ({"inputs": ["Who?"]}, r"example='Who\?' must be a mapping"),
        ({**both, "context": "\u200b"}, "has no tokens"),
        ({**both, "max_seq_len": 151}, "max_seq_len=151 is above the 150"),
        ({**both, "max_seq_len": 4}, r"max_seq_len=4 leaves -?\d+ tokens for the context"),
        ({**both, "max_seq_len": 40, "doc_stride": 39}, "more than doc_stride=39"),
        ({**both, "top_k": 0}, "top_k=0 must be at least 1"),
        ({**both, "max_answer_len": 0}, "max_answer_len=0"),
        ({**both, "max_question_len": 0}, "max_question_len=0"),
        ({**both, "doc_stride": -1}, "doc_stride=-1 must be at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            answerer(**given)


def test_other_models_and_tokenizers_are_refused(tmp_path: Path, answerer: Any) -> None:
    model, _ = saved_bert("Model", TOKENIZER, tmp_path)
    with pytest.raises(ValueError, match="model=SeqBertModel gives no start and end logits"):
        QuestionAnsweringPipeline(model, tokenizer=TOKENIZER, device="cpu")("Who?", TEXT[0])
    with pytest.raises(ValueError, match="tokenizer=NoneType: question answering needs a fast tokenizer"):
        QuestionAnsweringPipeline(model, device="cpu")
    nameless: PreTrainedTokenizerBase = letter_tokenizer()
    nameless.cls_token = None
    with pytest.raises(ValueError, match="needs a tokenizer with a cls_token"):
        QuestionAnsweringPipeline(answerer.model, tokenizer=nameless, device="cpu", handle_impossible_answer=True)


def test_a_trained_model_answers(tmp_path: Path) -> None:
    """Trained as transformers' examples do it, with places in one window, and asked in several at once."""
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model, folder = saved_bert("ForQuestionAnswering", TOKENIZER, tmp_path, initializer_range=0.3, **no_dropout)
    facts = [("What slept?", TEXT[2], "cat"), ("What chased?", TEXT[1], "dog"), ("What fell?", TEXT[2], "rain"),
             ("What lay?", TEXT[0], "dog"), ("Who flies?", TEXT[0], "")]  # fmt: skip
    batch = TOKENIZER([fact[0] for fact in facts], [fact[1] for fact in facts], padding=True, return_tensors="pt")
    starts, ends = [], []
    for row, (_, context, answer) in enumerate(facts):
        place = context.index(answer)
        starts.append(batch.char_to_token(row, place, 1) if answer else 0)
        ends.append(batch.char_to_token(row, place + len(answer) - 1, 1) if answer else 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(60):
        loss = model(**batch, start_positions=torch.tensor(starts), end_positions=torch.tensor(ends)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    model.save_pretrained(folder)
    answer = pipeline("question-answering", folder, device="cpu", handle_impossible_answer=True)
    rows = [{"question": question, "context": context} for question, context, _ in facts]
    found = answer(rows, batch_size=5)
    assert [row["answer"] for row in found] == [fact[2] for fact in facts]
    assert all(row["score"] > 0.8 for row in found)
