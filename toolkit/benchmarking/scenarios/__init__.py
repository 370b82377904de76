"""The scenarios, one module each: ``take`` runs in the worker, ``summarize`` makes its takes a frozen result."""
