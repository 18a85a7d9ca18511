"""What advisories say of the releases in lock.txt: all of it is shown; malware, or a hole known to be used, is code 1.

pip-audit asks PyPI's or OSV's database. Where neither can be reached, nothing is checked, and this says so; a build
must not depend on a server that only reports.
"""

import json
import subprocess
import sys
import urllib.error
import urllib.request
import venv
from pathlib import Path
from typing import Any

EXPLOITED = {"GHSA-w37p-236h-pfx3": "pytorch-lightning 2.6.2 and 2.6.3 steal credentials when they are imported"}
"""Advisories that stop a build, beside those of malware (``MAL-...``): entries of CISA's list of holes in use."""
PROBES = {"pypi": "https://pypi.org/pypi/pip/24.0/json", "osv": "https://api.osv.dev/v1/vulns/GHSA-mq26-g339-26xf"}
SECONDS = 10
ROOT = Path(__file__).parents[1]
LOCK, VENV = ROOT / "lock.txt", ROOT / "build" / "audit"


def service() -> str | None:
    """Return the database that answers, or None."""
    for name, address in PROBES.items():
        try:
            with urllib.request.urlopen(address, timeout=SECONDS):  # noqa: S310  two addresses of our own
                return name
        except (urllib.error.URLError, TimeoutError):
            continue
    return None


def judge(report: dict[str, Any]) -> tuple[list[str], bool]:
    """Return a line for each advisory of a report of pip-audit, and whether one of them must stop the build."""
    lines, stop = [], False
    for package in report["dependencies"]:
        for advisory in package.get("vulns", []):
            names = {advisory["id"], *advisory.get("aliases", [])}
            is_used = any(name.startswith("MAL-") or name in EXPLOITED for name in names)
            fixed = ", ".join(advisory.get("fix_versions", [])) or "none yet"
            mark = "STOP " if is_used else ""
            lines.append(f"{mark}{package['name']} {package['version']}: {advisory['id']}, mended in {fixed}")
            stop = stop or is_used
    return lines, stop


def main() -> int:
    """Ask, show, and return the exit code."""
    database = service()
    if database is None:
        print(f"audit: not checked, as neither database of advisories answers ({', '.join(PROBES.values())})")
        return 0
    venv.create(VENV, with_pip=True)
    install = [VENV / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "pip-audit"]
    ask = [VENV / "bin" / "pip-audit", "--requirement", LOCK, "--no-deps", "--disable-pip", "--format", "json"]
    ask += ["--progress-spinner", "off", "--vulnerability-service", database]
    subprocess.run(install, check=True)  # noqa: S603
    done = subprocess.run(ask, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        report = json.loads(done.stdout)
    except ValueError:
        print(f"audit: not checked, pip-audit says: {done.stderr.strip()[-500:]}")
        return 0
    lines, stop = judge(report)
    checked = sum("skip_reason" not in package for package in report["dependencies"])
    print(f"audit: {len(lines)} advisories on {checked} releases of {LOCK.name}", *lines, sep="\n")
    return int(stop)


if __name__ == "__main__":
    sys.exit(main())
