"""Model cards: the README.md of a model folder, whose text is ours only as long as nobody has edited it.

The metadata is that of the Hub (https://huggingface.co/docs/hub/model-cards). A card of ours begins with a comment
that holds a hash of the text below it: where the two do not agree, someone has edited the text, and it is kept.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import CardData, ModelCard, ModelCardData
from huggingface_hub.utils.sha import git_hash
from transformers import PreTrainedConfig, PreTrainedModel

CARD_NAME = "README.md"
# The Hub's own identifier for a licence that nobody has stated.
UNKNOWN_LICENSE = "unknown"
WEIGHTS_NAME = "model.safetensors"

_MARKER = "<!-- Written by hf_seqmodels; edit what you like, an edited text is kept. "
_LOADING = 'from_pretrained("'
# What transformers puts into a new repository, if nobody has a better card.
_TEMPLATE_DESCRIPTION = (
    "This is the model card of a 🤗 transformers model that has been pushed on the Hub. This model card has been "
    "automatically generated."
)


@dataclass(frozen=True)
class _Architecture:
    """What a card says of an architecture: its name, the Hub's tag, and where it comes from."""

    name: str
    tag: str
    paper: str
    link: str


_ARCHITECTURES = {
    "rnn": _Architecture(
        "recurrent neural network", "rnn", "Elman 1990", "https://doi.org/10.1207/s15516709cog1402_1"
    ),
    "lstm": _Architecture(
        "long short-term memory network",
        "lstm",
        "Hochreiter & Schmidhuber 1997",
        "https://doi.org/10.1162/neco.1997.9.8.1735",
    ),
    "gru": _Architecture(
        "recurrent network of gated units (GRU)", "gru", "Cho et al. 2014", "https://arxiv.org/abs/1406.1078"
    ),
    "seq2seq": _Architecture(
        "recurrent encoder–decoder", "seq2seq", "Sutskever et al. 2014", "https://arxiv.org/abs/1409.3215"
    ),
    "attention_seq2seq": _Architecture(
        "recurrent encoder–decoder with attention",
        "seq2seq",
        "Bahdanau et al. 2014",
        "https://arxiv.org/abs/1409.0473",
    ),
    "vanilla_transformer": _Architecture(
        "Transformer (encoder–decoder)", "transformer", "Vaswani et al. 2017", "https://arxiv.org/abs/1706.03762"
    ),
    "seq_bert": _Architecture("BERT encoder", "bert", "Devlin et al. 2018", "https://arxiv.org/abs/1810.04805"),
    "seq_vit": _Architecture(
        "Vision Transformer", "vit", "Dosovitskiy et al. 2020", "https://arxiv.org/abs/2010.11929"
    ),
}


@dataclass(frozen=True)
class _Head:
    """The Auto class of a head, and the task of `pipeline()` that it serves for texts and for images."""

    auto_class: str | None
    text_task: str | None = None
    image_task: str | None = None


# By the end of the class's name, as transformers itself goes by names.
_HEADS = {
    "ForCausalLM": _Head("AutoModelForCausalLM", "text-generation"),
    "ForConditionalGeneration": _Head("AutoModelForSeq2SeqLM", "translation"),
    "ForMaskedLM": _Head("AutoModelForMaskedLM", "fill-mask"),
    "ForPreTraining": _Head("AutoModelForPreTraining", "fill-mask", "image-feature-extraction"),
    "ForNextSentencePrediction": _Head("AutoModelForNextSentencePrediction"),
    "ForSequenceClassification": _Head("AutoModelForSequenceClassification", "text-classification"),
    "ForTokenClassification": _Head("AutoModelForTokenClassification", "token-classification"),
    "ForQuestionAnswering": _Head("AutoModelForQuestionAnswering", "question-answering"),
    "ForMultipleChoice": _Head("AutoModelForMultipleChoice"),
    "ForImageClassification": _Head("AutoModelForImageClassification", None, "image-classification"),
    "ForMaskedImageModeling": _Head("AutoModelForMaskedImageModeling"),
    "ForMaskedPatchPrediction": _Head(None),
    "Backbone": _Head("AutoBackbone"),
    "PreTrainedModel": _Head(None),
    "Model": _Head("AutoModel", "feature-extraction", "image-feature-extraction"),
}

