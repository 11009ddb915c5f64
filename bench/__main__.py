"""`python -m bench [NAME …]`: the benchmarks one after the other, then one table of all cases."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.measure import Case, print_table

_FOLDER = Path(__file__).parent
_NO_BENCHMARKS = {
    "__init__", "__main__", "contest", "degraded_worlds", "gate_worlds", "generated_lake", "measure", "own_stack",
    "peers", "real_logs", "redis_server",
}  # fmt: skip


def main(names: list[str]) -> None:
    """Exit code 1 if one did not run to its end; a goal that is missed is shown and fails nothing."""
    known = sorted(file.stem for file in _FOLDER.glob("*.py") if file.stem not in _NO_BENCHMARKS)
    results = {name: _run(name) for name in names or known}
    print_table("all", [case for result in results.values() if result for case in _cases(result)])
    if failed := [name for name, result in results.items() if result is None]:
        sys.exit(f"failed: {', '.join(failed)}")


def _run(name: str) -> dict[str, Any] | None:
    """Shows what it prints as it comes; returns what its last line says."""
    last = ""
    with subprocess.Popen([sys.executable, "-m", f"bench.{name}"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # it is a pipe
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line
    return json.loads(last) if process.returncode == 0 else None


def _cases(result: dict[str, Any]) -> list[Case]:
    names = Case.__dataclass_fields__
    cases = [{key: value for key, value in case.items() if key in names} for case in result["cases"]]
    return [Case(**case | {"case": f"{result['bench']}: {case['case']}"}) for case in cases]


if __name__ == "__main__":
    main(sys.argv[1:])
