"""Checks that the workspace's crates depend on each other, and on the outside, only as ARCHITECTURE.md allows.

Dev-dependencies are free: a test may look at anything.
"""

import json
import subprocess
import sys

# Package -> the workspace packages it may depend on. A package that is not here is an error: decide its place first.
ALLOWED = {
    "wire": set(),
    "schema": {"wire"},
    "log": {"wire"},
    "state": {"log", "wire"},
    "tier": {"log", "wire"},
    "replay": {"tier", "state", "log", "schema", "wire"},
    "sql": {"replay", "tier", "state", "log", "schema", "wire"},
    "ingest": {"state", "log", "schema", "wire"},
    "device": {"wire"},
    "server": {"wire", "schema", "log", "state", "tier", "replay", "sql", "ingest", "device"},
    "sim": {"wire", "log", "state", "tier", "replay", "ingest", "device"},
    "load": {"device", "log"},
    "benches": {"wire", "log", "state", "tier", "replay", "sql", "ingest", "device"},
    "python": {"replay", "tier", "log", "schema", "wire"},
}

# Package -> outside crates that would break its one responsibility.
FORBIDDEN = {
    "wire": {"tokio", "quinn", "quinn-proto", "rustls", "socket2"},
    "schema": {"tokio", "quinn", "quinn-proto", "rustls", "socket2"},
    "log": {"tokio", "quinn", "quinn-proto", "rustls", "socket2"},
    "state": {"tokio", "quinn", "quinn-proto", "rustls", "socket2"},
    "tier": {"quinn", "quinn-proto", "axum"},
    "replay": {"quinn", "quinn-proto", "rustls", "socket2"},
    "sql": {"quinn", "quinn-proto", "socket2"},
    "python": {"quinn", "quinn-proto", "rustls", "socket2"},
}


def main() -> int:
    metadata = json.loads(
        subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"])
    )
    faults = []
    arrows = 0
    for package in metadata["packages"]:
        name = package["name"].removeprefix("icecore-")
        if name not in ALLOWED:
            faults.append(f"{package['name']}: has no place among the crates (.ci/arrows.py)")
            continue
        for dependency in package["dependencies"]:
            if dependency["kind"] == "dev":
                continue
            to = dependency["name"]
            if to.startswith("icecore-"):
                arrows += 1
                if to.removeprefix("icecore-") not in ALLOWED[name]:
                    faults.append(f"{package['name']} -> {to}: arrow not allowed")
            elif to in FORBIDDEN.get(name, ()):
                faults.append(f"{package['name']} -> {to}: {package['name']} must not know it")
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(metadata['packages'])} packages, {arrows} arrows, {len(faults)} not allowed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