# Sizes that a card shows where a configuration has them.
_SIZES = (
    "hidden_size",
    "d_model",
    "embedding_size",
    "num_hidden_layers",
    "encoder_layers",
    "decoder_layers",
    "num_attention_heads",
    "encoder_attention_heads",
    "intermediate_size",
    "vocab_size",
    "image_size",
    "patch_size",
    "num_channels",
)


def _architecture(config_class: type[PreTrainedConfig]) -> _Architecture | None:
    """That of the configuration, or of the class that it derives from; `None` for transformers' own models."""
    types = (getattr(cls, "model_type", None) for cls in config_class.__mro__)
    return next((_ARCHITECTURES[name] for name in types if name in _ARCHITECTURES), None)


def _head(model_class: type) -> _Head:
    """That of the class, or of the class that it derives from."""
    for cls in model_class.__mro__:
        for ending, head in _HEADS.items():
            if cls.__name__.endswith(ending):
                return head
    return _Head(None)


def paper_of(config_class: type[PreTrainedConfig]) -> tuple[str, str] | None:
    """Authors and year of the paper that an architecture comes from, and its address; `None` if none is known."""
    architecture = _architecture(config_class)
    return None if architecture is None else (architecture.paper, architecture.link)


def auto_class_of(model_class: type[PreTrainedModel]) -> str | None:
    """Name of the Auto class that loads a model, e.g. "AutoModelForCausalLM"; `None` if none does."""
    return _head(model_class).auto_class


def pipeline_tag_of(model_class: type[PreTrainedModel]) -> str | None:
    """The task of `pipeline()` that a model serves, which is the Hub's `pipeline_tag`; `None` if there is none."""
    head = _head(model_class)
    if head.auto_class == "AutoModel" and getattr(model_class.config_class, "is_encoder_decoder", False):
        return None  # feature-extraction gives a model no target
    return head.image_task if model_class.main_input_name == "pixel_values" else head.text_task


def card_data(model: PreTrainedModel, **values: Any) -> ModelCardData:
    """Metadata of a model's card.

    Args:
        model: of this package or of transformers.
        values: further metadata of `ModelCardData`, in place of what follows from the model.
    """
    architecture = _architecture(type(model.config))
    tags = [] if architecture is None else ["hf_seqmodels", architecture.tag]
    known: dict[str, Any] = {
        "license": UNKNOWN_LICENSE,
        "library_name": "transformers",
        "pipeline_tag": pipeline_tag_of(type(model)),
        "tags": [*tags, model.config.model_type],
    }
    return ModelCardData(**{**known, **values})


def card_text(model: PreTrainedModel, name: str, sections: Sequence[tuple[str, str]] = ()) -> str:
    """Text of a model's card: what it is and how to use it, then the given sections (title, text).

    Args:
        model: of this package or of transformers.
        name: what `from_pretrained` takes: a folder or a repository.
    """
    title = os.path.basename(os.path.abspath(name))
    parts = [f"# {title}", _description(model)]
    for heading, text in [("How to use", _usage(model, name)), *sections]:
        parts.append(f"## {heading}\n\n{text.strip()}")
    return "\n\n".join(parts) + "\n"


def table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _description(model: PreTrainedModel) -> str:
    architecture, config = _architecture(type(model.config)), model.config
    count = sum(parameter.numel() for parameter in model.parameters())
    what = f"a `{config.model_type}` of transformers"
    if architecture is not None:
        what = f"a {architecture.name} ([{architecture.paper}]({architecture.link})) of hf_seqmodels"
    sizes = [(f"`{name}`", getattr(config, name)) for name in _SIZES if getattr(config, name, None) is not None]
    return f"`{type(model).__name__}`: {what} with {count:,} parameters.\n\n{table(('size', 'value'), sizes)}"


