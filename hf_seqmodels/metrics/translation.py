"""BLEU and chrF of a corpus of translations, by the sacrebleu library, with the signature that says how."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from sacrebleu.metrics import BLEU, CHRF

from .base import OfflineMetric

References = Sequence[str] | Sequence[Sequence[str]]


class _TranslationMetric(OfflineMetric):
    """Predictions are texts; references one text for each, or a list of as many texts for each."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="Post 2018, A Call for Clarity in Reporting BLEU Scores; Popović 2015, chrF",
            inputs_description="predictions: one text each; references: one text, or a list of texts, each",
            features=[
                datasets.Features({"predictions": text, "references": datasets.List(text)}),
                datasets.Features({"predictions": text, "references": text}),
            ],
        )


class SacreBleu(_TranslationMetric):
    """BLEU of the whole corpus, 0 to 100 (Papineni et al. 2002), as sacrebleu counts it (Post 2018).

    Gives `score`, `precisions` (of 1 to 4 words, per cent), `bp` (brevity penalty), `sys_len` and `ref_len` (words),
    `counts` and `totals` (n-grams), and sacrebleu's `signature`, without which a BLEU cannot be compared with another.
    """

    def _compute(
        self,
        predictions: Sequence[str],
        references: References,
        lowercase: bool = False,
        tokenize: str = "13a",
        smooth_method: str = "exp",
    ) -> dict[str, Any]:
        """
        Args:
            predictions: texts.
            references: of each.
            lowercase: folds case first; `signature` has `case:lc` then, else `case:mixed`. Text that was lower-cased
                before gives lower-case BLEU whatever this says.
            tokenize: sacrebleu's tokenizer (13a as mteval-v13a; zh, ja-mecab, ko-mecab, char, none, …).
            smooth_method: of n-grams of which none is right: exp, floor, add-k or none.
        """
        metric = BLEU(lowercase=lowercase, tokenize=tokenize, smooth_method=smooth_method)
        result = metric.corpus_score(list(predictions), _by_number(references))
        return {
            "score": result.score,
            "counts": result.counts,
            "totals": result.totals,
            "precisions": result.precisions,
            "bp": result.bp,
            "sys_len": result.sys_len,
            "ref_len": result.ref_len,
            "signature": str(metric.get_signature()),
        }


class ChrF(_TranslationMetric):
    """F-score of character n-grams of the whole corpus, 0 to 100: chrF2 (Popović 2015); chrF2++ with `word_order=2`.

    Gives `score`, `char_order`, `word_order`, `beta` and sacrebleu's `signature`.
    """

    def _compute(
        self,
        predictions: Sequence[str],
        references: References,
        lowercase: bool = False,
        char_order: int = 6,
        word_order: int = 0,
        beta: int = 2,
    ) -> dict[str, Any]:
        """
        Args:
            predictions: texts.
            references: of each.
            lowercase: folds case first; `signature` has `case:lc` then, else `case:mixed`.
            char_order: longest n-gram of characters.
            word_order: longest n-gram of words; 0 is chrF, 2 chrF++.
            beta: how many times as much recall counts as precision.
        """
        metric = CHRF(lowercase=lowercase, char_order=char_order, word_order=word_order, beta=beta)
        result = metric.corpus_score(list(predictions), _by_number(references))
        return {
            "score": result.score,
            "char_order": char_order,
            "word_order": word_order,
            "beta": beta,
            "signature": str(metric.get_signature()),
        }


def _by_number(references: References) -> list[list[str]]:
    """References of each text -> all first references, all second ones, …, as sacrebleu has them.

    Raises:
        ValueError: not every text has as many, or one has none.
    """
    each = [[given] if isinstance(given, str) else list(given) for given in references]
    counts = sorted({len(given) for given in each})
    if len(counts) > 1 or not counts[0]:
        raise ValueError(f"references: every prediction needs equally many, at least 1; there are {counts}.")
    return [list(numbered) for numbered in zip(*each)]
