"""Every message that the program can end with, read from its source: sentences with `…` where a value goes.

What is looked at: calls of PgfleetError and its kinds, rows of the tables that translate PostgreSQL's and S3's errors
(``_Rule``), problems of the settings (``Problem``, ``_problem``), refused requests (``_refused``), failures that the
ledger records itself (``failure``), and what two fingerprints cannot be compared for (``_incomparable``).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

from scripts.reference.known import ERRORS

SOURCE = Path(__file__).parents[2] / "worker"
GAP = "…"
#: More ways than these to fill a sentence are not worth telling apart.
_MOST = 8
USAGE = "UsageError"
#: Functions that return the (message, hint) of a failure that is no exception.
_RETURNED = {"too_large_message": "PlanTooLarge", "clock_message": "ClockLooksWrong"}
#: Functions that yield the message of an error → its kind and hint.
_YIELDED = {"_incomparable": ("ValidationFailed", "Drill on a server like the source's.")}
#: What a list of problems ends as, by package.
_PROBLEMS = {"worker.config": "ConfigError", "worker.postgres": "DumpFailed"}
_STORAGE = f"Destination {GAP} "


class Message(NamedTuple):
    """error: the name of a class, or of a kind that the ledger records. hint: "" when it depends on the case alone."""

    error: str
    text: str
    hint: str

    @property
    def pattern(self) -> re.Pattern[str]:
        """What the message looks like with its values."""
        return re.compile(".*".join(map(re.escape, self.text.split(GAP))), re.DOTALL)


@cache
def collect(source: Path = SOURCE) -> list[Message]:
    """Sorted and without repetitions; what is only passed on from elsewhere is not among them."""
    found: set[Message] = set()
    for path in sorted(source.rglob("*.py")):
        module = ".".join(("worker", *path.relative_to(source).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        found.update(_Module(ast.parse(path.read_text()), module).messages())
    hints: dict[tuple[str, str], set[str]] = {}
    for message in found:
        if re.search(r"\w{2}", message.text):
            hints.setdefault(message[:2], set()).update({message.hint} - {GAP})
    return [Message(error, text, " / ".join(sorted(hints[error, text]))) for error, text in sorted(hints)]


class _Module:
    def __init__(self, tree: ast.Module, name: str) -> None:
        self._tree = tree
        self._name = name
        self._constants = _assigned(tree.body)
        self._functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        self._problem = next((kind for package, kind in _PROBLEMS.items() if name.startswith(package)), "")

    def messages(self) -> Iterator[Message]:
        yield from self._within(self._tree, self._constants)

    def _within(self, node: ast.AST, names: _Names) -> Iterator[Message]:
        """names: what variables may be, as far as this function and the module's constants tell."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                own = {**self._constants, **_assigned(child.body)}
                yield from self._returned(child, own)
                yield from self._yielded(child, own)
                yield from self._within(child, own)
                continue
            if isinstance(child, ast.Call):
                yield from self._of_call(child, names)
            yield from self._within(child, names)

    def _returned(self, function: ast.FunctionDef, names: _Names) -> Iterator[Message]:
        for node in ast.walk(function):
            if (
                function.name in _RETURNED
                and isinstance(node, ast.Return)
                and isinstance(node.value, ast.Tuple)
            ):
                text, hint = node.value.elts
                for said, advice in product(_texts(text, names), _texts(hint, names)):
                    yield Message(_RETURNED[function.name], _plain(said), _plain(advice))

    def _yielded(self, function: ast.FunctionDef, names: _Names) -> Iterator[Message]:
        error, hint = _YIELDED.get(function.name, ("", ""))
        for node in ast.walk(function):
            if error and isinstance(node, ast.Yield) and node.value is not None:
                yield from (Message(error, _plain(said), hint) for said in _texts(node.value, names))

    def _of_call(self, call: ast.Call, names: _Names) -> Iterator[Message]:
        for error, text, hint in _sites(call, names, self._problem):
            for world in _worlds(text, hint, names):
                hints = self._hints(hint, world) if hint is not None else [""]
                for said, advice in product(_texts(text, world), hints):
                    yield Message(error, _sentence(said, call), _plain(advice))

    def _hints(self, node: ast.expr, names: _Names) -> list[str]:
        """Also those of a function that looks one up in a table of (pattern, hint)."""
        function = self._functions.get(node.func.id) if _is_plain_call(node) else None  # type: ignore[attr-defined]
        if function is None:
            return _texts(node, names)
        used = [name.id for name in ast.walk(function) if isinstance(name, ast.Name)]
        rows = [row for name in used for table in names.get(name, ()) for row in getattr(table, "elts", ())]
        told = [row.elts[-1] for row in rows if isinstance(row, ast.Tuple)]
        told += [constant for constant in ast.walk(function) if isinstance(constant, ast.Constant)]
        return [text for value in told for text in _texts(value, names) if " " in text] or [GAP]


