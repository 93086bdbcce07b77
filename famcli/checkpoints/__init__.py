"""Check and convert checkpoints: verification, reference outputs, export, and a check of the installation."""

from typing import Literal

# Names in famcli.checkpoints.export.EXPORT_FORMATS; here, because that module imports torch and --help must not.
ExportFormat = Literal["onnx", "torchscript", "torch-export"]
AnyFormat = Literal["onnx", "torchscript", "torch-export", "graph"]  # graph.onnx in the folder of a checkpoint too
