"""Types and size of clients/browser/stream-chat.js, with the tools that its package.json pins (`make check`).

Without npm this is left out, and says so; where TOKENDERBY_REQUIRE names node it fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "clients" / "browser"


def main() -> int:
    """The exit code: that of `npm run check`, or whether it had to be run."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    npm = shutil.which("npm")
    if npm is not None and (FOLDER / "node_modules").is_dir():
        return subprocess.run([npm, "run", "--silent", "check"], cwd=FOLDER, check=False).returncode
    remedy = "`make check` installs what that takes" if npm else "install Node with npm, then `make check`"
    print(f"types and size of the browser's module are not checked: {remedy}")
    return int("node" in os.environ.get("TOKENDERBY_REQUIRE", "").split(","))


if __name__ == "__main__":
    sys.exit(main())
