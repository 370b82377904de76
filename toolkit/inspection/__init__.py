"""What a model's files say of themselves, as values and as a picture."""

from toolkit.inspection.diagram import check_target, write_diagram
from toolkit.inspection.facts import (
    ArtifactFacts,
    Inspection,
    KerasFacts,
    Layer,
    OnnxFacts,
    SavedModelFacts,
)
from toolkit.inspection.opening import inspect_path

__all__ = [
    "ArtifactFacts",
    "Inspection",
    "KerasFacts",
    "Layer",
    "OnnxFacts",
    "SavedModelFacts",
    "check_target",
    "inspect_path",
    "write_diagram",
]
