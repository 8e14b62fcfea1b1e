"""Messages asked by a real browser: Chromium through Playwright, with the module that people put into their pages."""
