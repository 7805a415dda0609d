"""The status as pages to look at: rendered on the server, nothing to click that changes anything.

server ─▶ site (which page) ─▶ views (what it shows) ─▶ templates
                                 ├ flow, gantt, calendar, plots ─▶ charts (pictures)
                                 └ sources (what was read, and when)
"""
