"""Says whether Python's parser of playlists reads the same out of two folders' files of the same names:
`python tests/tools/parse.py <originals> <signed> <authority>`

The counterpart of parse.mjs, which says what is on stdout.
"""

import json
import sys
from pathlib import Path

import m3u8


def main(originals, signed, authority):
    verdicts = {}
    for file in sorted(Path(originals).iterdir()):
        one, other = (structure(Path(folder, file.name), authority) for folder in (originals, signed))
        verdicts[file.name] = "same" if one == other else f"{one!r}, and signed {other!r}"
        if one is other is None:
            verdicts[file.name] = "refused"
    json.dump({"pip m3u8": verdicts}, sys.stdout)


def structure(file, authority):
    """All that the parser found but the authority, and but what joins it to a link, of which some had one before."""
    try:
        found = m3u8.parse(file.read_bytes().decode(errors="surrogateescape"))
    except Exception:
        return None
    return plain(found, authority)


def plain(value, authority):
    if isinstance(value, dict):
        return {name: plain(item, authority) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item, authority) for item in value]
    if isinstance(value, str):
        return value.replace(authority, "").replace("?", "").replace("&", "")
    return value


if __name__ == "__main__":
    main(*sys.argv[1:])
