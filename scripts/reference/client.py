"""docs/reference/client.md: signatures and docstrings of `worker.client`."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable

import worker.client
from scripts.reference.errors import advice
from scripts.reference.markdown import doc, joined, made_by, table
from worker.client import BackupView, Client, DrillView, RestoreView, RunView, WaitTimeout

_VIEWS = (RunView, BackupView, RestoreView, DrillView)


def render() -> str:
    about = doc(worker.client).partition("\n\n")
    methods = [
        method for name, method in vars(Client).items() if inspect.isfunction(method) and _public(name)
    ]
    return joined(
        f"# Client\n\n{made_by()}",
        about[0],
        _code_blocks(about[2]),
        "A whole application: [restore_app.py](../examples/restore_app.py). Producers that reach only the broker send "
        "[entry tasks](tasks.md#entry-tasks).",
        "## Client",
        f"```python\nClient{_signature(Client.__init__)}\n```",
        doc(Client),
        *(
            joined(
                f"### {method.__name__}",
                f"```python\n{method.__name__}{_signature(method)}\n```",
                doc(method),
            )
            for method in methods
        ),
        *(_view(view) for view in _VIEWS),
        f"## WaitTimeout\n\n{advice(WaitTimeout).about} Every error is a [PgfleetError](errors.md) with `message`, "
        "`hint`, `exit_code` and `retryable`.",
    )


def _public(name: str) -> bool:
    return not name.startswith("_")


def _signature(function: Callable[..., object]) -> str:
    """One argument a line when it is long."""
    found = inspect.signature(function)
    parts = [_parameter(one) for one in found.parameters.values() if one.name != "self"]
    first = next(
        (index for index, one in enumerate(found.parameters.values()) if one.kind is one.KEYWORD_ONLY), 0
    )
    if first:
        parts.insert(first - 1, "*")  # less self
    returned = "" if found.return_annotation == "None" else f" -> {found.return_annotation}"
    text = f"({', '.join(parts)}){returned}"
    return text if len(text) <= 90 else "(\n" + "".join(f"    {part},\n" for part in parts) + f"){returned}"


def _parameter(one: inspect.Parameter) -> str:
    default = "" if one.default is one.empty else f" = {one.default!r}"
    return f"{one.name}: {one.annotation}{default}"


def _code_blocks(text: str) -> str:
    """Indented blocks of a docstring, as fenced ones."""
    return re.sub(
        r"(?m)^(?:    .*\n?)+", lambda block: f"```python\n{inspect.cleandoc(block[0])}\n```\n", text
    )


def _view(view: type) -> str:
    rows = [(f"`{field.name}`", f"`{field.type}`") for field in dataclasses.fields(view)]
    return joined(f"## {view.__name__}", doc(view), table(("field", "type"), rows))
