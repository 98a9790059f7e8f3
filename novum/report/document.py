"""The shell of our HTML pages: style, escaping, numbers and names as people read them."""

import html
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

from novum.core.errors import printable
from novum.report.evaluation import BETTER, Estimate

# nothing can be loaded and no script can run, whatever a file name holds
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
MIB = 2**20

STYLE = """
:root{color-scheme:light dark;--page:#f4f6f8;--card:#fff;--ink:#18202b;--soft:#566070;
--line:#dfe4ea;--faint:#edf0f4;--s0:#0b68c4;--s1:#cf4f06;--s2:#12805a;--s3:#8a46c8;--s4:#7a6a00;--s5:#5b6470;
--clear:#12784a;--clear-bg:#e4f5ec;--copying:#b3211a;--copying-bg:#fdeaea;--doubtful:#8a5a00;
--doubtful-bg:#fff3d6;--unjudged:#4d5866;--unjudged-bg:#e9ecf0}
@media(prefers-color-scheme:dark){:root{--page:#11151b;--card:#1a2028;--ink:#e8ecf1;--soft:#a0abb9;
--line:#313a46;--faint:#252d37;--s0:#5cb0ff;--s1:#ff9350;--s2:#43c995;--s3:#c596f5;--s4:#d3bf45;
--s5:#a3adba;--clear:#55d396;--clear-bg:#14301f;--copying:#ff8a80;--copying-bg:#3d1917;
--doubtful:#f0bd57;--doubtful-bg:#372a10;--unjudged:#b3bdc9;--unjudged-bg:#262e38}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",Arial,sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 20px 48px}
h1{font-size:24px;line-height:1.25;margin:0 0 2px}h2{font-size:18px;margin:0 0 2px}
h3{font-size:15px;margin:20px 0 6px}p{margin:0 0 10px}
h1,h2,h3,p,td,th,figcaption,li,dt,dd{overflow-wrap:anywhere}td,th{min-width:9ch}
.soft,.lead,small,figcaption,.legend{color:var(--soft)}.lead{max-width:76ch;margin-bottom:14px}
small{font-size:12.5px;line-height:1.4;display:block;font-weight:400}
section,.banner{background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:20px 22px;margin-top:16px}
.banner{display:flex;gap:16px;border-left:6px solid var(--tone);background:var(--tint)}
.banner h2{font-size:21px;color:var(--tone);margin-bottom:4px}
.banner p{margin:0 0 4px;max-width:100ch}
.banner svg{flex:none;width:34px;height:34px;margin-top:1px}
.banner circle{fill:var(--tone)}
.banner path{stroke:var(--card);stroke-width:3;fill:none;stroke-linecap:round;stroke-linejoin:round}
.clear{--tone:var(--clear);--tint:var(--clear-bg)}
.copying{--tone:var(--copying);--tint:var(--copying-bg)}
.doubtful{--tone:var(--doubtful);--tint:var(--doubtful-bg)}
.unjudged{--tone:var(--unjudged);--tint:var(--unjudged-bg)}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;vertical-align:top;padding:6px 14px 6px 0;border-bottom:1px solid var(--line)}
tbody tr:last-child>*{border-bottom:0}thead th{color:var(--soft);font-size:13px;font-weight:600}
th.n,td.n{text-align:right;padding-right:0;padding-left:14px;white-space:nowrap}
tbody th,b{font-weight:600}tbody th{min-width:15ch}thead th{overflow-wrap:normal}
th.n{overflow-wrap:anywhere}
.fit table{width:auto;min-width:min(100%,680px)}
.fit th,.fit td{padding-top:3px;padding-bottom:3px}.fit tbody th{min-width:11ch}
.pill{display:inline-block;padding:0 8px;border-radius:9px;font-size:12px;line-height:18px;
font-weight:600;background:var(--faint);color:var(--soft);white-space:nowrap;margin-left:4px}
.tone{background:var(--tint);color:var(--tone)}
.best{font-weight:700}.best::after{content:" \\2605";color:var(--s2)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr));
gap:20px 28px}
.small{grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr))}
figure{margin:0;min-width:0}figure>svg{display:block;width:100%;height:auto}
figcaption{font-size:13px;line-height:1.4}.charts figcaption{margin-bottom:4px}
figcaption b{color:var(--ink)}
.legend{font-size:13px;margin:2px 0 6px}.legend span{white-space:nowrap;margin-right:14px}
.legend i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:5px;
background:var(--c)}
svg text{font-size:12px;fill:var(--soft);font-family:inherit}svg .name{fill:var(--ink)}
.grid{stroke:var(--line);stroke-width:1}.fair{stroke:var(--ink);stroke-dasharray:4 3}
.end{stroke:var(--ink);stroke-width:2}
.bad{fill:var(--copying-bg)}.bar{display:block;margin-top:4px;width:160px;max-width:20vw;height:16px}
.track{fill:var(--faint)}
.c0{--c:var(--s0)}.c1{--c:var(--s1)}.c2{--c:var(--s2)}.c3{--c:var(--s3)}.c4{--c:var(--s4)}
.c5{--c:var(--s5)}.mass{--c:var(--s5)}
.alarm{--c:var(--copying)}
.dot{fill:var(--c)}.mass.dot{fill-opacity:.4}.ring{fill:none;stroke:var(--c);stroke-width:2.2}
.whisker{stroke:var(--c);stroke-width:3;stroke-linecap:round;stroke-opacity:.55}
.curve{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}
.gap{margin-bottom:14px}
.mark{display:inline-block;width:12px;height:12px;border:2.2px solid var(--c);border-radius:50%;
margin-right:6px;vertical-align:-1px}
.area{fill:var(--c);fill-opacity:.28;stroke:none}.dash{stroke-dasharray:5 3}
.panel{list-style:none;margin:0;padding:0;display:grid;gap:14px;
grid-template-columns:repeat(auto-fill,minmax(min(100%,470px),1fr))}
.panel li{border:1px solid var(--line);border-radius:8px;padding:10px 12px 8px}
.panel li>p{font-size:13px;margin:0 0 8px}
.strip{display:grid;grid-template-columns:repeat(4,1fr);gap:8px}
.strip figcaption,.thumbs figcaption{font-size:12px;margin-top:3px}
img{display:block;width:100%;height:auto;border-radius:3px;background:var(--faint)}
img.px{image-rendering:pixelated}
.thumbs{display:grid;grid-template-columns:repeat(6,1fr);gap:8px}
.split{display:grid;gap:24px;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}
.split h3:first-child{margin-top:0}
.pair{display:grid;gap:6px 18px;margin:14px 0;
grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}
pre{margin:4px 0 0;padding:8px 10px;border:1px solid var(--line);border-radius:6px;
background:var(--page);font:12.5px/1.45 ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;
white-space:pre-wrap;overflow-wrap:anywhere}
.tall{max-height:560px;overflow:auto}
.rule{display:block;border-top:1px dashed var(--soft);margin:6px 0}
mark{color:inherit;background:var(--c);border-radius:2px}
.copied{--c:#f7b9b4}.near{--c:#f9d59b}.common{--c:#d3d9e0}
@media(prefers-color-scheme:dark){.copied{--c:#7c2b26}.near{--c:#6b4a10}.common{--c:#46505d}}
dl{display:grid;grid-template-columns:fit-content(40%) 1fr;gap:4px 18px;margin:0}
dt{color:var(--soft)}dd{margin:0}ul{margin:0;padding-left:20px}
@media(max-width:600px){main{padding:16px 10px 32px}section,.banner{padding:16px 14px}
.banner svg{width:26px;height:26px}.banner{gap:10px}h1{font-size:20px}.meaning{display:none}
.pill{white-space:normal}.strip{gap:5px}td.n,th.n{padding-left:8px}
th.n,td.n small{white-space:normal}svg text{font-size:14px}}
"""


