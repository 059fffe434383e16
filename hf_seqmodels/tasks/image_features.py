"""What a pretrained encoder has learnt: nearest neighbours and a linear classifier on its frozen features."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hf_seqmodels.data.image_dataset import ImageDataset
from hf_seqmodels.data.random import Key
from hf_seqmodels.models.modeling_vit import SeqViTPreTrainedModel

_NEIGHBOURS = 20


@torch.no_grad()
def encode_images(
    model: SeqViTPreTrainedModel,
    dataset: ImageDataset,
    collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]],
    batch_size: int,
    limit: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the encoded patches, and labels, of the first `limit` images.

    Args:
        model: of any head; the encoder sees whole images.
        collate: examples -> `pixel_values` and `labels`.

    Returns:
        `(images, hidden)` and `(images,)`.
    """
    encoder, prefix = model.base_model, model.config.num_prefix_tokens
    was_training = model.training
    model.eval()
    count = min(limit, len(dataset))
    features, labels = [], []
    for first in range(0, count, batch_size):
        indices = range(first, min(first + batch_size, count))
        batch = collate([dataset[Key(0, 0, index)] for index in indices])
        states = encoder(batch["pixel_values"].to(model.device)).last_hidden_state[:, prefix:]
        features.append(states.float().mean(1).cpu().numpy())
        labels.append(batch["labels"].numpy())
    model.train(was_training)
    return np.concatenate(features), np.concatenate(labels)


def judge_features(
    train: tuple[np.ndarray, np.ndarray], evaluation: tuple[np.ndarray, np.ndarray]
) -> dict[str, float]:
    """Accuracy on `evaluation` of simple classifiers that learn from `train`.

    Args:
        train, evaluation: features `(images, hidden)` and labels `(images,)`.

    Returns:
        `knn_accuracy`: 20 nearest neighbours by cosine, weighted by nearness (Wu et al. 2018); `linear_accuracy`:
        logistic regression on standardised features (a linear probe).
    """
    neighbours = KNeighborsClassifier(min(_NEIGHBOURS, len(train[0])), metric="cosine", weights="distance")
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return {
        "knn_accuracy": float(neighbours.fit(*train).score(*evaluation)),
        "linear_accuracy": float(linear.fit(*train).score(*evaluation)),
    }
