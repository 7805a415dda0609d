"""The status as a page to look at: rendered on the server, nothing to click that changes anything."""
