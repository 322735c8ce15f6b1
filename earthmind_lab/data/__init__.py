"""Catalogs, scenes and pixels: everything that knows geography; no torch in here."""
