"""Runs as markdown: a table per set, and the sums over sets with the ratios of cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

from measure import Run

Standing = Mapping[tuple[str, str], str]
"""(set, runner) to the runner whose runs stand in for it there."""


def report(runs: Sequence[Run], sets: Sequence[str], runners: Sequence[str], standing: Standing) -> str:
    """All tables; medians over rounds, and ratios of CPU time to the first runner's."""
    by_cell: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        by_cell.setdefault((run.set, run.runner), []).append(run)

    def cell(name: str, runner: str) -> list[Run]:
        return by_cell.get((name, standing.get((name, runner), runner)), [])

    parts = [_set_table(name, {runner: cell(name, runner) for runner in runners}) for name in sets]
    whole = {runner: [cell(name, runner) for name in sets] for runner in runners}
    return "\n\n".join([*parts, _sum_table({runner: cells for runner, cells in whole.items() if all(cells)})])


def _set_table(name: str, cells: Mapping[str, Sequence[Run]]) -> str:
    rows = []
    for runner, runs in cells.items():
        if not runs:
            continue
        areas = [median(100 * run.auc.get(threshold, 0.0) for run in runs) for threshold in ("1", "3", "5")]
        rows.append(
            [
                runner,
                f"{_middle(runs, lambda run: run.registered):g}/{runs[0].total}",
                " / ".join(f"{area:.1f}" for area in areas),
                _ate(runs),
                _or_dash(_middle(runs, lambda run: run.focal_error), lambda error: f"{100 * error:.1f} %"),
                f"{_middle(runs, lambda run: run.cpu_s):.1f}",
                f"{_middle(runs, lambda run: run.wall_s):.1f}",
                f"{_middle(runs, lambda run: run.peak_mb):.0f}",
                _stages(runs),
                next((run.problem for run in runs if run.problem), ""),
            ]
        )
    head = ["", "placed", "AUC@1 / 3 / 5", "ATE", "focal error", "CPU s", "wall s", "peak MB", "CPU by stage", "fault"]
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return f"### {name}\n\n{_markdown(head, rows)}"


def _sum_table(whole: Mapping[str, Sequence[Sequence[Run]]]) -> str:
    """Only runners with a run of every set are summed."""
    rows = []
    first: float | None = None
    for runner, cells in whole.items():
        cpu = sum(_middle(runs, lambda run: run.cpu_s) or 0.0 for runs in cells)
        first = cpu if first is None else first
        placed = sum(_middle(runs, lambda run: run.registered) or 0.0 for runs in cells)
        area = sum(_middle(runs, lambda run: 100 * run.auc.get("5", 0.0)) or 0.0 for runs in cells) / len(cells)
        peak = max(_middle(runs, lambda run: run.peak_mb) or 0.0 for runs in cells)
        total = sum(runs[0].total for runs in cells)
        rows.append([runner, f"{placed:g}/{total}", f"{area:.1f}", f"{cpu:.1f}", f"{cpu / first:.2f}", f"{peak:.0f}"])
    head = ["", "placed", "mean AUC@5", "CPU s", f"CPU over {rows[0][0]}" if rows else "CPU", "largest peak MB"]
    return f"### All sets\n\n{_markdown(head, rows)}"


def _middle(runs: Iterable[Run], of: Callable[[Run], float | None]) -> float | None:
    values = [value for value in map(of, runs) if value is not None]
    return median(values) if values else None


def _ate(runs: Sequence[Run]) -> str:
    millimetres = _middle(runs, lambda run: run.ate_mm)
    if millimetres is not None:
        return f"{millimetres:.1f} mm"
    return _or_dash(_middle(runs, lambda run: run.ate_percent), lambda share: f"{share:.2f} %")


def _stages(runs: Sequence[Run]) -> str:
    names = [name for name in runs[0].stages if all(name in run.stages for run in runs)]
    seconds = {name: median(run.stages[name]["cpu_s"] for run in runs) for name in names}
    return ", ".join(f"{name} {spent:.1f}" for name, spent in seconds.items() if spent >= 0.05)


def _or_dash(value: float | None, text: Callable[[float], str]) -> str:
    return "-" if value is None else text(value)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
