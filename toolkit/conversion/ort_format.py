"""An ONNX file in ONNX Runtime's own format (flatbuffer), which builds of the runtime without ONNX can open.

Such builds ("minimal", "reduced operators") are what a device with little flash takes: they hold the kernels of the
operators that a text file lists and nothing that parses or optimizes a graph. So the graph is optimized here, once,
and kept in the form that it is run in. What is done is what onnxruntime's ``tools/convert_onnx_models_to_ort.py`` does
with ``--optimization_style Fixed``, but in memory, deaf to its environment variable, and with the same bytes each time.

Runtimes find the format by its bytes: "ORTM" at offset 4, the identifier of flatbuffer schema
``onnxruntime/core/flatbuffers/schema/ort.fbs``.
"""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

from toolkit.errors import ModelError

__all__ = ["LOWEST_RUNTIME", "to_ort"]

LOWEST_RUNTIME = "1.16"
"""The first release that opens what `to_ort` writes.

Version 6 of the format, which 1.31 writes, is refused by 1.15.1 ("The ORT format model version [6] is not supported")
and read by 1.16.0 and every later one tried; the wheels of 1.7 to 1.15 were asked, too.
"""

# Layouts for the vector unit of the CPU at hand; the runtime's own tool leaves them out for the same reason.
_NOT_PORTABLE = ["NchwcTransformer"]
# Places of fields in the tables of ort.fbs: InferenceSession, Model, Graph, Node, Attribute.
_VERSION, _MODEL, _RESOLVER = 0, 1, 3
_GRAPH = 7
_NODES = 2
_DOMAIN, _SINCE_VERSION, _OPERATOR, _ATTRIBUTES = 2, 3, 5, 10
_BRANCH, _BRANCHES = 7, 12
_ALIGNMENT = 8  # the most that any of its numbers needs