def _usage(model: PreTrainedModel, name: str) -> str:
    """Code that loads the model, with the package and without."""
    auto_class = auto_class_of(type(model))
    if auto_class is None:
        return _code(model, name, f"from hf_seqmodels import {type(model).__name__}", type(model).__name__)
    if _architecture(type(model.config)) is None:
        return _code(model, name, "", auto_class)
    with_package = _code(model, name, "import hf_seqmodels", auto_class)
    without = _code(model, name, "", auto_class, ", trust_remote_code=True")
    return (
        f"With hf_seqmodels installed:\n\n{with_package}\n\n"
        f"Without it, by the code that lies beside the weights:\n\n{without}"
    )


def _code(model: PreTrainedModel, name: str, first_line: str, loader: str, options: str = "") -> str:
    sees_images = model.main_input_name == "pixel_values"
    variable, processor = ("processor", "AutoImageProcessor") if sees_images else ("tokenizer", "AutoTokenizer")
    quoted = f'"{name.replace(os.sep, "/")}"'
    imported = sorted({loader, processor}) if loader.startswith("Auto") else [processor]
    lines = [
        "```python",
        *([first_line] if first_line else []),
        f"from transformers import {', '.join(imported)}",
        f"model = {loader}.from_pretrained({quoted}{options})",
        # Tokenizers bring no code of their own.
        f"{variable} = {processor}.from_pretrained({quoted}{options if sees_images else ''})",
        "```",
    ]
    return "\n".join(lines)


def _digest(text: str) -> str:
    # Line ends and empty lines are no edits: git and editors change them.
    return git_hash(" ".join(text.split()).encode("utf-8"))


def make_card(data: ModelCardData, text: str) -> ModelCard:
    """A card of ours, marked as unedited."""
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_MARKER}{_digest(text)} -->\n\n{text.strip()}\n")


def is_edited(card: ModelCard) -> bool:
    """Whether someone has written the card's text, or changed ours."""
    marker, _, rest = card.text.strip().partition("\n")
    return marker.rstrip() != f"{_MARKER}{_digest(rest)} -->"


def _is_template(card: ModelCard) -> bool:
    """Whether it is the empty form that transformers puts into a new repository."""
    template = ModelCard.from_template(ModelCardData(), model_description=_TEMPLATE_DESCRIPTION)
    return _digest(card.text) == _digest(template.text)


def _united(first: Any, second: Any) -> Any:
    """Both lists in one, each entry once; a single value counts as a list of one."""
    lists = [[] if value is None else value if isinstance(value, list) else [value] for value in (first, second)]
    return list(dict.fromkeys([*lists[0], *lists[1]])) or None


def complete_data(data: CardData, other: ModelCard) -> ModelCardData:
    """Metadata with what it lacks taken from another card.

    Lists (tags, languages, …) are united. A licence that is only unknown gives way. Where both have results, those of
    the other card go, which are of other weights, unless a person keeps them there for other data.
    """
    values, rest = dict(data.__dict__), dict(other.data.__dict__)
    merged = {name: rest.get(name) if values.get(name) is None else values[name] for name in {**values, **rest}}
    for name in ("tags", "language", "datasets", "base_model"):
        merged[name] = _united(values.get(name), rest.get(name))
    if values.get("license") in (None, UNKNOWN_LICENSE) and rest.get("license") is not None:
        merged.update({name: rest.get(name) for name in ("license", "license_name", "license_link")})
    if values.get("eval_results"):
        merged["metrics"] = values.get("metrics")
        if is_edited(other):
            measured = {result.unique_identifier for result in values["eval_results"]}
            kept = [result for result in rest.get("eval_results") or [] if result.unique_identifier not in measured]
            merged["eval_results"] = [*values["eval_results"], *kept]
            merged["metrics"] = _united(values.get("metrics"), rest.get("metrics"))
    return ModelCardData(**merged)  # type: ignore[arg-type]


