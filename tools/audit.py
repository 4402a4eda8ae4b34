"""Known vulnerabilities in pinned packages: ``audit.py constraints.txt``, by pip-audit.

Ends with 1 when there are any, with 0 when there are none, and with 0 and a message when neither
PyPI nor OSV answers as a source of vulnerabilities.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

SOURCES = {
    "pypi": os.environ.get("AUDIT_PYPI_URL", "https://pypi.org/pypi/jinja2/2.10/json"),
    "osv": os.environ.get("AUDIT_OSV_URL", "https://api.osv.dev/v1/vulns/PYSEC-2019-217"),
}
"""Where each source tells of a vulnerability that is known for long. Mirrors often do not."""

_TIMEOUT_S = 10


def main(requirements: str) -> int:
    """Audit one file of pinned requirements."""
    source = next((name for name, url in SOURCES.items() if is_there(url)), None)
    if source is None:
        print("audit is skipped: neither PyPI nor OSV answers as a source of vulnerabilities")
        return 0
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", requirements, "--no-deps",
        "--disable-pip", "--strict", "--vulnerability-service", source,
    ]  # fmt: skip
    return subprocess.run(command, check=False).returncode


def is_there(url: str) -> bool:
    """Whether a source answers, and knows of a vulnerability."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            found = json.load(answer)
    except (OSError, urllib.error.URLError, ValueError):
        return False
    return isinstance(found, dict) and bool(found.get("vulnerabilities") or found.get("affected"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
