"""Rehearse the Dockerfile where no container engine runs: its own instructions, one after the other, in a changed root.

As root, with a base that stands for the image of FROM, from the bundle's folder:

    debootstrap --variant=minbase bookworm /var/tmp/base
    python containers/rehearse.py /var/tmp/base /var/tmp/stages --run --version

`--bind`, `--env` and `--build-arg` are for this rehearsal alone: certificates, a mirror, an index of packages.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ABOUT = ("LABEL", "HEALTHCHECK", "CMD")  # change nothing in the root


@dataclass
class Stage:
    """A root that is being built.

    Attributes:
        root: Its folder.
        folder: WORKDIR.
        user: USER, numbers.
        variables: ARG and ENV.
        entry: ENTRYPOINT.
    """

    root: Path
    folder: str = "/"
    user: str = "0:0"
    variables: dict[str, str] = field(default_factory=dict)
    entry: list[str] = field(default_factory=list)


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """Each instruction of a Dockerfile with its arguments, without comments, lines joined."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


class Rehearsal:
    """Runs instructions.

    Args:
        base: Root of the image that FROM names.
        stages: Folder that receives a root for each stage.
        given: Build arguments.
        binds: Folders of this machine, by their place inside.
        environment: Variables that RUN sees on top, such as those of a mirror.
    """

    def __init__(
        self, base: Path, stages: Path, given: dict[str, str], binds: dict[str, str], environment: dict[str, str]
    ) -> None:
        self.base, self.stages, self.given = base, stages, given
        self.binds, self.environment = binds, environment
        self.built: dict[str, Stage] = {}
        self.stage: Stage | None = None

    def run(self, dockerfile: str) -> Stage:
        """Run all instructions, and give the last stage."""
        for word, rest in instructions(dockerfile):
            sys.stdout.write(f"== {word} {rest}\n")
            sys.stdout.flush()
            if word not in ABOUT:
                getattr(self, f"_{word.lower()}")(rest)  # an instruction that is not known here is an error
        assert self.stage is not None
        return self.stage

    def _from(self, rest: str) -> None:
        name = rest.partition(" AS ")[2] or "final"
        root = self.stages / name
        subprocess.run(["cp", "--archive", str(self.base), str(root)], check=True)
        shutil.copy("/etc/resolv.conf", root / "etc")
        self.stage = self.built[name] = Stage(root)

    def _arg(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        if self.stage is not None:
            self.stage.variables[name] = self.given.get(name, value.strip('"'))

    def _env(self, rest: str) -> None:
        self._now.variables.update(word.split("=", 1) for word in shlex.split(rest))

    def _user(self, rest: str) -> None:
        self._now.user = rest

    def _workdir(self, rest: str) -> None:
        self._now.folder = rest
        (self._now.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _entrypoint(self, rest: str) -> None:
        self._now.entry = json.loads(rest)

    def _copy(self, rest: str) -> None:
        *words, target = rest.split()
        place = self._now.root / (Path(self._now.folder) / target).as_posix().lstrip("/")
        sources = [word for word in words if not word.startswith("--")]
        if words[0].startswith("--from="):
            other = self.built[words[0].removeprefix("--from=")]
            place.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "--archive", str(other.root / sources[0].lstrip("/")), str(place)], check=True)
            return
        for source in [match for word in sources for match in sorted(ROOT.glob(word))]:
            goal = place / source.name if target.endswith("/") else place
            goal.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, goal, ignore=shutil.ignore_patterns("__pycache__", "images", "phantom_*"))
            else:
                shutil.copy(source, goal)

    def _run(self, rest: str) -> None:
        self.inside(["/bin/sh", "-c", rest], {**self._now.variables, **self.environment})

    def inside(self, command: Sequence[str], variables: dict[str, str], binds: dict[str, str] | None = None) -> int:
        """Run a command in the current root, with its user and folder; what is bound is released in any case."""
        stage = self._now
        user, _, group = stage.user.partition(":")
        usual = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp"}
        words = [f"{name}={value}" for name, value in {**usual, **variables}.items()]
        script = f"cd {shlex.quote(stage.folder)} && exec env -i {shlex.join([*words, *command])}"
        mounted: list[Path] = []
        try:
            system = {place: place for place in ("/proc", "/dev", "/dev/shm")}
            for place, source in {**system, **(self.binds if binds is None else binds)}.items():
                goal = stage.root / place.lstrip("/")
                goal.mkdir(parents=True, exist_ok=True)
                subprocess.run(["mount", "--bind", source, str(goal)], check=True)
                mounted.append(goal)
            changed = ["chroot", f"--userspec={user}:{group or user}", str(stage.root), "/bin/sh", "-c", script]
            done = subprocess.run(changed, check=binds is None)
        finally:
            for goal in reversed(mounted):
                subprocess.run(["umount", str(goal)], check=True)
        return done.returncode

    @property
    def _now(self) -> Stage:
        if self.stage is None:
            raise ValueError("The Dockerfile has an instruction before FROM that this rehearsal does not know.")
        return self.stage


def _pairs(texts: Sequence[str], separator: str) -> dict[str, str]:
    return dict(re.split(separator, text, maxsplit=1) for text in texts)


def main() -> int:
    """Rehearse the Dockerfile, then start what it starts, if that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="root that debootstrap made")
    parser.add_argument("stages", type=Path, help="empty folder for the roots of the stages")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for RUN")
    parser.add_argument("--bind", action="append", default=[], metavar="INSIDE=OUTSIDE", help="for RUN")
    parser.add_argument("--run", nargs=argparse.REMAINDER, help="start the image with these arguments")
    options = parser.parse_args()
    options.stages.mkdir(parents=True)
    pairs = (_pairs(texts, "=") for texts in (options.build_arg, options.bind, options.env))
    rehearsal = Rehearsal(options.base, options.stages, *pairs)
    stage = rehearsal.run((ROOT / "containers/Dockerfile").read_text(encoding="utf-8"))
    if options.run is None:
        return 0
    return rehearsal.inside([*stage.entry, *options.run], stage.variables, binds={})


if __name__ == "__main__":
    sys.exit(main())
