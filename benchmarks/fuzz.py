"""Coverage-guided fuzzing of the readers of untrusted files, with atheris (`pip install atheris`).

    python benchmarks/fuzz.py                      the targets
    python benchmarks/fuzz.py image 600            one of them, for ten minutes
    python benchmarks/fuzz.py image 600 corpus/    with a folder that keeps what it has learnt

It begins with the sound files of tests/support/fuzz_targets.py. What breaks a promise is written to a file `crash-...`,
with a traceback: its bytes become a test beside the mended reader.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))


def main() -> None:
    """Fuzz the target that the command line names."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris (Linux and macOS)")
    with atheris.instrument_imports(include=["unposed"]):
        from fuzz_targets import TARGETS
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"targets: {', '.join(TARGETS)}")
    name, seconds = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "60"
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as seeds:
        for number, data in enumerate(target.seeds()):
            (Path(seeds) / str(number)).write_bytes(data)
        corpus = sys.argv[3:4] or [tempfile.mkdtemp(prefix="unposed-corpus-")]
        warnings.simplefilter("ignore")
        options = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", "-max_len=20000"]
        atheris.Setup([sys.argv[0], *options, *corpus, seeds], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
