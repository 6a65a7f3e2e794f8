"""Makes a built template say what it was built for, so that no deploy can put its layers on another processor.

    pin_architecture.py TEMPLATE arm64|x86_64

`sam build` leaves the parameter `Architecture` open in the template that it writes; binaries in the layers are not.
"""

import re
import sys
from pathlib import Path

_PARAMETER = re.compile(r"^  Architecture:\n(?:    .*\n)+", re.MULTILINE)


def pinned(template: str, architecture: str) -> str:
    """The template with one allowed value, the default. Raises `ValueError` where there is no such parameter."""
    if not _PARAMETER.search(template):
        raise ValueError("the template has no parameter Architecture")
    parameter = (
        "  Architecture:\n    Description: What the layers were built for\n    Type: String\n"
        f"    AllowedValues: [{architecture}]\n    Default: {architecture}\n"
    )
    return _PARAMETER.sub(parameter, template, count=1)


def main(path: str, architecture: str) -> None:
    template = Path(path)
    template.write_text(pinned(template.read_text(), architecture))


if __name__ == "__main__":
    main(*sys.argv[1:])
