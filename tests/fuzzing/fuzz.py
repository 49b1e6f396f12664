"""Broken files, guided by the lines of code they reach.

    python -m tests.fuzzing.fuzz                       # every target, 18 s each
    python -m tests.fuzzing.fuzz --target nii.gz --seconds 600

A file that a reader neither reads nor refuses is kept in `eval/fuzzing/`, and the exit status is 1. What is found
belongs into `tests/test_hostile_files.py`.
"""

import argparse
import logging
import re
import subprocess
import sys
import tempfile
from pathlib import Path

logger = logging.getLogger("fuzzing")
KEPT = Path("eval/fuzzing")
LONGEST = 1 << 16  # bytes of a file
MEMORY = 4096  # MiB


def fuzz_all(names, seconds):
    """Run every target in a process of its own: a crash of one ends none of the others."""
    failed = []
    for name in names:
        command = [sys.executable, "-W", "ignore", "-m", "tests.fuzzing.fuzz", "--one", name, "--seconds", str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        runs = re.findall(r"#(\d+)\s+\S+\s+cov: (\d+) ft: (\d+)", done.stderr)
        tried, lines, features = runs[-1] if runs else (0, 0, 0)
        finished = re.search(r"Done (\d+) (?:in|runs)", done.stderr)
        tried = finished[1] if finished else tried
        logger.info(f"{name}: {tried} files, {lines} edges, {features} features, exit status {done.returncode}")
        if done.returncode:
            failed.append(name)
            logger.error("\n".join(done.stderr.splitlines()[-40:]))
    return failed


def fuzz_one(name, seconds):
    """Fuzz one target in this process; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["bundle", "nibabel", "numpy.lib._format_impl", "yaml", "zipfile"]):
        from tests.fuzzing import targets
    import numpy as np

    target = targets.TARGETS[name]
    seeds = target.seeds()
    folder, corpus = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)
    targets.warm_up(target, folder)

    def mutate(data, most, seed):
        """libFuzzer's own changes, or those that know archives and JSON."""
        if seed % 2:
            return atheris.Mutate(data, most)
        return targets.mutated(np.random.default_rng(seed), [bytes(data) or seeds[0], seeds[seed // 2 % len(seeds)]])[
            :most
        ]

    KEPT.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-rss_limit_mb={MEMORY}", "-timeout=10"]
    kept = f"-artifact_prefix={KEPT / name.replace(' ', '_').replace('.', '_')}-"
    atheris.Setup(
        [sys.argv[0], *limits, kept, "-print_final_stats=1", str(corpus)],
        lambda data: targets.attempt(target, data, folder),
        custom_mutator=mutate,
    )
    atheris.Fuzz()


def main():
    """Read the options and fuzz."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", help="(default: all)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=int, default=18, help="for each target (default: %(default)s)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        import atheris  # noqa: F401
    except ImportError:
        logger.warning("Skipped: atheris is not installed (pip install -r requirements-fuzz.txt; Linux only).")
        return 0
    if options.one:
        fuzz_one(options.one, options.seconds)
        return 0
    from tests.fuzzing.targets import TARGETS

    failed = fuzz_all(options.target or TARGETS, options.seconds)
    logger.info(f"Files that were neither read nor refused: {', '.join(failed) or 'none'}.")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
