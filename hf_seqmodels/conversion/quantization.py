"""8-bit integers for exported models on CPUs: dynamic quantisation by onnxruntime. Needs the extra [onnx].

onnxruntime's is the road that lasts: PyTorch's own (`torch.ao.quantization.quantize_dynamic`) is deprecated and goes.
Weights of matrix products and recurrent layers, and tables of embeddings, are stored as int8, with a scale for each
output of a product; what flows through a product is rounded to 8 bits as it comes, with one scale for the whole batch.
So the numbers of a row depend a little on the other rows, which those of a float model don't.
"""

import tempfile
from os import PathLike
from pathlib import Path

try:
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process
except ModuleNotFoundError as error:
    raise ImportError(
        "hf_seqmodels.conversion.quantization needs the extra: pip install 'hf_seqmodels[onnx]'."
    ) from error


def quantize_onnx(folder: str | PathLike[str], output_dir: str | PathLike[str], *, reduce_range: bool = False) -> Path:
    """Writes the files of `export_onnx` with int8 weights, under their names, inputs and outputs.

    Args:
        folder: with ONNX files.
        output_dir: gets the files; it is made if it is not there.
        reduce_range: weights of 7 bits, for x86 processors without VNNI (before 2019), whose sums of 8-bit products
            overflow.

    Returns:
        `output_dir`.

    Raises:
        ValueError: `folder` has no ONNX file, or `output_dir` has one of that name.
    """
    source, target = Path(folder), Path(output_dir)
    files = sorted(source.glob("*.onnx"))
    if not files:
        raise ValueError(f"folder={str(source)!r} has no *.onnx file; export_onnx writes some.")
    for file in files:
        if (target / file.name).exists():
            raise ValueError(f"output_dir={str(target)!r} has {file.name} already; choose another folder.")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for file in files:
            prepared = Path(scratch) / file.name
            # Symbolic shapes would only be in the way: every batch and length is allowed.
            quant_pre_process(file, prepared, skip_symbolic_shape=True)
            quantize_dynamic(
                prepared,
                target / file.name,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=reduce_range,
            )
    return target


__all__ = ["quantize_onnx"]
