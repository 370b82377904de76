"""The blocks of README.md that are made of results, by topic; each function gives the text of one."""