class Words(NamedTuple):
    """A metric's name and meaning for people; a share is shown in per cent."""

    title: str
    meaning: str
    share: bool = False


WORDS = {
    "frechet_distance": Words(
        "Fréchet distance",
        "Between Gaussians fitted to the features of samples and training images; falls with more"
        " samples, so compare equal numbers only.",
    ),
    "memorization_informed_frechet_distance": Words(
        "Memorization-informed Fréchet distance",
        "The Fréchet distance, made larger where samples lie very close to training images.",
    ),
    "frechet_distance_infinity": Words(
        "Fréchet distance at infinity",
        "Extrapolated to infinitely many samples, so that different numbers can be compared.",
    ),
    "kernel_distance": Words(
        "Kernel distance",
        "Squared maximum mean discrepancy with a cubic kernel; unbiased, so it can fall below 0.",
    ),
    "inception_score": Words(
        "Inception score", "Samples of one clear class each, of all classes together."
    ),
    "precision": Words("Precision", "Samples that look like some training image.", True),
    "recall": Words("Recall", "Training images that look like some sample.", True),
    "density": Words(
        "Density", "How densely samples lie among training images; 1 for training data itself."
    ),
    "coverage": Words("Coverage", "Training images with a sample in their neighbourhood.", True),
    "vendi_score": Words(
        "Vendi score", "How many entirely different images the samples are worth."
    ),
    "closer_to_train": Words(
        "Closer to training",
        "Samples nearer to training than to held-out images, equally many of each; copying lifts it"
        " above 50%.",
        True,
    ),
    "copy_rate": Words(
        "Copy rate",
        "Samples far nearer to one training item than to others, beyond what chance gives; of text,"
        " passages with 50 characters in a row from it.",
        True,
    ),
    "copies_at_least": Words(
        "Copies at least",
        "With 95% confidence so many samples owe their nearest item to training, faint copies too.",
        True,
    ),
    "copies_flagged": Words("Copies flagged", "Samples named as copies, one by one."),
    "items_copied": Words(
        "Items copied", "Training items that draw more samples than held-out items do by chance."
    ),
    "expected_coverage": Words(
        "Coverage of equals", "What samples as good as the training images would reach.", True
    ),
    "sliced_wasserstein_distance": Words(
        "Sliced Wasserstein distance", "Mean distance between the sets along random directions."
    ),
    "longest_copy": Words(
        "Longest copy", "Characters of the longest passage that the training text has too."
    ),
    "longest_copy_heldout": Words(
        "Longest copy in held-out text", "The same of held-out text: what chance gives."
    ),
    "copies_found": Words("Copies found", "Passages of 50 characters or more, chance included."),
    "copied_share": Words(
        "Copied share", "Characters inside passages of 50 or more that training text has.", True
    ),
    "copied_share_heldout": Words("Copied share of held-out text", "What chance gives.", True),
    "novel_10grams": Words(
        "New 10-grams", "Ten characters in a row that training text has nowhere.", True
    ),
    "novel_10grams_heldout": Words("New 10-grams of held-out text", "What chance gives.", True),
    "self_bleu": Words(
        "Self-BLEU", "How like each passage of 100 words is to the others; 1 repeats itself."
    ),
    "self_bleu_heldout": Words("Self-BLEU of held-out text", "From as many words."),
    "distinct_2": Words("Distinct word pairs", "Of all pairs of words in a row.", True),
    "distinct_2_heldout": Words("Distinct word pairs of held-out text", "", True),
    "distinct_3": Words("Distinct word triples", "Of all three words in a row.", True),
    "distinct_3_heldout": Words("Distinct word triples of held-out text", "", True),
    "permutation_p": Words(
        "Permutation p",
        "How often a random split into training and held-out items looks as suspicious; small"
        " means copying.",
    ),
    "authenticity": Words(
        "Authenticity",
        "Samples farther from their nearest training image than that is from its own neighbour;"
        " not calibrated by held-out images.",
        True,
    ),
    "data_copying_ct": Words(
        "Data-copying C_T",
        "Rank test of distances to training, samples against held-out images; far below 0 means"
        " copying or samples that are too typical.",
    ),
    "fld_gap": Words(
        "FLD gap",
        "Likelihood of training less that of held-out images under the samples; below 0 means"
        " overfitting.",
    ),
}