def settle(cards: Sequence[ModelCard]) -> ModelCard:
    """One card of several for a model, the most wanted first: text that someone has edited goes before all of ours.

    The metadata is that of the first card, completed from the others.
    """
    chosen = next((card for card in cards if is_edited(card)), cards[0])
    data: Any = cards[0].data
    for card in cards[1:]:
        data = complete_data(data, card)
    return ModelCard(f"---\n{data.to_yaml()}\n---\n{chosen.text}")


def load_card(folder: str | os.PathLike) -> ModelCard | None:
    """The card of a model folder, if it has one."""
    path = os.path.join(folder, CARD_NAME)
    return ModelCard.load(path) if os.path.isfile(path) else None


def save_card(folder: str | os.PathLike, card: ModelCard) -> None:
    """Writes a new card of ours to a model folder; a text there that someone has edited is kept, and completed."""
    present = load_card(folder)
    (card if present is None else settle([card, present])).save(os.path.join(folder, CARD_NAME))


def write_pushed_card(
    folder: str | os.PathLike, model: PreTrainedModel, repo_id: str, local: ModelCard | None = None
) -> None:
    """Completes the card in a folder that is about to be pushed; transformers has put the repository's or a form in.

    Wanted are, in this order: an edited card, the local one, the card of the folder that the model was loaded from if
    these are still the same weights, the repository's, and a new one. Nothing is lost of the repository's metadata.

    Args:
        folder: with weights and `README.md`.
        model: that was saved there.
        repo_id: of the repository.
        local: the card that was in the folder before.
    """
    source = model.name_or_path or ""
    former = load_card(source) if os.path.isdir(source) and _same_weights(folder, source) else None
    new = make_card(card_data(model), card_text(model, repo_id))
    settle_pushed([local, former, load_card(folder), new], repo_id).save(os.path.join(folder, CARD_NAME))


def settle_pushed(cards: Sequence[ModelCard | None], repo_id: str) -> ModelCard:
    """The card for a repository, of several as `settle` does; empty forms do not count."""
    return settle([_moved(card, repo_id) for card in cards if card is not None and not _is_template(card)])


def _moved(card: ModelCard, repo_id: str) -> ModelCard:
    """A card of ours whose code loads the model from a repository; an edited one as it is."""
    if is_edited(card):
        return card
    _, _, text = card.text.strip().partition("\n")
    _, _, rest = text.strip().partition("\n")
    if _LOADING in rest:
        former = rest.partition(_LOADING)[2].partition('"')[0]
        rest = rest.replace(f'{_LOADING}{former}"', f'{_LOADING}{repo_id}"')
    name = repo_id.rpartition("/")[2]
    values: dict[str, Any] = dict(card.data.__dict__)
    if values.get("eval_results"):
        values["model_name"] = name
    return make_card(ModelCardData(**values), f"# {name}\n{rest}")


def _same_weights(folder: str | os.PathLike, other: str | os.PathLike) -> bool:
    paths = [os.path.join(place, WEIGHTS_NAME) for place in (folder, other)]
    if not all(map(os.path.isfile, paths)) or len(set(map(os.path.getsize, paths))) > 1:
        return False
    with open(paths[0], "rb") as first, open(paths[1], "rb") as second:
        while block := first.read(1 << 20):
            if block != second.read(1 << 20):
                return False
    return True


__all__ = [
    "CARD_NAME",
    "UNKNOWN_LICENSE",
    "auto_class_of",
    "card_data",
    "card_text",
    "complete_data",
    "is_edited",
    "load_card",
    "make_card",
    "paper_of",
    "pipeline_tag_of",
    "save_card",
    "settle",
    "settle_pushed",
    "table",
    "write_pushed_card",
]
