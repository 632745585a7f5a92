"""Makes the site of the documentation from the Markdown pages of the repository (`make docs`)."""
