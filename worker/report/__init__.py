"""The report of a drill: Markdown, and one HTML page that needs nothing beside it. Made from the evidence record alone,
so that it can be made again from what is stored.
"""

from worker.report.drill import Report, render

__all__ = ["Report", "render"]
