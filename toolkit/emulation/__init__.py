"""Emulation: exported files run as another CPU would run them, by the real wheels for it under qemu."""
