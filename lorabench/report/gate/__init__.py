"""What the gate decided, for people and for CI: terminal, JSON Lines, JUnit XML, Markdown, GitHub's annotations.

Names and messages in results files come from strangers: each writer escapes them for what reads its output.
"""