def _worlds(text: ast.expr, hint: ast.expr | None, names: _Names) -> list[_Names]:
    """One for each time that a message's part and its hint were assigned together: they belong to each other."""
    if isinstance(hint, ast.Name) and len(advices := names.get(hint.id, ())) > 1:
        for name in (node.id for node in ast.walk(text) if isinstance(node, ast.Name)):
            parts = names.get(name, ())
            if len(parts) == len(advices):
                pairs = zip(parts, advices, strict=True)
                told = [pair for pair in pairs if getattr(pair[0], "value", None) != ""]
                return [{**names, name: [part], hint.id: [advice]} for part, advice in told]
    return [names]


def _is_plain_call(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


_Names = Mapping[str, list[ast.expr]]
_Site = tuple[str, ast.expr, ast.expr | None]


def _sites(call: ast.Call, names: _Names, problem: str) -> Iterator[_Site]:
    """(error, message, hint) of a call that makes an error. problem: what a ``Problem`` becomes in this module."""
    called = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    first, second = (*call.args[:2], None, None)[:2]
    if called == "_Rule":
        kind = next(index for index, arg in enumerate(call.args) if getattr(arg, "id", "") in ERRORS)
        yield call.args[kind].id, call.args[kind + 1], call.args[kind + 2]  # type: ignore[attr-defined]
    elif first is None or isinstance(first, ast.Starred):
        return
    elif called in ERRORS:
        yield called, first, None if called == "Later" else second
    elif called == "_refused" or (called in ("Problem", "_problem") and problem):
        yield problem or "ConfigError", first, second
    elif called in ("UsageError", "BadParameter"):
        yield USAGE, first, None
    elif called == "failure" and len(call.args) >= 3 and isinstance(first, ast.Constant):
        yield str(first.value), call.args[1], call.args[2]
    else:
        for value in names.get(called, ()):
            for name in ast.walk(value):
                if isinstance(name, ast.Name) and name.id in ERRORS:
                    yield name.id, first, second


def _sentence(text: str, call: ast.Call) -> str:
    """The whole of it where the call has only a part."""
    said = _plain(text)
    called = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if called == "_refused":
        return f"The {GAP} request is refused: {said}."
    if called == "_Rule" and getattr(call.args[0], "id", "") in ERRORS:
        return f"{_STORAGE}{said}."
    return said


def _plain(text: str) -> str:
    text = re.sub(r"\{\w+\}", GAP, " ".join(text.split()))
    return re.sub(rf"{GAP}(?:[ ,]*{GAP})+", GAP, text)


def _texts(node: ast.expr, names: _Names, depth: int = 0) -> list[str]:
    """What an expression may come to, with gaps for what is only known when it runs."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    ways: list[str] = []
    if depth < 6:
        if isinstance(node, ast.JoinedStr):
            ways = _joined([_texts(value, names, depth + 1) for value in node.values])
        elif isinstance(node, ast.FormattedValue):
            ways = _texts(node.value, names, depth + 1)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            ways = _joined([_texts(side, names, depth + 1) for side in (node.left, node.right)])
        elif isinstance(node, ast.IfExp):
            ways = [text for way in (node.body, node.orelse) for text in _texts(way, names, depth + 1)]
        elif isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            ways = [text for way in node.values for text in _texts(way, names, depth + 1)]
        elif isinstance(node, ast.Name):
            given = [value for value in names.get(node.id, ()) if getattr(value, "value", None) != ""]
            ways = [text for value in given for text in _texts(value, names, depth + 1)]
    told = list(dict.fromkeys(ways))
    return told if 0 < len(told) <= _MOST else [GAP]


def _joined(pieces: list[list[str]]) -> list[str]:
    total = 1
    for piece in pieces:
        total *= len(piece)
    if total > _MOST:
        pieces = [piece if len(piece) == 1 else [GAP] for piece in pieces]
    return ["".join(way) for way in product(*pieces)]


def _assigned(body: list[ast.stmt]) -> dict[str, list[ast.expr]]:
    """Name → the values that it is given in these statements."""
    found: dict[str, list[ast.expr]] = {}
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    for name, value in _pairs(target, node.value):
                        found.setdefault(name, []).append(value)
    return found


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple):
        values = value.elts if isinstance(value, ast.Tuple) else [value] * len(target.elts)
        tuples = isinstance(value, ast.Tuple)
        for one, its in zip(target.elts, values, strict=False):
            if isinstance(one, ast.Name) and (tuples or isinstance(its, ast.Constant)):
                yield one.id, its
