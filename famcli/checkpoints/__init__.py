"""Check and convert checkpoints: verification, reference outputs, export, and a check of the installation."""

from typing import Literal

# Names in famcli.checkpoints.export.EXPORT_FORMATS; here, because that module imports torch and --help must not.
ExportFormat = Literal["onnx", "torchscript", "torch-export"]
