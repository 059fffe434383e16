"""What a masked image model makes of hidden patches, in colours that can be shown."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hf_seqmodels.models.image_processing_vit import denormalize_images
from hf_seqmodels.models.modeling_vit import SeqViTPreTrainedModel
from hf_seqmodels.models.modeling_vit_mae import NORM_PIX_EPS, SeqViTForPreTraining
from hf_seqmodels.models.modeling_vit_masked import SeqViTForMaskedImageModeling
from hf_seqmodels.models.patches import patch_grid, patchify, unpatchify

from .errors import NotInModelError
from .evaluating import evaluating

_HIDDEN_GREY = 0.5


@dataclass(frozen=True)
class Reconstruction:
    """The panels of figure 2 of He et al. 2021; images are `(batch, height, width, channels)` float32 in [0, 1].

    Args:
        image: the input.
        masked: the input with its hidden patches in grey.
        reconstruction: the prediction of every patch; the visible ones did not count while training.
        pasted: the prediction of the hidden patches among the visible ones of the input.
        mask: `(batch, rows, columns)` boolean, true on hidden patches.
    """

    image: np.ndarray
    masked: np.ndarray
    reconstruction: np.ndarray
    pasted: np.ndarray
    mask: np.ndarray


def reconstruct(
    model: SeqViTPreTrainedModel,
    pixel_values: torch.Tensor,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    bool_masked_pos: torch.Tensor | None = None,
) -> Reconstruction:
    """Hides patches and has them predicted (He et al. 2021, "Masked Autoencoders"; Xie et al. 2021, "SimMIM").

    Where MAE predicts normalised patches (`norm_pix_loss`), each gets back the mean and deviation that it had in the
    input, as in the paper's own figures: these two numbers the model did not have to guess.

    Args:
        model: `SeqViTForPreTraining` or `SeqViTForMaskedImageModeling`.
        pixel_values: `(batch, num_channels, height, width)`, normalised by `mean` and `std`. Images of another size
            than `config.image_size` get resized positions.
        mean, std: of the normalisation, one for each channel or one number for all.
        bool_masked_pos: `(batch, num_patches)`, true on the patches to hide; by default `config.mask_ratio` of them,
            the same at every call.

    Raises:
        NotInModelError: the model predicts no pixels.
        ValueError: images, a mask, a mean or a std that do not fit.
    """
    if not isinstance(model, SeqViTForPreTraining | SeqViTForMaskedImageModeling):
        raise NotInModelError(
            f"{type(model).__name__} predicts no pixels; SeqViTForPreTraining (MAE) and SeqViTForMaskedImageModeling "
            "(SimMIM) do."
        )
    pixels = pixel_values.to(model.device)
    hidden = None if bool_masked_pos is None else bool_masked_pos.to(model.device)
    with evaluating(model):
        outputs = model(pixels, bool_masked_pos=hidden, interpolate_pos_encoding=True)
    patch_size, pixels = model.config.patch_size, pixels.float()
    grid = patch_grid((pixels.shape[-2], pixels.shape[-1]), patch_size)
    if isinstance(model, SeqViTForMaskedImageModeling):
        predicted = outputs.reconstruction.float()
    else:
        patches = outputs.logits.float()
        if model.config.norm_pix_loss:
            variance, centre = torch.var_mean(patchify(pixels, patch_size), dim=-1, keepdim=True)
            patches = patches * (variance + NORM_PIX_EPS).sqrt() + centre
        predicted = unpatchify(patches, patch_size, grid)
    image, reconstruction = (denormalize_images(values, mean, std) for values in (pixels, predicted))
    hidden_pixels = unpatchify(
        outputs.mask.unsqueeze(-1).expand(-1, -1, model.config.pixels_per_patch), patch_size, grid
    )
    panels = {
        "image": image,
        "masked": image.masked_fill(hidden_pixels, _HIDDEN_GREY),
        "reconstruction": reconstruction,
        "pasted": torch.where(hidden_pixels, reconstruction, image),
    }
    return Reconstruction(
        **{name: panel.permute(0, 2, 3, 1).cpu().numpy() for name, panel in panels.items()},
        mask=outputs.mask.unflatten(1, grid).cpu().numpy(),
    )


__all__ = ["Reconstruction", "reconstruct"]
