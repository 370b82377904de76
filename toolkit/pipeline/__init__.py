"""The stages in sequence: what `toolkit train`, `export`, `verify` and `run` do to an artifact folder.

Each fills a staging folder and lets it take the artifact's place only when every gate held.
"""

from toolkit.pipeline.again import export_options
from toolkit.pipeline.exporting import ExportOptions, export_onnx, quantize_on
from toolkit.pipeline.line import (
    contract_of,
    export_artifact,
    export_target,
    run_line,
    stage_source,
    train_artifact,
)
from toolkit.pipeline.material import Material, OwnData, RawInput, gather
from toolkit.pipeline.training import TrainingPlan, run_folder_of
from toolkit.pipeline.verifying import (
    FailedGatesError,
    verify_artifact,
    write_c_records,
    write_cpu_records,
    write_parity,
)

__all__ = [
    "ExportOptions",
    "FailedGatesError",
    "Material",
    "OwnData",
    "RawInput",
    "TrainingPlan",
    "contract_of",
    "export_artifact",
    "export_onnx",
    "export_options",
    "export_target",
    "gather",
    "quantize_on",
    "run_folder_of",
    "run_line",
    "stage_source",
    "train_artifact",
    "verify_artifact",
    "write_c_records",
    "write_cpu_records",
    "write_parity",
]
