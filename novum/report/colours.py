"""Colours of every page, the reports' and those of TensorBoard's tab, in light and in dark."""

COLOURS = {  # custom property -> in light, in dark
    "page": ("#f4f6f8", "#11151b"),
    "card": ("#fff", "#1a2028"),
    "ink": ("#18202b", "#e8ecf1"),
    "soft": ("#566070", "#a0abb9"),
    "line": ("#dfe4ea", "#313a46"),
    "faint": ("#edf0f4", "#252d37"),
    # series of charts; more and less typical samples
    "s0": ("#0b68c4", "#5cb0ff"),
    "s1": ("#cf4f06", "#ff9350"),
    "s2": ("#12805a", "#43c995"),
    "s3": ("#8a46c8", "#c596f5"),
    "s4": ("#7a6a00", "#d3bf45"),
    "s5": ("#5b6470", "#a3adba"),
    "t1": ("#7db8f0", "#2f6fa8"),
    "t3": ("#f3ac6b", "#9c5a1e"),
    # findings
    "clear": ("#12784a", "#55d396"),
    "clear-bg": ("#e4f5ec", "#14301f"),
    "copying": ("#b3211a", "#ff8a80"),
    "copying-bg": ("#fdeaea", "#3d1917"),
    "doubtful": ("#8a5a00", "#f0bd57"),
    "doubtful-bg": ("#fff3d6", "#372a10"),
    "unjudged": ("#4d5866", "#b3bdc9"),
    "unjudged-bg": ("#e9ecf0", "#262e38"),
}


def follow_system() -> str:
    """CSS of the colours that the reader's system asks for."""
    light, dark = _declared()
    return f"{light}@media(prefers-color-scheme:dark) {{\n{dark}}}\n"


def follow_attribute() -> str:
    """CSS of the colours that the page's `data-theme` asks for."""
    light, dark = _declared(':root[data-theme="dark"]')
    return light + dark


def _declared(dark: str = ":root") -> list[str]:
    return [
        f"{root} {{\n" + "".join(f"  --{name}: {x[i]};\n" for name, x in COLOURS.items()) + "}\n"
        for i, root in enumerate((":root", dark))
    ]
