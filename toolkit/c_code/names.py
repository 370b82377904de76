"""Names in C, from names that people give."""

from __future__ import annotations

import re

__all__ = ["comment", "identifier", "text"]

# Keywords of C99 and C++17, which a name must not be.
_KEYWORDS = frozenset(
    (
        "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break", "case", "catch",
        "char", "class", "compl", "const", "const_cast", "constexpr", "continue", "decltype", "default", "delete",
        "do", "double", "dynamic_cast", "else", "enum", "explicit", "export", "extern", "false", "float", "for",
        "friend", "goto", "if", "inline", "int", "long", "mutable", "namespace", "new", "noexcept", "not", "not_eq",
        "nullptr", "operator", "or", "or_eq", "private", "protected", "public", "register", "reinterpret_cast",
        "restrict", "return", "short", "signed", "sizeof", "static", "static_assert", "static_cast", "struct",
        "switch", "template", "this", "thread_local", "throw", "true", "try", "typedef", "typeid", "typename",
        "union", "unsigned", "using", "virtual", "void", "volatile", "wchar_t", "while", "xor", "xor_eq",
    )
)  # fmt: skip


def identifier(name: str) -> str:
    """A C identifier for a model: small letters, digits and underscores; ``model_`` before what is none alone."""
    found = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not found or found[0].isdigit() or found in _KEYWORDS:
        return f"model_{found}".rstrip("_")
    return found


def comment(value: str) -> str:
    """What of a text may stand in a comment: printable ASCII, and nothing that ends it."""
    return "".join(char if 32 <= ord(char) < 127 else "?" for char in value).replace("*/", "*-")


def text(value: str) -> str:
    """A C string literal of a text, in ASCII; bytes of UTF-8 outside it are written in octal."""
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in value.encode(errors="replace")
    )
    return f'"{escaped}"'
