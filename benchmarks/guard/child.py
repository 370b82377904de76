"""What runs in the process that is looked at, in a folder with ``toolkit/`` and ``artifact/``.

    child.py start              prints the modules that a start brings
    child.py calls              prints what one call takes of Python
    child.py stays              prints what is left of many calls
    child.py phases FEW MANY    does the work that callgrind counts, and tells it where each part ends

Nothing is imported at its top that would hide what the predictor brings.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime  # noqa: F401  # what the predictor brings comes on top of it

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from toolkit.predictor import Predictor

WARM_UP = 30
CALLS = 10_000  # after which nothing may have stayed
IMAGE = (np.arange(784, dtype=np.uint32) * 73 % 256).astype(np.uint8).reshape(28, 28)
# The client request of valgrind.h for x86-64, as a function of a pointer to the request: does nothing elsewhere.
#     mov rax, rdi; xor edx, edx; rol rdi, 3; rol rdi, 13; rol rdi, 61; rol rdi, 51; xchg rbx, rbx; mov rax, rdx; ret
CLIENT_REQUEST = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3")
CALLGRIND = ord("C") << 24 | ord("T") << 16
DUMP_STATS_AT, START_INSTRUMENTATION = CALLGRIND + 3, CALLGRIND + 4  # callgrind.h


def main() -> None:
    """Do what was asked for."""
    way, *numbers = sys.argv[1:]
    if way == "phases":
        phases(*map(int, numbers))
    else:
        {"start": start, "calls": calls, "stays": stays}[way]()


def work(ask: Callable[[Any], Any], calls: int) -> None:
    """Ask so many times."""
    for _ in range(calls):
        ask(IMAGE)


def ways(predictor: Predictor) -> dict[str, Callable[[Any], Any]]:
    """What is counted, by its name."""
    return {"classify": predictor.classify, "predict": predictor.predict}


def start() -> None:
    """Print the modules that importing the predictor, opening the artifact and asking bring."""
    before = set(sys.modules)
    from toolkit.predictor import Predictor

    for ask in ways(Predictor("artifact")).values():
        work(ask, 1)
    print("\n".join(sorted(set(sys.modules) - before)))


def calls() -> None:
    """Print how many bytecodes a call takes, and how much memory it holds at once: way, figure, number."""
    import tracemalloc

    from toolkit.predictor import Predictor

    for name, ask in ways(Predictor("artifact")).items():
        work(ask, WARM_UP)
        print(f"{name}, bytecodes {bytecodes(ask)}")
        tracemalloc.start()
        work(ask, WARM_UP)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        ask(IMAGE)
        print(f"{name}, bytes at once {tracemalloc.get_traced_memory()[1] - before}")
        tracemalloc.stop()


def stays() -> None:
    """Print what many calls leave behind, in the same form."""
    import tracemalloc
    from array import array

    from toolkit.predictor import Predictor

    for name, ask in ways(Predictor("artifact")).items():
        found = array("q", [0, 0])  # holds numbers without an object for each
        for at in range(2):
            work(ask, CALLS)
            gc.collect()
            found[at] = sys.getallocatedblocks()
        print(f"{name}, objects {max(0, found[1] - found[0])}")
        tracemalloc.start()
        for at in range(2):
            work(ask, CALLS // 10)
            gc.collect()
            found[at] = tracemalloc.get_traced_memory()[0]
        print(f"{name}, bytes {max(0, found[1] - found[0])}")
        tracemalloc.stop()


def bytecodes(ask: Callable[[Any], Any]) -> int:
    """How many instructions of Python's own machine one call takes."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    for _ in range(2):  # Python 3.12 tells of bytecodes from the second time on
        count = 0
        sys.settrace(trace)
        ask(IMAGE)
        sys.settrace(None)
    return count


def phases(few: int, many: int) -> None:
    """Import, open, and ask, each part marked for callgrind."""
    import ctypes
    import mmap

    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(CLIENT_REQUEST)
    ask_valgrind = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    texts: list[Any] = []

    def request(number: int, label: str = "") -> Any:
        texts.append(ctypes.create_string_buffer(label.encode()))
        return (ctypes.c_ulong * 6)(number, ctypes.addressof(texts[-1]))

    names = ("classify", "predict")
    begin, before = request(START_INSTRUMENTATION), request(DUMP_STATS_AT, "before")
    imported, opened, warm = (request(DUMP_STATS_AT, label) for label in ("import", "open", "warm"))
    ends = [[(number, request(DUMP_STATS_AT, f"{name} {number}")) for number in (few, many)] for name in names]
    gc.collect()
    gc.disable()
    ask_valgrind(begin)
    ask_valgrind(before)
    from toolkit.predictor import Predictor

    ask_valgrind(imported)
    predictor = Predictor("artifact")
    ask_valgrind(opened)
    asks = [ways(predictor)[name] for name in names]
    for ask in asks:
        work(ask, WARM_UP)
    ask_valgrind(warm)
    for ask, marks in zip(asks, ends, strict=True):
        for number, mark in marks:
            work(ask, number)
            ask_valgrind(mark)
    os._exit(0)  # the interpreter's end would be counted as well, and take a second


if __name__ == "__main__":
    main()
