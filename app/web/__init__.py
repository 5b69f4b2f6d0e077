"""The console: one page for people, rendered here, over the same report and the same repairs as the API."""
