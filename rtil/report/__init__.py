"""The report: one page of an evaluation or of a study, to read and to send.

One HTML file that fetches nothing: words made of the numbers, tables, charts, and galleries whose pictures are decoded
when they come into view. :func:`write_report` writes it.
"""

from rtil.report.parts import Figure, Part
from rtil.report.write import write_report

__all__ = ["Figure", "Part", "write_report"]
