"""Checks of token inputs that every text model makes before it computes anything."""

import torch


def check_given(
    input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None, width: int, width_name: str = "hidden_size"
) -> torch.Tensor:
    """Ids or embeddings, whichever were given, if their shape is right.

    Args:
        input_ids: `(batch, seq_len)`; or
        inputs_embeds: `(batch, seq_len, width)` in their place.
        width_name: the configuration's field that holds `width`.

    Raises:
        ValueError: neither or both are given, their shape is another, or they are empty.
    """
    if input_ids is not None and inputs_embeds is None:
        given, form = input_ids, "input_ids must be (batch, seq_len)"
    elif inputs_embeds is not None and input_ids is None:
        given, form = inputs_embeds, f"inputs_embeds must be (batch, seq_len, {width_name}={width})"
    else:
        raise ValueError("Exactly one of input_ids and inputs_embeds must be given.")
    fits = given.dim() == 2 if input_ids is not None else given.dim() == 3 and given.shape[-1] == width
    if not fits:
        raise ValueError(f"{form}; got {tuple(given.shape)}.")
    if 0 in given.shape:
        raise ValueError(
            f"The input is empty: batch={given.shape[0]}, seq_len={given.shape[1]}; each row needs at least one token."
        )
    return given


def check_shape(name: str, values: torch.Tensor | None, shape: tuple[int, int]) -> None:
    """Raises ValueError if `values` are given in another shape."""
    if values is not None and values.shape != shape:
        raise ValueError(f"{name} of shape {tuple(values.shape)} does not fit the input {shape}.")


def check_ids(name: str, ids: torch.Tensor | None, limit_name: str, limit: int) -> None:
    """Refuses ids that are no integers or lie outside `[0, limit)`, before a kernel trips over them.

    Only CPU tensors are looked at: a look at an accelerator's tensor would make every step wait for the device.

    Raises:
        ValueError: naming the value.
    """
    if ids is not None and ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"{name} must hold int64 or int32, not {ids.dtype}.")
    if ids is None or ids.device.type != "cpu" or torch.compiler.is_compiling():
        return
    low, high = torch.aminmax(ids)
    if low < 0 or high >= limit:
        wrong = low.item() if low < 0 else high.item()
        raise ValueError(f"{name} holds {wrong}, outside [0, {limit_name}={limit}).")


def check_rows(attention_mask: torch.Tensor) -> None:
    """Refuses a mask `(batch, seq_len)` with a row of padding alone. Only CPU tensors are looked at.

    Raises:
        ValueError: naming the row.
    """
    if attention_mask.device.type == "cpu" and not torch.compiler.is_compiling():
        empty = (attention_mask == 0).all(-1)
        if empty.any():
            row = int(empty.int().argmax())
            raise ValueError(f"attention_mask hides every token of row {row}; each row needs at least one token.")


__all__ = ["check_given", "check_ids", "check_rows", "check_shape"]
