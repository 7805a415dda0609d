"""Settings: their shape (model), where they come from (load), what they are and why (explain)."""
