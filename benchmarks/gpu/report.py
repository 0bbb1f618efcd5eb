"""Rows as one Markdown table and one JSON file, written anew after every case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .setting import Figure, Row

HEAD = "part", "case", "measured", "predicted", "verdict", "s"


def write_report(folder: Path, facts: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Write gpu.md and gpu.json."""
    content = {"facts": facts, "rows": [asdict(row) for row in rows]}
    (folder / "gpu.json").write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    (folder / "gpu.md").write_text(as_markdown(facts, rows), encoding="utf-8")


def as_markdown(facts: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The table, below a line for every fact."""
    said = {name: value for name, value in facts.items() if not isinstance(value, dict)}  # `reached` has these in words
    lines = [f"- {name}: {', '.join(value) if isinstance(value, list) else value}" for name, value in said.items()]
    table = [_line(HEAD), _line(["---"] * len(HEAD)), *(_line(cells(row)) for row in rows)]
    return "\n".join([*lines, "", *table]) + "\n"


def cells(row: Row) -> list[str]:
    """One row of the table."""
    found = row.finding
    if found is None:
        return [row.part, row.case, row.problem, "", "not run" if row.problem.startswith("not run") else "failed", ""]
    verdict = {None: "", True: "agrees", False: "differs"}[found.passed]
    return [row.part, row.case, _text(found.figures), _text(found.predicted), verdict, f"{row.seconds:.1f}"]


def _text(figures: Mapping[str, Figure]) -> str:
    return "; ".join(f"{name} {value if isinstance(value, str) else f'{value:.3g}'}" for name, value in figures.items())


def _line(row: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
