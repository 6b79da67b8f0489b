"""Write what was found, so that every number in README.md is rendered and never typed."""

import json

from npsi_twin.comparison.published import zhao2018
from npsi_twin.comparison.targets import LIFE_TOLERANCE, targets
from npsi_twin.cycling.ageing import hypothesis

THICKNESS_TARGETS = [name for name in targets() if name.startswith("T_") and name != "T_sd_order"]


def render(found, study, folder):
    """Write ``result.json`` and replace what stands between the markers of ``README.md``."""
    (folder / "result.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    parts = {
        "answer": [answer(found, study)],
        "targets": [*_targets(found), "", *_covered(found)],
        "nobody": _out_of_reach(found, study),
        "apart": _table(
            ("hypotheses", "observable", "Cliff's delta", "medians", "n"),
            [row.values() for row in found["separation"]],
        ),
        "packing": _table(
            ("hypothesis", "seeds", "failed states", "samples", "not admissible", "reasons"),
            [(name, *_packing(of)) for name, of in found["hypotheses"].items()],
        ),
        "voxel": _table(("condition", "observable", "voxel", "half of it", "ratio"), _halved(found["voxel"])),
        "ranges": _table(("parameter", "from", "to", "status", "source"), _ranges(study)),
    }
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8")
    for part, lines in parts.items():
        start, end = f"<!-- {part} -->", f"<!-- /{part} -->"
        head, _, rest = text.partition(start)
        text = head + start + "\n" + "\n".join(lines) + "\n" + end + rest.partition(end)[2]
    readme.write_text(text, encoding="utf-8")


def answer(found, study):
    """Write the answer in one paragraph."""
    thirteen, variation = list(zhao2018().targets), study["design"]["default_loading_variation"]
    speaking = {name: of for name, of in found["hypotheses"].items() if hypothesis(name).mechanisms}
    often = {
        name: (
            sum(2 * of["followed"]["field"][t]["met"] > of["followed"]["field"][t]["admissible"] for t in thirteen),
            sum(of["default"]["field"][t]["probability"] > 0.5 for t in thirteen),
        )
        for name, of in speaking.items()
    }
    ranked = sorted(often.items(), key=lambda item: item[1], reverse=True)
    told = ", ".join(f"{name} {followed} ({apart})" for name, (followed, apart) in ranked)
    open_ = [
        target for target in thirteen
        if any(0.1 < of["default"]["field"][target]["probability"] < 0.9 for of in speaking.values())
    ]  # fmt: skip
    out = [target for target in targets() if not _ever(found, target)]
    best = max(found["separation"], key=lambda row: abs(row["delta"]), default=None)
    apart = (
        f" What tells two of them apart best is {best['observable']} ({best['hypotheses']}: Cliff's delta "
        f"{best['delta']:+.2f}, n = {best['n']})."
        if best
        else ""
    )
    return (
        f"Of the 13 targets so many are met more often than not at the default parameters where one piece of the "
        f"electrode is followed through all states, and in brackets where every state is another piece, of another "
        f"loading ({100 * variation:.0f} %), as in the paper: {told}; some of these were calibrated, as the table "
        f"says. No cell "
        f"of any hypothesis meets {', '.join(out) or 'none of them: each is met by some cell'}.{apart} The paper "
        f"scanned one specimen of each state (n = 1): for {len(open_)} of the 13 ({', '.join(open_) or 'none'}) "
        f"another cell of the same electrode would have turned the verdict on some hypothesis with a probability "
        f"above 10 %, so that a single scan decides nothing there."
    )


def _ever(found, target):
    return any(
        of["default"][kind][target]["probability"] > 0
        or of["ranges"][kind][target]["met"] > 0
        or of["followed"][kind][target]["met"] > 0
        for of in found["hypotheses"].values()
        for kind in ("field", "covered")
    )


def _targets(found):
    header = ("target", "demanded", *found["hypotheses"])
    rows = [
        (name, target.expression + _limits(target), *(_cell(of, name) for of in found["hypotheses"].values()))
        for name, target in targets().items()
    ]
    return _table(header, rows)


def _limits(target):
    if target.low is not None:
        return f" in {target.low:g} to {target.high:g}"
    if target.value is None:
        return ""
    return f" >= {target.value:g}" if target.kind == "lower_bound" else f" = {target.value:g} +- {LIFE_TOLERANCE:.0%}"


def _cell(of, target):
    default, ranges = of["default"]["field"][target], of["ranges"]["field"][target]
    if default["undecided"] == 1 and ranges["undecided"] == ranges["admissible"]:
        return "not decidable"
    kind = "c" if of["tuned"].get(target) else "p"
    unknown = f" ({default['undecided']:.2f} ?)" if default["undecided"] else ""
    followed = of["followed"]["field"][target]
    return (
        f"{kind} **{followed['met']}/{followed['admissible']}** at {followed['median']}<br>"
        f"apart {default['probability']:.2f}{unknown} at {default['median']}<br>"
        f"ranges {ranges['met']}/{ranges['admissible']}, best {ranges['best']}"
    )


def _covered(found):
    lines = ["The same where a thickness is the mean over the columns that still hold silicon:", ""]
    for target in THICKNESS_TARGETS:
        told = []
        for name, of in found["hypotheses"].items():
            followed, default, ranges = (of[part]["covered"][target] for part in ("followed", "default", "ranges"))
            shares = f"{followed['met']}/{followed['admissible']}, {default['probability']:.2f}"
            told.append(f"{name} {shares}, {ranges['met']}/{ranges['admissible']}")
        lines.append(f"- {target}: {'; '.join(told)}")
    return lines


def _out_of_reach(found, study):
    lines = [
        f"- **{target}**: {study['reasons'].get(target, 'no reason is known beyond the numbers of the table')}."
        for target in targets()
        if not _ever(found, target)
    ]
    return lines or ["None: every target is met by some cell of some hypothesis."]


def _packing(of):
    reasons = "; ".join(f"{count} x {reason}" for reason, count in of["reasons"].items())
    return of["seeds"], of["failed_states"], of["samples"], of["not_admissible"], reasons or "-"


def _halved(rows):
    for row in rows:
        coarse, fine = row["coarse"], row["fine"]
        ratio = f"{coarse / fine:.3f}" if fine else "?"
        yield row["condition"], row["observable"], f"{coarse:.4g}", f"{fine:.4g}", ratio


def _ranges(study):
    for path, limits in study["parameters"].items():
        scale = " (log)" if limits.get("scale") == "log" else ""
        yield path, f"{limits['low']:g}", f"{limits['high']:g}{scale}", limits["status"], limits["source"]


def _table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(str(value) for value in row) + " |" for row in rows]
