"""Reports for people: Markdown, and one HTML page that needs nothing beside it. Each is made from a record alone (a
drill's evidence, a month's JSON), so that it can be made again from what is stored.
"""

from worker.report.drill import Report, render
from worker.report.month import render_month, summary

__all__ = ["Report", "render", "render_month", "summary"]
