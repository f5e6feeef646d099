"""A folder of records as tables in Markdown and LaTeX, with plots and the published figures.

Which runs stand together says :mod:`naf.evaluation.report_tables`, what is printed of them
:mod:`naf.evaluation.report_section`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from naf.data.atomic import replace_file
from naf.evaluation.report_latex import document
from naf.evaluation.report_markdown import page
from naf.evaluation.report_plots import plot_table
from naf.evaluation.report_records import ReportError, read_records
from naf.evaluation.report_section import section
from naf.evaluation.report_tables import groups

__all__ = ["ReportError", "read_records", "write_report"]

_LEGEND = (
    "Runs of other tasks, data sets, protocols, deviations, image counts or settings are in tables of their own. The "
    "best of a column is {best}, the second best {second}; values that print alike are marked alike. A gain is the "
    "mean over the columns, positive where it is better. Tables named published are what others print for the same "
    "task and data set, of denoising for ImageNet; several values of a cell are from several tables."
)


def write_report(folder: Path, out: Path) -> list[Path]:
    """Write `report.md`, `report.tex` and the plots.

    Args:
        folder: where the evaluations wrote their records.
        out: made if it is missing; files of the same names are replaced.

    Returns:
        The files.

    Raises:
        ReportError: if there are no records, or damaged ones.
        ValueError: if matplotlib is missing.
    """
    records = read_records(folder)
    if not records:
        raise ReportError(f"{folder} holds no records of evaluations: make some with `naf eval`")
    sections = [section(group, number) for number, group in enumerate(groups(records), 1)]
    out.mkdir(parents=True, exist_ok=True)
    plots = []
    for it in sections:
        path = out / f"{it.stem}.png"
        plot_table(it.tables[0], it.published, it.title, path)
        plots.append([path.name])
    pages = {"report.md": page(sections, _LEGEND, plots), "report.tex": document(sections, _LEGEND, plots)}
    for name, text in pages.items():
        replace_file(out / name, partial(Path.write_text, data=text, encoding="utf-8"))
    return [*(out / name for name in pages), *(out / name for names in plots for name in names)]
