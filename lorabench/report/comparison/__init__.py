"""Two results files side by side, for people: a table on the terminal, Markdown, and a page. Never imports torch."""
