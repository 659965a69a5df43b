"""The report: a page that opens offline, the same in Markdown, tables and figures. Never imports torch.

Loaded by ``lorabench report`` alone: matplotlib, jinja2 and pandas take longer to import than other commands to run.
"""