def plain(text: object) -> str:
    """Text that can be shown: control characters and bytes that are no text are spelt out."""
    return printable(str(text))


def clean(text: object) -> str:
    """Any text as HTML that shows it."""
    return html.escape(plain(text))


def document(title: str, body: str) -> str:
    """One page that needs nothing but itself."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{clean(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def section(title: str, lead: str, *parts: str) -> str:
    """A titled card; `lead` says in plain words how to read it."""
    lead = f'<p class="lead">{clean(lead)}</p>' if lead else ""
    return f"<section><h2>{clean(title)}</h2>{lead}{''.join(parts)}</section>"


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0, kind: str = "wide"
) -> str:
    """Cells of HTML; the first of a row names it, the last `numbers` columns are figures."""
    first = len(headings) - numbers
    head = "".join(_cell("th", h, i >= first, "col") for i, h in enumerate(headings))
    body = "".join(
        "<tr>"
        + _cell("th", row[0], False, "row")
        + "".join(_cell("td", cell, i >= first) for i, cell in enumerate(row[1:], 1))
        + "</tr>"
        for row in rows
    )
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="{kind}">{whole}</div>'


def _cell(tag: str, content: str, number: bool, scope: str = "") -> str:
    kind = (' class="n"' if number else "") + (f' scope="{scope}"' if scope else "")
    return f"<{tag}{kind}>{content}</{tag}>"


def definitions(entries: Mapping[str, object]) -> str:
    """Names beside their values."""
    parts = (f"<dt>{clean(name)}</dt><dd>{clean(value)}</dd>" for name, value in entries.items())
    return f"<dl>{''.join(parts)}</dl>"


def legend(names: Iterable[str], classes: Iterable[str] | None = None) -> str:
    names = list(names)
    classes = classes or (f"c{i % 6}" for i in range(len(names)))
    parts = (
        f'<span><i class="{c}"></i>{clean(n)}</span>' for n, c in zip(names, classes, strict=True)
    )
    return f'<p class="legend">{"".join(parts)}</p>'


def words(metric: str) -> Words:
    """A metric we know nothing of goes by its own name."""
    return WORDS.get(metric) or Words(metric.replace("_", " ").capitalize(), "")


def metric_heading(metric: str, note: str = "", explain: bool = True) -> str:
    """Title, which way is better, a note, and what it means."""
    known = words(metric)
    better = f' <span class="pill">{clean(BETTER[metric])}</span>' if metric in BETTER else ""
    note = f"<small>{clean(note)}</small>" if note else ""
    explain = explain and bool(known.meaning)
    meaning = f'<small class="meaning">{clean(known.meaning)}</small>' if explain else ""
    return f"<b>{clean(known.title)}</b>{better}{note}{meaning}"


def number(value: object, share: bool = False) -> str:
    """A figure with as many digits as can be read; a dash for one that is not there."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    if not isfinite(value):
        return "–"
    if share:
        return f"{value:.1%}"
    if isinstance(value, int) or 1000 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def interval(estimate: Estimate, share: bool = False) -> str:
    """The ends of its interval, in words; empty where there is none."""
    low, high = (
        None if estimate.get(end) is None else number(estimate[end], share)
        for end in ("low", "high")
    )
    if low is not None and high is not None:
        return f"{low} to {high}"
    return f"at least {low}" if low is not None else f"at most {high}" if high is not None else ""


def estimate_cell(metric: str, estimate: Estimate | None) -> str:
    """Value, and its interval below, as HTML."""
    if estimate is None:
        return ""
    share = words(metric).share
    ends = interval(estimate, share)
    small = f"<small>{clean(ends)}</small>" if ends else ""
    return f"{clean(number(estimate.get('value'), share))}{small}"


def described(side: Mapping[str, Any]) -> dict[str, str]:
    """A set's path, size and other facts for people."""
    return {
        key: "×".join(map(str, v)) if isinstance(v, list) else number(v) for key, v in side.items()
    }


def spent(cost: Mapping[str, Any]) -> dict[str, str]:
    """Time and memory for people; what is not known goes by its own name."""
    known = {
        "seconds": ("Time", _duration),
        "peak_rss_bytes": ("Peak memory", lambda value: f"{value / MIB:,.0f} MiB"),
        "images_per_second": ("Speed", lambda value: f"{value:,.0f} images/s"),
        "characters_per_second": ("Speed", lambda value: f"{value:,.0f} characters/s"),
    }
    shown = {}
    for key, value in cost.items():
        name, how = known.get(key, (key, number))
        if value is not None:
            shown[name] = how(value)
    return shown


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
