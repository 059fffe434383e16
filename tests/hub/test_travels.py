"""Models that were pushed load again: with the package as its own classes, without it by the code that they carry."""

from typing import Any

import pytest

from tests.hub.client import Client
from tests.hub.server import OTHER_TOKEN, USER, HubServer

# Class and Auto class of one model per modality and, for text, per kind of network.
MODELS = {
    "lstm": ("LSTMForCausalLM", "AutoModelForCausalLM", {"hidden_size": 8, "num_hidden_layers": 1}),
    "transformer": (
        "VanillaTransformerForConditionalGeneration",
        "AutoModelForSeq2SeqLM",
        {
            "d_model": 8,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 8,
            "decoder_ffn_dim": 8,
            "decoder_start_token_id": 0,
        },
    ),
    "bert": (
        "SeqBertForPreTraining",
        "AutoModelForPreTraining",
        {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8},
    ),
    "vit": (
        "SeqViTForImageClassification",
        "AutoModelForImageClassification",
        {
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 8,
            "image_size": 8,
            "patch_size": 4,
        },
    ),
}


def push(repo: str, class_name: str, sizes: dict[str, Any]) -> None:
    """Pushes a new model with what makes its inputs."""
    import torch

    import hf_seqmodels
    from hf_seqmodels.data.tokenizers import train_wordpiece
    from hf_seqmodels.data.translation_tokenizers import train_characters

    torch.manual_seed(0)
    processor: Any
    if "ViT" in class_name:
        processor = hf_seqmodels.SeqViTImageProcessor(size={"height": 8, "width": 8})
    else:
        texts = ["the cat sat on a mat"] * 9
        processor = train_wordpiece(texts, 60) if "Bert" in class_name else train_characters(texts)
        sizes = {**sizes, "vocab_size": len(processor), "pad_token_id": processor.pad_token_id}
    model_class = getattr(hf_seqmodels, class_name)
    model_class(model_class.config_class(**sizes)).push_to_hub(repo)
    processor.push_to_hub(repo)


def load(repo: str, auto_class: str, **options: Any) -> dict[str, Any]:
    """Loads a model by its Auto class, with tokenizer or image processor; its outputs for a fixed input."""
    import numpy as np
    import torch
    import transformers
    from PIL import Image

    if "trust_remote_code" not in options:
        import hf_seqmodels  # noqa: F401 - which is all that a user with the package does
    model = getattr(transformers, auto_class).from_pretrained(repo, **options).eval()
    inputs: Any
    if "Image" in auto_class:
        processor = transformers.AutoImageProcessor.from_pretrained(repo, **options)
        image = Image.fromarray(np.arange(9 * 10 * 3, dtype=np.uint8).reshape(9, 10, 3))
        inputs = processor(image, return_tensors="pt")
    else:
        processor = transformers.AutoTokenizer.from_pretrained(repo, **options)
        inputs = processor(["the cat", "a mat sat on the mat"], padding=True, return_tensors="pt")
    results = {"class": [type(model).__module__.split(".")[0], type(model).__name__]}
    results["processor"] = type(processor).__module__.split(".")[0]
    if auto_class in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM"):
        results["generated"] = model.generate(**inputs, max_new_tokens=5, num_beams=2).tolist()
    if auto_class == "AutoModelForSeq2SeqLM":
        inputs["decoder_input_ids"] = inputs["input_ids"]
    with torch.no_grad():
        # Of float32 numbers JSON keeps every bit.
        results["logits"] = model(**inputs)[0].tolist()
    return results


@pytest.mark.parametrize(("class_name", "auto_class", "sizes"), MODELS.values(), ids=MODELS)
def test_pushed_models_load_with_and_without_the_package(
    hub: HubServer,
    client: Client,
    bare_client: Client,
    class_name: str,
    auto_class: str,
    sizes: dict[str, Any],
) -> None:
    name = f"travels-{class_name.lower()}"
    client.run(push, repo=name, class_name=class_name, sizes=sizes)
    repository = hub.storage[f"{USER}/{name}"]
    assert {"README.md", "config.json", "model.safetensors"} < set(repository.files())
    here = client.run(load, repo=f"{USER}/{name}", auto_class=auto_class)
    there = bare_client.run(load, repo=f"{USER}/{name}", auto_class=auto_class, trust_remote_code=True)
    assert here.pop("class") == ["hf_seqmodels", class_name]
    assert there.pop("class") == ["transformers_modules", class_name]
    is_image = auto_class == "AutoModelForImageClassification"
    assert [here.pop("processor"), there.pop("processor")] == (
        ["hf_seqmodels", "transformers_modules"] if is_image else ["transformers"] * 2
    )
    assert here == there
    assert not [request for request in hub.unknown if name in request]


def test_without_package_nor_trust_it_is_refused(client: Client, bare_client: Client) -> None:
    class_name, auto_class, sizes = MODELS["lstm"]
    client.run(push, repo="untrusted", class_name=class_name, sizes=sizes)
    arguments = {"repo": f"{USER}/untrusted", "auto_class": auto_class, "trust_remote_code": False}
    outcome = bare_client.attempt(load, **arguments)
    assert outcome.code == 1 and "trust_remote_code=True" in outcome.output


def test_private_repository_is_seen_by_its_owner_alone(hub: HubServer, client: Client, bare_client: Client) -> None:
    class_name, auto_class, sizes = MODELS["bert"]
    hub.storage.create(f"{USER}/secret", private=True)
    client.run(push, repo="secret", class_name=class_name, sizes=sizes)
    arguments = {"repo": f"{USER}/secret", "auto_class": auto_class, "trust_remote_code": True}
    outcome = bare_client.attempt(load, token=OTHER_TOKEN, **arguments)
    assert outcome.code == 1 and "is not a valid model identifier" in outcome.output
    bare_client.run(load, **arguments)
