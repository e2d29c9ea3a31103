"""Pictures of one recording of events: a sheet (PNG), an animated picture (GIF), or a page with both (HTML)."""