def to_ort(data: bytes) -> tuple[bytes, str]:
    """An ONNX file in the runtime's own format.

    Its graph is optimized as far as the runtime does it itself, except for what only one kind of CPU can run, so the
    same file serves x86-64 and 64-bit ARM. Integer arithmetic gives the same bits as the .onnx file; convolutions in
    float32 may be summed in another order than those that an x86 runtime rearranges for itself. What the file says of
    itself (its metadata) is kept.

    Args:
        data: the ONNX file's bytes.

    Returns:
        The .ort file's bytes, and the text of ``required_operators.config``, which a build of the runtime takes with
        ``--include_ops_by_config``: a line for each domain and version, "domain;version;operator,operator".

    Raises:
        ModelError: it is no ONNX model, or the runtime cannot write it.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.save_model_format", "ORT")
    # Activations of int8 stay int8 where only ARM is meant; this way x86 takes the file as well.
    options.add_session_config_entry("session.qdqisint8allowed", "0")
    options.log_severity_level = 4  # what goes wrong is raised; said once is enough
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.ort"
        options.optimized_model_filepath = str(path)
        try:
            ort.InferenceSession(
                data, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(_NOT_PORTABLE)
            )
            written = _in_order(path.read_bytes())
            return written, _required_operators(written)
        except Exception as error:  # the runtime's errors share no base of their own
            reason = " ".join(str(error).split())[:200]
            raise ModelError(
                f"onnxruntime {ort.__version__} cannot write this model in its own format: {reason}; bundle it as .onnx"
            ) from error


def _in_order(written: bytes) -> bytes:
    """The same file with its table of kernel types sorted; the runtime writes it in the order of a hash map.

    Flatbuffers are written from their end to their front. This table is the last thing before the root, so it has the
    bytes between the root and the model to itself, and only offsets in the root lead over it. It is taken out there and
    written again behind everything else.
    """
    root = _root(written)
    model, resolver = root.table(_MODEL), root.table(_RESOLVER)
    end = min(model.at, model.vtable)  # a vtable may be shared with an earlier table, which stands behind
    if not root.end <= resolver.at < end < root.target(_VERSION):
        raise ValueError("it orders the parts of a file in a way that is not known")
    vtable = written[root.vtable : root.vtable + root.vtable_size]
    vtable += bytes(-len(vtable) % 4)
    front = bytearray(struct.pack("<I", 8 + len(vtable)) + written[4:8] + vtable)
    front += struct.pack("<i", len(vtable)) + written[root.at + 4 : root.end]
    front += bytes((end - len(front)) % _ALIGNMENT)
    buffer = front + written[end:]
    buffer += bytes(-len(buffer) % _ALIGNMENT)
    again = _sorted_resolver(resolver)
    targets = {number: root.target(number) - end + len(front) for number in (_VERSION, _MODEL)}
    targets[_RESOLVER] = len(buffer) + _root(again).at
    for number, target in targets.items():
        place = _root(buffer).field(number)
        struct.pack_into("<I", buffer, place, target - place)
    return bytes(buffer + again)


def _required_operators(written: bytes) -> str:
    """The text that the runtime's ``tools/ort_format_model`` writes for a file, without the path of the file in it.

    Importing that package would set up logging for the whole process.
    """
    found: dict[tuple[str, int], set[str]] = {}
    graphs = [_root(written).table(_MODEL).table(_GRAPH)]
    for graph in graphs:
        for node in graph.tables(_NODES):
            domain = node.text(_DOMAIN).decode() or "ai.onnx"
            found.setdefault((domain, node.number(_SINCE_VERSION, "<i")), set()).add(node.text(_OPERATOR).decode())
            for attribute in node.tables(_ATTRIBUTES):
                graphs += [attribute.table(_BRANCH)] if attribute.field(_BRANCH) else []
                graphs += attribute.tables(_BRANCHES)
    return "".join(
        f"{domain};{version};{','.join(sorted(names))}\n" for (domain, version), names in sorted(found.items())
    )


class _Table:
    """A table of a flatbuffer: where its fields are (https://flatbuffers.dev/internals)."""

    def __init__(self, buffer: bytes | bytearray, at: int) -> None:
        self.buffer, self.at = buffer, at
        self.vtable = at - struct.unpack_from("<i", buffer, at)[0]
        self.vtable_size, size = struct.unpack_from("<HH", buffer, self.vtable)
        self.end = at + size

    def field(self, number: int) -> int:
        """Where a field is; 0: it is left out, so it has its default."""
        entry = 4 + 2 * number
        offset = struct.unpack_from("<H", self.buffer, self.vtable + entry)[0] if entry < self.vtable_size else 0
        return self.at + offset if offset else 0

    def number(self, number: int, form: str) -> int:
        """A field's number; 0 if it is left out."""
        place = self.field(number)
        return int(struct.unpack_from(form, self.buffer, place)[0]) if place else 0

    def target(self, number: int) -> int:
        """Where a field's offset leads."""
        place = self.field(number)
        if not place:
            raise ValueError("a part is missing")
        return place + int(struct.unpack_from("<I", self.buffer, place)[0])

    def text(self, number: int) -> bytes:
        if not self.field(number):
            return b""
        place = self.target(number)
        return bytes(self.buffer[place + 4 : place + 4 + struct.unpack_from("<I", self.buffer, place)[0]])

    def table(self, number: int) -> _Table:
        return _Table(self.buffer, self.target(number))

    def tables(self, number: int) -> list[_Table]:
        if not self.field(number):
            return []
        start = self.target(number)
        (count,) = struct.unpack_from("<I", self.buffer, start)
        places = range(start + 4, start + 4 + 4 * count, 4)
        return [_Table(self.buffer, place + struct.unpack_from("<I", self.buffer, place)[0]) for place in places]


def _root(buffer: bytes | bytearray) -> _Table:
    return _Table(buffer, struct.unpack_from("<I", buffer)[0])


def _sorted_resolver(resolver: _Table) -> bytes:
    """The table of kernel types as a flatbuffer of its own, sorted.

    It says for each operator, and each name that its kernels have for a type (such as T), which inputs and outputs are
    of this type. One layout serves its three kinds of entries, as all have two fields: (name, list), (name, list), and
    (input or output, index).
    """
    found: dict[bytes, dict[bytes, list[tuple[int, int]]]] = {}
    for operator in resolver.tables(0):
        found[operator.text(0)] = {
            each.text(0): [(argument.number(0, "<b"), argument.number(1, "<I")) for argument in each.tables(1)]
            for each in operator.tables(1)
        }
    # The root's offset; a vtable for one field and one for two (its size, the table's, where each field is); the root.
    out = bytearray(struct.pack("<I3H2x4H", 20, 6, 8, 4, 8, 12, 4, 8) + struct.pack("<iI", 20 - 4, 0))

    def lead(place: int) -> None:
        struct.pack_into("<I", out, place, len(out) - place)

    def begin_list(place: int, count: int) -> int:
        lead(place)
        out.extend(struct.pack("<I", count) + bytes(4 * count))
        return len(out) - 4 * count

    def begin_entry(place: int, first: bytes) -> int:
        lead(place)
        out.extend(struct.pack("<i", len(out) - 12) + first + bytes(4))
        return len(out) - 8

    def begin_named(place: int, name: bytes, count: int) -> int:
        fields = begin_entry(place, bytes(4))
        lead(fields)
        out.extend(struct.pack("<I", len(name)) + name + bytes(4 - len(name) % 4))
        return begin_list(fields + 4, count)

    operators = begin_list(24, len(found))
    for number, (name, types) in enumerate(sorted(found.items())):
        entries = begin_named(operators + 4 * number, name, len(types))
        for place, (type_name, arguments) in enumerate(sorted(types.items())):
            inside = begin_named(entries + 4 * place, type_name, len(arguments))
            for at, (kind, index) in enumerate(arguments):
                fields = begin_entry(inside + 4 * at, struct.pack("<b3x", kind))
                struct.pack_into("<I", out, fields + 4, index)
    return bytes(out)
