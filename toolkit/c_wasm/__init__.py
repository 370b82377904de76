"""The int8 model's C as WebAssembly: for the report's live panel, and for any other JavaScript."""
