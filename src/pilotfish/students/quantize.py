"""Quantizes the sentence encoder in other ways than the one that serves, as folders that open like it.

Dynamic int8 and int4 come from `encoder_graph.py`'s own writer; static int8 is onnxruntime's, whose activation scales
are fitted once on calibration texts. It makes artefacts and measures nothing: what a precision costs or spoils is
found in `guarantees/quantized.py`, on texts that calibrated nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from pilotfish.core.errors import MissingExtraError, UserError
from pilotfish.specialists.encoder import Encoder
from pilotfish.students import encoder_cache, weights
from pilotfish.students.encoder_graph import parse_graph, write_graph

try:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata
except ImportError as error:
    raise MissingExtraError("learn", error.name or "onnxruntime") from error

FP32 = "fp32"
KINDS = {
    "onnx-dynamic-int8": "weights of eight bits per channel, activations scaled at run time: what serves",
    "onnx-static-int8": "weights of eight bits per channel, activations scaled by calibration texts",
    "onnx-int4": "weights of four bits in blocks of 32, activations scaled at run time",
}

MAX_CALIBRATION_TEXTS = 128
"""Enough for the range of each activation: more move it by outliers only."""


def quantize_encoder(source: str, kind: str, folder: Path, calibration: Sequence[str] = ()) -> int:
    """Writes the encoder with weights at `source` as `kind` (of `KINDS`, or fp32) into the new `folder`; its bytes.

    `calibration` texts are needed by the static kind alone. Raises `UserError` where the weights are missing or
    cannot be written, or there is no text to calibrate on.
    """
    found = weights.find(source)
    if kind == "onnx-static-int8":
        graph = _static(found, calibration)
    else:
        graph = write_graph(found.folder, precision="fp32" if kind == FP32 else "int4" if "int4" in kind else "int8")
    folder.mkdir(parents=True)
    encoder_cache.write_artefact(folder, found, graph)
    return len(graph)


class _Texts(CalibrationDataReader):  # type: ignore[misc] # onnxruntime is untyped
    """The token numbers of texts, one text at a time as they are served."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self._rows = iter(rows)

    def get_next(self) -> dict[str, NDArray[np.int64]] | None:
        """The next text's input, None after the last."""
        row = next(self._rows, None)
        return None if row is None else {"input_ids": np.array([row], np.int64)}


def _static(found: weights.Weights, calibration: Sequence[str]) -> bytes:
    if not calibration:
        raise UserError("Static int8 needs texts to calibrate on.", hint="Give more items with --on.")
    exact = write_graph(found.folder, precision="fp32")
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        encoder_cache.write_artefact(place, found, exact)
        read = Encoder.load(place)
        rows = [read.tokens(text) for text in calibration[:MAX_CALIBRATION_TEXTS]]
        model = parse_graph(exact)
        add_pre_process_metadata(model)  # there is nothing to prepare, and it would warn
        quantize_static(
            model,
            place / "static.onnx",
            _Texts(rows),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QUInt8,  # of int8 the products overflow where a processor has no VNNI
        )
        return (place / "static.onnx").read_bytes()
