"""Plant one small bug after the other, and say which of them no test notices.

    python scripts/mutate.py --sample 40 --jobs 2
    python scripts/mutate.py mireg/_engine/optimize.py --sample 20 --seed 1
    python scripts/mutate.py mireg/_files/transforms/fsl.py

Without files: the loops, the transform files and the refinement. In a copy of the
project each mutant is put into its file, alone, and the fast tests that `TESTS` names
for the file must fail, or run into the time limit. A mutant: + for - and * for /, < for
<=, min for max, `and` for `or`, a number one higher, a sign or `not` left out, two
arguments or the factors of a matrix product exchanged, or a statement left out.

A mutant that survives is a test that is missing, or no bug at all (another way to write
the same, a number that may as well be another). The latter are explained, one by one,
in mutants_explained.json: what is printed for a survivor goes there, with a reason.

Tests run with compiled loops: even with what has to be compiled anew for each mutant
they take less time than without.

The exit code is 0 if all survivors are explained, 1 if not, 2 for a bad call.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import difflib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("mireg", "tests", "scripts", "data", "pyproject.toml", "README.md")
EXPLAINED = Path(__file__).with_name("mutants_explained.json")

#: The tests of a file, or of all files of a folder; the quick ones first.
TESTS: dict[str, tuple[str, ...]] = {
    "mireg/_engine/metrics.py": ("tests/test_metrics.py",),
    "mireg/_engine/optimize.py": ("tests/test_optimize.py", "tests/test_method.py"),
    "mireg/_engine/pose.py": ("tests/test_pose.py",),
    "mireg/_engine/uncertainty.py": ("tests/test_uncertainty.py",),
    "mireg/_engine/model_choice.py": ("tests/test_model_choice.py",),
    "mireg/_engine/pair.py": ("tests/test_pair.py", "tests/test_method.py"),
    "mireg/_engine/levels.py": ("tests/test_levels.py",),
    "mireg/_engine/verdict.py": ("tests/test_verdict.py",),
    "mireg/_engine/search.py": ("tests/test_search.py",),
    "mireg/_engine/similarity.py": ("tests/test_similarity.py",),
    "mireg/_files/transforms": (
        "tests/test_transform_files.py",
        "tests/test_directions.py",
    ),
    "mireg/_kernels.py": (
        "tests/test_kernels.py",
        "tests/test_prepare.py",
        "tests/test_resample.py",
        "tests/test_intensity.py",
        "tests/test_similarity.py",
        "tests/test_search.py",
        "tests/test_levels.py",
        "tests/test_contrast.py",
    ),
    "mireg/_transform.py": ("tests/test_transform.py",),
    "mireg/information.py": ("tests/test_information.py",),
}
#: What an explained mutant is known by: its place, and the lines that differ.
KEY = ("file", "function", "kind", "before", "after")
DEFAULT = ("mireg/_engine/optimize.py", "mireg/_files/transforms", "mireg/_kernels.py")

#: A mutant may take this many times as long as all tests without it, and so much more.
PATIENCE = 3.0
GRACE_S = 30.0

# --- mutants -------------------------------------------------------------------------

_OTHER: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OTHER_CALL = {
    name.replace("min", a): name.replace("min", b)
    for name in ("min", "argmin", "nanmin", "minimum", "fmin")
    for a, b in (("min", "max"), ("max", "min"))
}


@dataclass(frozen=True)
class Mutant:
    """A file with a small bug."""

    file: str
    line: int
    function: str
    kind: str
    before: str  # the lines that differ
    after: str
    source: str

    @property
    def key(self) -> tuple[str, ...]:
        """What it is known by as long as its lines stay as they are."""
        return tuple(getattr(self, name) for name in KEY)

    @property
    def place(self) -> str:
        """Where it is."""
        return f"{self.file}:{self.line} {self.function or '(module)'}: {self.kind}"


def mutants(file: str, source: str) -> list[Mutant]:
    """Return all mutants of a file, in the order of its lines."""
    raw = source.encode()
    starts = np.cumsum([0, *(len(line) for line in raw.splitlines(keepends=True))])
    finder = _Finder()
    finder.visit(ast.parse(source))
    found = []
    for node, function, kind, text in finder.found:
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        changed = (raw[:start] + text.encode() + raw[end:]).decode()
        lines = list(
            difflib.unified_diff(source.splitlines(), changed.splitlines(), n=0)
        )
        before, after = (
            " ".join(line[1:].strip() for line in lines[3:] if line[0] == sign)
            for sign in "-+"
        )
        found.append(Mutant(file, node.lineno, function, kind, before, after, changed))
    return sorted(found, key=lambda mutant: mutant.line)


class _Finder(ast.NodeVisitor):
    """Collect what may be changed: node, function, kind, and the text instead.

    Left alone are docstrings and other texts, annotations, decorators and imports.
    """

    def __init__(self) -> None:
        self.found: list[tuple[Any, str, str, str]] = []
        self.function = ""

    def visit(self, node: ast.AST) -> None:
        """Collect what is in a node."""
        for kind, text in _changes(node):
            self.found.append((node, self.function, kind, text))
        super().visit(node)

    def _within(self, name: str, nodes: Sequence[ast.AST | None]) -> None:
        outer, self.function = self.function, f"{self.function}.{name}".strip(".")
        for node in nodes:
            if node is not None:
                self.visit(node)
        self.function = outer

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Leave out decorators and annotations."""
        arguments = node.args
        defaults = [*arguments.defaults, *arguments.kw_defaults]
        self._within(node.name, [*defaults, *node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Leave out decorators and bases."""
        self._within(node.name, node.body)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Leave out the annotation."""
        if node.value is not None:
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave out texts: before Python 3.12 their parts have no place."""


def _changes(node: ast.AST) -> Iterator[tuple[str, str]]:  # noqa: PLR0912
    """Yield the kinds of change that a node allows, and what it then says."""

    def instead(**fields: Any) -> str:
        other = copy.copy(node)
        vars(other).update(fields)
        text = ast.unparse(other)
        plain = isinstance(node, ast.stmt | ast.Call | ast.Constant)
        return text if plain else f"({text})"

    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp):
        if type(node.op) in _OTHER:
            yield "operator", instead(op=_OTHER[type(node.op)]())
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            yield "exchange", instead(left=node.right, right=node.left)
    elif isinstance(node, ast.Compare):
        for k, op in enumerate(node.ops):
            ops = [*node.ops[:k], _OTHER[type(op)](), *node.ops[k + 1 :]]
            yield "comparison", instead(ops=ops)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield "sign", f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield "constant", str(not node.value)
        elif isinstance(node.value, int | float):
            yield "constant", repr(node.value + 1)
    elif isinstance(node, ast.Call):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in _OTHER_CALL:
            func = copy.copy(node.func)
            field = "id" if isinstance(func, ast.Name) else "attr"
            setattr(func, field, _OTHER_CALL[name])
            yield "extremum", instead(func=func)
        for k, (a, b) in enumerate(zip(node.args, node.args[1:], strict=False)):
            if type(a) is type(b) and ast.dump(a) != ast.dump(b):
                args = [*node.args[:k], b, a, *node.args[k + 2 :]]
                yield "exchange", instead(args=args)
    if _can_go(node):
        yield "deletion", "pass"


def _can_go(node: ast.AST) -> bool:
    """Tell whether a statement does something of its own, rather than give a name."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Subscript | ast.Attribute)
    return isinstance(
        node, ast.Return | ast.Raise | ast.Break | ast.Continue | ast.AugAssign
    )


# --- running the tests ---------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant."""

    mutant: Mutant
    survived: bool
    words: str


def tests_of(file: str) -> tuple[str, ...]:
    """Return the tests of a file."""
    for name, tests in TESTS.items():
        if file == name or file.startswith(name + "/"):
            return tests
    raise SystemExit(f"{file}: TESTS in {__file__} names no tests for it")


def copy_project(folder: Path) -> None:
    """Copy what the tests need."""
    folder.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, folder / name)


def run_tests(
    folder: Path, tests: Sequence[str], limit_s: float | None = None
) -> int | None:
    """Run tests in a copy; return pytest's exit code, None if time was up."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow"]
    # What Python compiled is kept by the second: too coarse for two mutants in one.
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        [*command, "-p", "no:cacheprovider", *tests],
        cwd=folder,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            return process.wait(limit_s)
        except BaseException as stop:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with what it has started
            if isinstance(stop, subprocess.TimeoutExpired):
                return None
            raise


def try_out(mutant: Mutant, folder: Path, limit_s: float) -> Outcome:
    """Run the tests of a mutant in a copy, and put its file right again."""
    path = folder / mutant.file
    original = path.read_text(encoding="utf-8")
    path.write_text(mutant.source, encoding="utf-8")
    since = time.perf_counter()
    try:
        code = run_tests(folder, tests_of(mutant.file), limit_s)
    finally:
        path.write_text(original, encoding="utf-8")
    words = {0: "SURVIVED", None: "timed out"}.get(code, "killed")
    return Outcome(mutant, code == 0, f"{words:9} {time.perf_counter() - since:5.0f} s")


def try_all(chosen: Sequence[Mutant], jobs: int) -> Iterator[Outcome]:
    """Try mutants, each in a copy of the project that no other one uses."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folders = [Path(name) / str(job) for job in range(jobs)]
        copy_project(folders[0])
        limits: dict[tuple[str, ...], float] = {}
        for tests in dict.fromkeys(tests_of(mutant.file) for mutant in chosen):
            since = time.perf_counter()
            if run_tests(folders[0], tests) != 0:
                raise SystemExit(f"without a mutant these fail: {' '.join(tests)}")
            limits[tests] = PATIENCE * (time.perf_counter() - since) + GRACE_S
        for folder in folders[1:]:
            shutil.copytree(folders[0], folder)  # with the loops compiled in it
        free: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for folder in folders:
            free.put(folder)

        def work(mutant: Mutant) -> Outcome:
            folder = free.get()
            try:
                return try_out(mutant, folder, limits[tests_of(mutant.file)])
            finally:
                free.put(folder)

        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(work, chosen)


# --- the command ---------------------------------------------------------------------


def files_of(names: Sequence[str]) -> list[str]:
    """Return the Python files that are named, and those of folders that are."""
    found: list[Path] = []
    for name in names:
        path = ROOT / name
        if not path.exists():
            raise SystemExit(f"there is no {name} in {ROOT}")
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [path.relative_to(ROOT).as_posix() for path in found]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("files", nargs="*", help=f"or folders [{' '.join(DEFAULT)}]")
    add("--sample", type=int, help="try so many mutants, drawn at random [all]")
    add("--seed", type=int, default=0, help="of the draw (%(default)s)")
    add("--jobs", type=int, default=1, help="mutants at a time (%(default)s)")
    add("--list", action="store_true", help="print the mutants and try none")
    args = parser.parse_args(argv)
    if args.jobs < 1 or args.seed < 0 or (args.sample or 1) < 1:
        parser.error("--jobs and --sample must be at least 1, --seed not negative")
    return args


def explained() -> dict[tuple[str, ...], str]:
    """Read why some mutants survive, by their keys."""
    entries = json.loads(EXPLAINED.read_text(encoding="utf-8"))
    return {tuple(entry[name] for name in KEY): entry["reason"] for entry in entries}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = parse(argv)
    files = files_of(args.files or DEFAULT)
    found = [
        mutant
        for file in files
        for mutant in mutants(file, (ROOT / file).read_text(encoding="utf-8"))
    ]
    reasons = explained()
    keys = {mutant.key for mutant in found}
    for key in reasons:
        if key[0] in files and key not in keys:
            print(f"{key[0]} {key[1]}: explained is what is no more: {key[3]}")
    chosen = found
    if args.sample is not None and args.sample < len(found):
        drawn = np.random.default_rng(args.seed).permutation(len(found))[: args.sample]
        chosen = [found[k] for k in sorted(drawn)]
    print(f"{len(chosen)} of {len(found)} mutants", flush=True)
    if args.list:
        for mutant in chosen:
            print(f"{mutant.place}\n- {mutant.before}\n+ {mutant.after}")
        return 0
    survivors = []
    for number, outcome in enumerate(try_all(chosen, args.jobs), 1):
        print(f"{number:4} {outcome.words} {outcome.mutant.place}", flush=True)
        if outcome.survived:
            survivors.append(outcome.mutant)
    left = [mutant for mutant in survivors if mutant.key not in reasons]
    print(
        f"\n{len(chosen) - len(survivors)} of {len(chosen)} noticed, "
        f"{len(survivors) - len(left)} explained, {len(left)} not"
    )
    for mutant in left:
        entry = dict(zip(KEY, mutant.key, strict=True))
        print(f"\n{mutant.place}\n- {mutant.before}\n+ {mutant.after}")
        print(json.dumps({**entry, "reason": "?"}, ensure_ascii=False))
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
