"""Parts of a document that a program writes, between marks that a reader does not see.

<!-- api: written by `make docs`, from the code -->
...
<!-- /api -->
"""

from __future__ import annotations

import re
from collections.abc import Mapping


def filled(text: str, parts: Mapping[str, str]) -> str:
    """``text`` with the region of every name in ``parts`` replaced. Raises ``ValueError`` for one that is not there."""
    for name, part in parts.items():
        found = re.findall(
            rf"(<!-- {re.escape(name)}: [^\n]* -->\n)(.*?)(<!-- /{re.escape(name)} -->)", text, re.DOTALL
        )
        if len(found) != 1:
            raise ValueError(f"the text has {len(found)} regions named {name!r}, and must have one")
        begin, old, end = found[0]
        text = text.replace(f"{begin}{old}{end}", f"{begin}\n{part.strip()}\n\n{end}")
    return text
