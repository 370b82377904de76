"""The sections of the page, one file each: what the report found, as HTML."""
