"""The Open Inference Protocol's messages, version 2, with the binary tensor data extension.

A request is JSON; with the header Inference-Header-Content-Length its first bytes, that many, are
JSON, and the tensors whose parameters give a binary_data_size follow, in the order in which the
JSON names them, little-endian in C order. An answer is the same. Inputs are the arrays of
`window_payload`; outputs are `micro` and `modality_valid`.
"""

import math
import re
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from serve_apps.http_errors import HttpError
from serve_apps.payload_guard import Arrays, plain
from serve_apps.routes_encode import EncodedWindows
from serve_apps.window_payload import DTYPES
from serve_apps.wire import Wire

LENGTH_HEADER = "inference-header-content-length"
MAX_JSON_BYTES = 32 * 2**20  # as text, 32 bytes a number with its Python objects
DATATYPES = {np.dtype(np.float32): "FP32", np.dtype(np.bool_): "BOOL"}
OUTPUTS = ("micro", "modality_valid")

Size = Annotated[int, Field(ge=0, le=2**31)]


class InputParameters(Wire):
    """Of an input."""

    binary_data_size: Size | None = None


class InputTensor(Wire):
    """One tensor of a request; `data` is flat or nested, and absent when the bytes follow."""

    name: str
    shape: Annotated[list[Size], Field(max_length=4)]
    datatype: str
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = None  # Any: numbers, or lists of them


class OutputParameters(Wire):
    """Of an output that is asked for."""

    binary_data: bool = False


class WantedOutput(Wire):
    """One output that is asked for."""

    name: str
    parameters: OutputParameters = OutputParameters()


class InferParameters(Wire):
    """Of the whole request."""

    binary_data_output: bool = False  # of outputs that are not named


class InferRequest(Wire):
    """POST /v2/models/{model}/infer."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] | None = None
    parameters: InferParameters = InferParameters()
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=len(DTYPES))]
    outputs: Annotated[list[WantedOutput], Field(max_length=len(OUTPUTS))] | None = None


class OutputTensor(Wire):
    """One tensor of an answer; `data` is flat, and absent when the bytes follow."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, int] | None = None
    data: list[float] | list[bool] | None = None


class InferAnswer(Wire):
    """The answer, or its first part."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class TensorMetadata(Wire):
    """What a tensor has to be; -1 is any number."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Wire):
    """GET /v2/models/{model}."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(Wire):
    """GET /v2."""

    name: str
    version: str
    extensions: list[str]


class Live(Wire):
    """GET /v2/health/live."""

    live: bool


class Ready(Wire):
    """GET /v2/health/ready."""

    ready: bool


class ModelReady(Wire):
    """GET /v2/models/{model}/ready."""

    name: str
    ready: bool


def parse_request(body: bytes, json_length: str | None) -> tuple[InferRequest, Arrays]:
    """A request and its arrays, by name.

    Args:
        body: all of it.
        json_length: the header Inference-Header-Content-Length, if it was sent.

    Raises:
        HttpError: request_invalid, payload_too_large, payload_invalid.
    """
    size = len(body)
    if json_length is not None:
        if not re.fullmatch(r"[0-9]{1,10}", json_length) or int(json_length) > len(body):
            raise HttpError("request_invalid")
        size = int(json_length)
    if size > MAX_JSON_BYTES:
        raise HttpError("payload_too_large")
    try:
        request = InferRequest.model_validate_json(body[:size])
    except ValidationError:
        raise HttpError("request_invalid") from None
    names = [tensor.name for tensor in request.inputs]
    if len(set(names)) != len(names) or not set(names) <= DTYPES.keys():
        raise HttpError("windows_invalid")
    wanted = [output.name for output in request.outputs or ()]
    if len(set(wanted)) != len(wanted) or not set(wanted) <= set(OUTPUTS):
        raise HttpError("request_invalid")
    arrays: Arrays = {}
    for tensor in request.inputs:
        array, size = _array(tensor, body, size)
        arrays[tensor.name] = array
    if size != len(body):
        raise HttpError("payload_invalid")
    return request, arrays


def _array(tensor: InputTensor, body: bytes, at: int) -> tuple[NDArray[Any], int]:
    """A tensor, and where the next one's bytes begin."""
    dtype = DTYPES[tensor.name]
    if tensor.datatype != DATATYPES[dtype]:
        raise HttpError("windows_invalid")
    size = tensor.parameters.binary_data_size
    if (size is None) == (tensor.data is None):
        raise HttpError("request_invalid")
    count = math.prod(tensor.shape)
    if size is not None:
        if size != count * dtype.itemsize or size > len(body) - at:
            raise HttpError("payload_invalid")
        return plain(body[at : at + size], dtype).reshape(tensor.shape), at + size
    numbers = _flat(tensor.data)
    kind = bool if dtype == np.bool_ else (int, float)
    if len(numbers) != count or not all(
        isinstance(n, kind) and (dtype == np.bool_ or not isinstance(n, bool)) for n in numbers
    ):
        raise HttpError("payload_invalid")
    with np.errstate(over="ignore"):  # what is too large is infinite, and refused as that
        try:
            return np.array(numbers, dtype).reshape(tensor.shape), at
        except OverflowError:
            raise HttpError("payload_invalid") from None


def _flat(data: Any) -> list[Any]:  # Any: numbers, or lists of them
    """Numbers in order, from lists in lists; the protocol takes both."""
    for _ in range(4):
        if not any(isinstance(item, list) for item in data):
            break
        data = [inner for item in data for inner in (item if isinstance(item, list) else [item])]
    return list(data)


def answer_bytes(
    request: InferRequest, encoded: EncodedWindows, model_name: str
) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON when tensors follow as bytes."""
    arrays: Arrays = {"micro": encoded.micro_BEMD, "modality_valid": encoded.valid_BEM}
    everything = [
        WantedOutput(
            name=name,
            parameters=OutputParameters(binary_data=request.parameters.binary_data_output),
        )
        for name in OUTPUTS
    ]
    outputs, tail = [], []
    for wanted in everything if request.outputs is None else request.outputs:
        array = arrays[wanted.name]
        tensor = OutputTensor(
            name=wanted.name, shape=list(array.shape), datatype=DATATYPES[array.dtype]
        )
        if wanted.parameters.binary_data:
            content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
            tail.append(content)
            size = {"binary_data_size": len(content)}
            outputs.append(tensor.model_copy(update={"parameters": size}))
        else:
            outputs.append(tensor.model_copy(update={"data": array.reshape(-1).tolist()}))
    answer = InferAnswer(
        model_name=model_name,
        model_version=encoded.info["weights_sha256"],
        id=request.id,
        outputs=outputs,
    )
    head = answer.model_dump_json(exclude_none=True).encode()
    return b"".join([head, *tail]), (len(head) if tail else None)
