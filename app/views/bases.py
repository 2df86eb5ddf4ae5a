"""The base models that are offered by name; any other can be typed in."""

BASES = [
    ("Practice base (built in, no download)", "demo"),
    ("Stable Diffusion 1.5 (downloads about 4 GB once)", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
]
DEMO_NOTE = "**Practice base:** small and quick, for learning how it works. Files made with it work only here."
