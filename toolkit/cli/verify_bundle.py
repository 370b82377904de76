"""``toolkit verify-bundle``."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli import options


def verify_bundle(
    path: Annotated[Path, typer.Argument(help="What 'toolkit bundle' made: a folder, a .zip or a .whl.")],
    key: Annotated[
        Path | None,
        typer.Option(metavar="PUBLIC_KEY", help="The bundle must be signed by the owner of this key (PEM)."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Check a bundle from the outside; nothing of it is run. Exit 4 if anything is damaged, missing or does not belong.

    Every file is held against SHA256SUMS and the manifest, a wheel against its RECORD too. Where predictor.py,
    selftest.py or requirements.txt are not those of this toolkit version, a note says so. With --key the signature must
    hold (of a wheel the one beside it, NAME.whl.sig). Whether the model answers as it should on a device is for its
    self-test to say: python predictor.py --selftest.

    \b
    Example:
        toolkit verify-bundle device --key key.pub
    """
    from toolkit.bundle.verify import verify_bundle as check_it
    from toolkit.cli.console import note, print_json

    check = check_it(path, key)
    for line in check.notes:
        note(f"note: {line}")
    if json:
        print_json(check.to_json())
        return
    model = check.manifest.bundle.model if check.manifest.bundle else ""
    total = sum(size for _, size in check.files.values())
    signature = {
        "valid": f"signed by the owner of {key}",
        "not checked": "signed, which --key checks",
        "none": "not signed",
    }[check.signature]
    typer.echo(
        f"{path}: sound, {model} of {check.manifest.name}, {len(check.files)} files, {total:,} bytes; {signature}"
    )
