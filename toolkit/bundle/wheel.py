"""A bundle as a wheel: a package of pure Python whose data are the bundle's files.

The file follows the packaging specifications ("Binary distribution format", "Core metadata", "Recording installed
projects"). Members are stored, not compressed: another build of zlib would compress to other bytes, and the same
bundle has to give the same wheel everywhere; a model's weights hardly shrink anyway.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import stat
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit import __version__
from toolkit.bundle import sums
from toolkit.bundle.requirements import PYTHON, normalized
from toolkit.bundle.sums import SIGNATURE, SUMS
from toolkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["VERSION", "build", "package_name", "record"]

VERSION = "0.1.0"
"""The version of a wheel whose maker names none."""
TAG = "py3-none-any"

# Python packaging specification, "Version specifiers", appendix: the canonical form; and a local version.
_CANONICAL = re.compile(
    r"([1-9][0-9]*!)?(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*((a|b|rc)(0|[1-9][0-9]*))?(\.post(0|[1-9][0-9]*))?"
    r"(\.dev(0|[1-9][0-9]*))?(\+[a-z0-9]+(\.[a-z0-9]+)*)?"
)
# The one line of selftest.py by which it finds the predictor: the toolkit's own, or a bundle folder's.
_SELFTEST_IMPORT = re.compile(r"^( *)(?:from toolkit )?import predictor as device$", re.MULTILINE)


def build(contents: Mapping[str, bytes], name: str, version: str, floor: str | None, summary: str) -> tuple[str, bytes]:
    """A wheel of a bundle; the same arguments give the same bytes.

    A signature does not come along: it is of the bundle folder, and a wheel's selftest.py and SHA256SUMS differ from
    the folder's.

    Args:
        contents: the bundle's files by name.
        name: the bundle's; see `package_name`.
        version: the wheel's, such as "0.1.0".
        floor: the lowest onnxruntime that runs the model, or None where that is not known.
        summary: one line about it.

    Returns:
        The file's name and its bytes.

    Raises:
        UsageError: name or version cannot be those of a wheel.
    """
    package = package_name(name)
    if not _CANONICAL.fullmatch(version):
        raise UsageError(f"the version is {version!r}, expected one such as {VERSION} or 1.2.0rc1 (PEP 440)")
    files = {file: data for file, data in contents.items() if file not in (SUMS, SIGNATURE)}
    files["selftest.py"] = _selftest(files["selftest.py"], package)
    class_names = json.loads(files["manifest.json"])["class_names"]
    files["__init__.py"] = _template("wheel_init.py", name, package, version, class_names)
    files["__main__.py"] = _template("wheel_main.py", name, package, version, class_names)
    files["py.typed"] = b""
    files[SUMS] = sums.write(files)
    about = f"{package}-{version}.dist-info"
    members = {f"{package}/{file}": files[file] for file in sorted(files)}
    members[f"{about}/METADATA"] = _metadata(package, version, floor, summary, files.get("README.md", b""))
    members[f"{about}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: toolkit {__version__}\nRoot-Is-Purelib: true\nTag: {TAG}\n".encode()
    )
    path = f"{about}/RECORD"
    members[path] = record(members, path)
    return f"{package}-{version}-{TAG}.whl", _archive(members)


def package_name(name: str) -> str:
    """The package's name: "fashion-mnist" becomes "fashion_mnist_model".

    Raises:
        UsageError: it would be none that Python can import.
    """
    package = normalized(f"{name}-model").replace("-", "_")
    if not (package.isascii() and package.isidentifier()) or package.startswith("_"):
        raise UsageError(
            f"a wheel of {name!r} would be the package {package!r}, which Python cannot import; rename it: letters a "
            "to z, digits and hyphens, a letter first"
        )
    return package


def _selftest(source: bytes, package: str) -> bytes:
    text, count = _SELFTEST_IMPORT.subn(rf"\1from {package} import predictor as device", source.decode())
    if count != 1:
        raise ValueError(f"selftest.py imports the predictor {count} times, expected one line that can be replaced")
    return text.encode()


def _template(file: str, name: str, package: str, version: str, class_names: list[str] | None) -> bytes:
    """A module of the package, from the one that stands beside this file."""
    text = Path(__file__).with_name(file).read_text(encoding="utf-8")
    text = text.replace("NAME as a", f"{name} as a").replace("PACKAGE", package)
    text = text.replace("from toolkit", f"from {package}").replace('"VERSION"', f'"{version}"')
    if class_names is not None:
        # A JSON string is a Python string too, as long as nothing beyond 16 bits is escaped.
        listed = "".join(f"    {json.dumps(each, ensure_ascii=False)},\n" for each in class_names)
        text = text.replace("tuple[str, ...] | None = None", f"tuple[str, ...] | None = (\n{listed})")
    return text.encode()


def _metadata(package: str, version: str, floor: str | None, summary: str, readme: bytes) -> bytes:
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {package.replace('_', '-')}",
        f"Version: {version}",
        f"Summary: {' '.join(summary.split())}",
        "Classifier: Operating System :: POSIX :: Linux",
        f"Requires-Python: >={PYTHON}",
        "Requires-Dist: numpy",
        f"Requires-Dist: onnxruntime{f'>={floor}' if floor else ''}",
        "Description-Content-Type: text/markdown",
    ]
    return "\n".join([*lines, "", ""]).encode() + readme


def record(members: Mapping[str, bytes], path: str) -> bytes:
    """What RECORD holds: the hash and the size of every file of the wheel.

    Args:
        members: the other files by name, in their order.
        path: RECORD's own name in the wheel.
    """
    rows = []
    for name, data in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(data)}\n")
    return "".join([*rows, f"{path},,\n"]).encode()


def _archive(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, whatever this runs on
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data)
    return buffer.getvalue()
