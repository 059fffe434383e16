"""SeqViT for classes of images, and as a backbone that gives feature maps."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.backbone_utils import BackboneMixin, filter_output_hidden_states
from transformers.modeling_outputs import BackboneOutput, ModelOutput
from transformers.utils.generic import can_return_tuple

from .configuration_vit import SeqViTConfig
from .losses import Count, image_classification_loss
from .modeling_vit import PRETRAINING_ONLY, SeqViTModel, SeqViTPreTrainedModel
from .patches import patch_grid


@dataclass
class SeqViTImageClassifierOutput(ModelOutput):
    """Output of `SeqViTForImageClassification`.

    Args:
        loss: scalar, if labels were given.
        logits: `(batch, num_labels)`; with a distillation token the mean of the two heads' while evaluating, and the
            class token's while training.
        cls_logits, distillation_logits: `(batch, num_labels)` of the two heads, if there is a distillation token.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    cls_logits: torch.Tensor | None = None
    distillation_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class SeqViTForImageClassification(SeqViTPreTrainedModel):
    """A linear classifier on the pooled image, with a second one on the distillation token if there is one."""

    _keys_to_ignore_on_load_unexpected = PRETRAINING_ONLY

    def __init__(self, config: SeqViTConfig):
        super().__init__(config)
        self.vit = SeqViTModel(config)
        num_labels, features = int(config.num_labels or 0), config.pre_logits_size or config.hidden_size
        if num_labels < 1:
            raise ValueError(f"id2label={config.id2label}: a classifier needs num_labels of at least 1.")
        self.pre_logits = nn.Linear(config.hidden_size, features) if config.pre_logits_size else None
        self.classifier = nn.Linear(features, num_labels)
        self.distillation_classifier = (
            nn.Linear(config.hidden_size, num_labels) if config.use_distillation_token else None
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if self.config.zero_init_head and module in (self.classifier, self.distillation_classifier):
            init.zeros_(module.weight)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        teacher_logits: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        num_items_in_batch: Count = None,
        **kwargs: Any,
    ) -> SeqViTImageClassifierOutput:
        r"""Classifies images.

        Args:
            pixel_values, attention_mask, interpolate_pos_encoding: see `SeqViTModel`.
            labels: `(batch,)` class ids, -100 for none; or `(batch, num_labels)` probabilities (mixup, smoothing).
            teacher_logits: `(batch, num_labels)` of a teacher: the distillation head learns the teacher's class (hard
                distillation, Touvron et al. 2021, equation 3), in place of the label.
            num_items_in_batch: elements of the labels in the whole step, as `Trainer` counts them.

        Raises:
            ValueError: labels that do not fit, or a teacher without a distillation token.
        """
        wants_more = any(
            kwargs.get(name, getattr(self.config, name)) for name in ("output_attentions", "output_hidden_states")
        )
        # Of the last layer the classifier sees the class token alone.
        alone = self.config.pooling == "cls" and not wants_more
        outputs = self.vit(
            pixel_values,
            attention_mask=attention_mask,
            interpolate_pos_encoding=interpolate_pos_encoding,
            num_output_tokens=self.config.num_prefix_tokens if alone else None,
            **kwargs,
        )
        pooled = outputs.pooler_output
        logits = self.classifier(pooled if self.pre_logits is None else torch.tanh(self.pre_logits(pooled)))
        by_head = [logits]
        if self.distillation_classifier is not None:
            by_head.append(self.distillation_classifier(outputs.last_hidden_state[:, 1]))
            if not self.training:
                logits = (by_head[0] + by_head[1]) / 2
        elif teacher_logits is not None:
            raise ValueError("teacher_logits needs a model with use_distillation_token=True.")
        return SeqViTImageClassifierOutput(
            loss=None if labels is None else self._loss(by_head, labels, teacher_logits, num_items_in_batch),
            logits=logits,
            cls_logits=by_head[0] if len(by_head) == 2 else None,
            distillation_logits=by_head[1] if len(by_head) == 2 else None,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _loss(
        self, by_head: list[torch.Tensor], labels: torch.Tensor, teacher_logits: torch.Tensor | None, count: Count
    ) -> torch.Tensor:
        """The mean over the heads; the second one learns from the teacher, if there is one."""
        smoothing = self.config.label_smoothing if self.training else 0.0
        learners = by_head if teacher_logits is None else by_head[:1]
        losses = [
            image_classification_loss(logits, labels, self.config.problem_type, count, smoothing)
            for logits in learners
        ]
        if teacher_logits is not None:
            if teacher_logits.shape != by_head[1].shape:
                raise ValueError(
                    f"teacher_logits of shape {tuple(teacher_logits.shape)} do not fit; {tuple(by_head[1].shape)} is "
                    "expected."
                )
            # The teacher labels every image, so the images count, whatever form the labels have.
            images = count if labels.dim() == 1 or count is None else count / labels.shape[-1]
            losses.append(image_classification_loss(by_head[1], teacher_logits.argmax(-1), num_items_in_batch=images))
        return torch.stack(losses).mean()


class SeqViTBackbone(BackboneMixin, SeqViTPreTrainedModel):
    """Feature maps of the layers that `config.out_features` names ("stem", "stage1", …), as detectors take them.

    `AutoBackbone.from_pretrained` of a local folder fails in transformers 5.23, which looks for it on the Hub: there,
    use `SeqViTBackbone.from_pretrained`.
    """

    _keys_to_ignore_on_load_unexpected = [*PRETRAINING_ONLY, r"^(distillation_)?classifier\.", r"^pre_logits\."]

    def __init__(self, config: SeqViTConfig):
        super().__init__(config)
        self.vit = SeqViTModel(config, add_pooling_layer=False)
        self.num_features = [config.hidden_size] * (config.num_hidden_layers + 1)
        self.post_init()

    @can_return_tuple
    @filter_output_hidden_states
    def forward(
        self,
        pixel_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        **kwargs: Any,
    ) -> BackboneOutput:
        r"""Encodes images; arguments as for `SeqViTModel`.

        Returns:
            `feature_maps`: a `(batch, hidden, rows, columns)` for each of `out_features`, after the final LayerNorm.
        """
        outputs = self.vit(
            pixel_values,
            attention_mask=attention_mask,
            interpolate_pos_encoding=interpolate_pos_encoding,
            **kwargs,
        )
        grid = patch_grid((pixel_values.shape[2], pixel_values.shape[3]), self.config.patch_size)
        maps = tuple(
            self.vit.layernorm(states)[:, self.config.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid)
            for stage, states in zip(self.stage_names, outputs.hidden_states)
            if stage in self.out_features
        )
        return BackboneOutput(feature_maps=maps, hidden_states=outputs.hidden_states, attentions=outputs.attentions)


__all__ = ["SeqViTBackbone", "SeqViTForImageClassification", "SeqViTImageClassifierOutput"]
