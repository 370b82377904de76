"""SavedModel folders: what `model.export` of Keras 3 and `model.save` of Keras 2 in TensorFlow's format write.

A SavedModel is a program of TensorFlow operations, and some of these read and write files or call Python. Those that
could run when it is opened or asked are looked at first.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import ModelError
from toolkit.keras_model.limits import check_weight_bytes
from toolkit.keras_model.source import SourceModel, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["GRAPH", "is_saved_model", "open_saved_model"]

GRAPH = "saved_model.pb"
_SIGNATURES = ("serving_default", "serve")

# Operations with a state of their own that stays in memory; every other stateful one may reach outside.
_HARMLESS = frozenset(
    """
    AnonymousHashTable AnonymousMutableHashTable Assert AssignAddVariableOp AssignSubVariableOp AssignVariableOp Case
    CudnnRNN CudnnRNNBackprop CudnnRNNBackpropV2 CudnnRNNBackpropV3 CudnnRNNCanonicalToParams CudnnRNNParamsSize
    CudnnRNNV2 CudnnRNNV3 DestroyResourceOp DisableCopyOnRead Enter Exit HashTableV2 If IteratorGetNext
    LookupTableExportV2 LookupTableFindV2 LookupTableImportV2 LookupTableInsertV2 LookupTableSizeV2 Merge Multinomial
    MutableHashTableV2 NextIteration ParameterizedTruncatedNormal PartitionedCall Placeholder RandomGamma RandomShuffle
    RandomStandardNormal RandomUniform RandomUniformInt ReadVariableOp ResourceApplyAdam ResourceApplyGradientDescent
    ResourceApplyMomentum ResourceApplyRMSProp ResourceGather ResourceGatherNd ResourceScatterAdd ResourceScatterUpdate
    RngReadAndSkip StatefulPartitionedCall StatefulStandardNormalV2 StatefulUniform StatefulUniformInt StridedSlice
    Switch SymbolicGradient TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayReadV3
    TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3 TensorArrayV3 TensorArrayWriteV3 TruncatedNormal
    VarHandleOp VarIsInitializedOp VariableShape VariableV2 While
    """.split()  # noqa: SIM905 - a list of words is read more easily so
)
# Without state by TensorFlow's own account, and yet they read files or call Python.
_REACHING_OUT = {"ReadFile", "MatchingFiles", "PyFuncStateless", "ImmutableConst", "DebugIdentity", "DebugNanCount"}


def is_saved_model(path: Path) -> bool:
    """Whether a folder holds a SavedModel."""
    return (path / GRAPH).is_file()


def open_saved_model(folder: Path, shown: object, *, unsafe: bool) -> SourceModel:
    """A SavedModel as a source; its inputs and outputs are those of the signature "serving_default" or "serve".

    Args:
        folder: with saved_model.pb and variables/.
        shown: how errors call it.
        unsafe: open it even if it reads or writes files.

    Raises:
        ModelError: it is damaged, too large, has no signature to take, or would reach out of its own memory.
    """
    data = sum(file.stat().st_size for file in (folder / "variables").glob("variables.data-*"))
    check_weight_bytes(data, shown)
    graph = _read_graph(folder / GRAPH, shown)
    if not unsafe:
        _check_operations(graph, shown)
    import tensorflow as tf

    try:
        with _prepared(folder, graph) as copy:
            loaded = tf.saved_model.load(str(copy))
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"{shown} cannot be opened as a SavedModel: {reason}; export the model again") from error
    name = _signature(list(loaded.signatures), shown)
    function = loaded.signatures[name]
    arguments = function.structured_input_signature[1]
    inputs = tuple(_spec(key, arguments[key], shown) for key in sorted(arguments))
    outputs = tuple(_spec(key, spec, shown) for key, spec in sorted(function.structured_outputs.items()))

    def call(given: Mapping[str, Any], _alive: Any = loaded) -> dict[str, Any]:
        return dict(function(**{spec.name: given[spec.name] for spec in inputs}))

    version = graph.meta_graphs[0].meta_info_def.tensorflow_version
    return SourceModel(
        kind="saved_model",
        name=folder.name,
        inputs=inputs,
        outputs=outputs,
        call=call,
        weights={variable.name.removesuffix(":0"): variable for variable in getattr(loaded, "variables", ())},
        written_by=f"TensorFlow {version}" if version else "",
        notes=(f"taken as the signature '{name}' of a SavedModel, which has no Keras layers",),
    )


@contextmanager
def _prepared(folder: Path, graph: Any) -> Iterator[Path]:
    """The folder again, with the graph that was looked at and without the optimizer's memory, which may not load."""
    for meta in graph.meta_graphs:
        for node in meta.object_graph_def.nodes:
            del node.slot_variables[:]
    with tempfile.TemporaryDirectory(prefix="toolkit-") as name:
        copy = Path(name)
        (copy / GRAPH).write_bytes(graph.SerializeToString())
        for part in ("variables", "assets"):
            if (folder / part).is_dir():
                (copy / part).symlink_to((folder / part).absolute())
        yield copy


def _read_graph(path: Path, shown: object) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    graph = saved_model_pb2.SavedModel()
    try:
        graph.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ModelError(f"{shown}: its {GRAPH} is damaged or truncated; export the model again") from error
    if not graph.meta_graphs:
        raise ModelError(f"{shown}: its {GRAPH} holds no graph; export the model again")
    return graph


def _check_operations(graph: Any, shown: object) -> None:
    """Refuse what could run when the model is opened or called, and reach out of its memory."""
    from tensorflow.python.framework import op_def_registry

    trust = "give --unsafe if you trust the folder as you trust a program"
    for meta in graph.meta_graphs:
        if not meta.HasField("object_graph_def"):
            raise ModelError(
                f"{shown} is a SavedModel of TensorFlow 1, which runs its own graph when it is opened; {trust}"
            )
        functions = {function.signature.name: function for function in meta.graph_def.library.function}
        waiting, seen = list(meta.object_graph_def.concrete_functions), set()
        while waiting:
            name = waiting.pop()
            if name in seen or name not in functions:
                continue
            seen.add(name)
            for node in functions[name].node_def:
                definition = op_def_registry.get(node.op)
                if node.op in _REACHING_OUT or (
                    node.op not in _HARMLESS and (definition is None or definition.is_stateful)
                ):
                    raise ModelError(
                        f"{shown}: its graph has the operation {node.op[:80]} ('{node.name[:80]}'), which may reach "
                        f"files, Python or the network; {trust}"
                    )
                for attribute in node.attr.values():
                    waiting += [attribute.func.name] if attribute.HasField("func") else []
                    waiting += [function.name for function in attribute.list.func]


def _signature(names: list[str], shown: object) -> str:
    for wished in _SIGNATURES:
        if wished in names:
            return wished
    if len(names) != 1:
        found = f"the signatures {', '.join(sorted(names))}" if names else "no signature"
        raise ModelError(
            f"{shown} is a SavedModel with {found}, expected one called serving_default; export it with model.export, "
            "or tf.saved_model.save(..., signatures=FUNCTION)"
        )
    return names[0]


def _spec(name: str, spec: Any, shown: object) -> TensorSpec:
    if spec.shape.rank is None:
        raise ModelError(f"{shown}: '{name}' has no known number of dimensions; export it with an input signature")
    shape = tuple(spec.shape.as_list())
    if 0 in shape:
        raise ModelError(f"{shown}: '{name}' has the shape {shape}, expected no dimension of size zero")
    return TensorSpec(name, shape, spec.dtype.name)
