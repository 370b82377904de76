"""A report as one value: the page, the model card and ``--json`` are made of this and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from toolkit.report.parts import ASIDE, Missing, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from toolkit.artifact import Manifest
    from toolkit.manifest_records import CTargetRecord
    from toolkit.report.bench import BenchFacts
    from toolkit.report.data import DataFacts
    from toolkit.report.export import CpuFacts, ExportFacts, FlipFacts
    from toolkit.report.history import TrainingFacts
    from toolkit.report.live import LiveFacts
    from toolkit.report.network import NetworkFacts
    from toolkit.report.neurons import NeuronFacts
    from toolkit.report.provenance import Provenance
    from toolkit.report.results import ResultFacts
    from toolkit.verification.layers import LayerReport

__all__ = ["FORMAT", "Report", "Tile"]

FORMAT = 1
"""Version of the form of ``--json``; a change that could break who reads it counts up."""


@dataclass(frozen=True)
class Tile:
    """One figure of the summary: what it is, the figure, and a few words on it."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that a report says of an artifact. A part that cannot be had is `Missing`.

    Attributes:
        name: the artifact's.
        place: its path as commands call it.
        lead: what it is, in a sentence or two.
        passed: whether every gate held; None where it was not verified.
        verdict: the same in words.
        tiles: the figures that matter most.
        data, network, neurons, live, training, results, export, flips, layers, cpus, bench, provenance: the parts.
        c_targets: what the C code gave where ``verify --c`` ran it; empty where there is none, or it was not run.
        manifest: of the artifact.
        pictures: by test row, those of mistakes and flips, uint8 (height, width) or (height, width, 3).
    """

    name: str
    place: str
    lead: str
    passed: bool | None
    verdict: str
    tiles: tuple[Tile, ...]
    data: DataFacts | Missing
    network: NetworkFacts | Missing
    neurons: NeuronFacts | Missing
    live: LiveFacts | Missing
    training: TrainingFacts | Missing
    results: ResultFacts | Missing
    export: ExportFacts
    flips: FlipFacts | Missing
    layers: LayerReport | Missing
    cpus: tuple[CpuFacts, ...] | Missing
    c_targets: tuple[CTargetRecord, ...]
    bench: BenchFacts | Missing
    provenance: Provenance
    manifest: Manifest = field(repr=False, metadata=ASIDE)
    pictures: Mapping[int, NDArray[np.uint8]] = field(repr=False, metadata=ASIDE)

    @property
    def missing(self) -> tuple[Missing, ...]:
        """What it does not have, in the order of the page; what has the same reason once."""
        model = (self.data, self.network, self.neurons, self.live, self.training, self.results)
        files = (self.export.unverified, self.flips, self.layers, self.cpus, self.bench)
        found = [part for part in (*model, *files) if isinstance(part, Missing)]
        return tuple(dict.fromkeys([*found, *self.export.absent]))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: the attributes by their names, without pictures and activations."""
        return {"format": FORMAT, **plain(self), "missing": plain(self.missing)}
