"""The C code of a model on many targets: compiled, run over the test rows, and held against the int8 file's bits.

`table` says which targets there are, `tools` finds their compilers and emulators, `building` compiles, `programs`
(Linux), `cortex_m` and `wasm` run, `instructions` counts, `check` does all of these in sequence.
"""
