"""`make audit` needs a source of vulnerabilities, and says so when there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

AUDIT = Path(__file__).parents[2] / "tools" / "audit.py"


@contextmanager
def source(answer: Any) -> Iterator[str]:
    """A source that answers every request alike."""
    body = json.dumps(answer).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quietly."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def audit(tmp_path: Path, url: str) -> subprocess.CompletedProcess[str]:
    """Run it with a pip-audit that finds something, whatever it is asked."""
    (tmp_path / "pip_audit.py").write_text("import sys; print(sys.argv); sys.exit(1)")
    nowhere = "http://127.0.0.1:1/"
    return subprocess.run(
        [sys.executable, str(AUDIT), "constraints.txt"],
        env={
            **os.environ,
            "AUDIT_PYPI_URL": nowhere,
            "AUDIT_OSV_URL": url,
            "PYTHONPATH": str(tmp_path),
            "no_proxy": "*",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_a_source_it_is_skipped_with_a_message(tmp_path: Path) -> None:
    done = audit(tmp_path, "http://127.0.0.1:1/")
    assert done.returncode == 0
    assert "audit is skipped" in done.stdout


def test_a_mirror_that_knows_no_vulnerabilities_is_no_source(tmp_path: Path) -> None:
    with source({"info": {}, "vulnerabilities": []}) as url:
        done = audit(tmp_path, url)
    assert done.returncode == 0
    assert "audit is skipped" in done.stdout


def test_what_is_found_is_a_failure(tmp_path: Path) -> None:
    with source({"id": "PYSEC-2019-217", "affected": [{}]}) as url:
        done = audit(tmp_path, url)
    assert done.returncode == 1
    assert "'--vulnerability-service', 'osv'" in done.stdout
