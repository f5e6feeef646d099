"""The web application: `workbench` does the work and knows nothing of the web, the interface stands on it."""
