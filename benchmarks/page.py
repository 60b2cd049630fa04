"""Records as a page: Markdown tables, and plots in SVG. The same records always give the same bytes.

The text needs only the records; the plots need the extra ``report``: the package matplotlib.
"""

from __future__ import annotations

import importlib
import io
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from rows import OK, Row

from lbam_fast.errors import LBAMError

BASELINE = "published form"
LIMITS = "limits"
Key = TypeVar("Key")
UNITS = {
    "seconds": ("ms", 1e3),
    "bytes": ("MiB", 2.0**-20),
    "bytes_per_second": ("GB/s", 1e-9),
    "flop_per_second": ("GFLOP/s", 1e-9),
    "joules_per_image": ("J", 1.0),
}
SUITES = {
    "inference": "Whole network",
    "latency": "One picture, end to end",
    "training": "One training step",
    "layers": "Single layers",
    "ops": "Single operations",
    "memory": "Peak memory",
    LIMITS: "Limits of the device",
}
HEAD = """# Performance

Written by `python benchmarks/report.py` from the records in `benchmarks/records`; not to be edited by hand.

Every method of a case has the same weights and inputs. Its output is first compared with float64: one that misses its error
budget is reported as wrong and gets no time. The others run in interleaved rounds; the figures are medians over the rounds, with
the quartiles after them. Times are for a call with the whole batch, unless it says per image. Ratios are taken round by round to
the published form, the plain module in NCHW and float32: above 1 is faster, or smaller, than the published form. The floor is
the least time that the operations and bytes of the work need at the rates measured on the same device. Peak memory is that of
one process for each method, weights and libraries included, so it has no spread.
"""


class ReportError(LBAMError, ValueError):
    """A report that cannot be made; the message says what is missing."""


@dataclass(frozen=True)
class Plot:
    """A figure of panels under each other, each drawn by ``draw(axes, rows, styles)``; ``svg`` draws it all."""

    name: str
    title: str
    panels: dict[str, list[Row]]
    methods: tuple[str, ...]
    draw: Callable[[Any, Sequence[Row], Styles], None]
    x_label: str
    y_label: str = ""


@dataclass(frozen=True)
class Report:
    """The page, and the plots that it shows."""

    text: str
    plots: tuple[Plot, ...]


class Quantity(NamedTuple):
    """What a plot shows of a row: lower quartile, median, upper quartile."""

    low: float
    median: float
    high: float


Styles = dict[str, dict[str, Any]]
"""How each method is drawn: the same in all plots of a machine."""


def page_of(rows: Iterable[Row], folder: str = "performance") -> Report:
    """The page of these records, with its plots in ``folder`` beside it. Raises ReportError where there are no rows.

    Where a figure was measured several times on a machine the latest date counts, and of those the last.
    """
    machines = _grouped(_newest(rows), machine_name)
    if not machines:
        raise ReportError("there are no rows in these records: pytest benchmarks/ --record writes some")
    plots = {name: tuple(_plots(slug(name), group)) for name, group in machines.items()}
    sections = (_section(name, group, plots[name], folder) for name, group in machines.items())
    return Report("\n".join((HEAD, *sections)), tuple(chain(*plots.values())))


def machine_name(row: Row) -> str:
    """What tells machines apart: of a GPU the processor that feeds it, of a processor how many threads it may use."""
    machine = row.machine
    device, processor = (machine.get(key) or "unknown" for key in ("device", "processor"))
    return f"{device}, {machine.get('threads', '?')} threads" if device == processor else f"{device} on {processor}"


def slug(words: str) -> str:
    """Words as part of a file's name."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in words.lower()).split())


def _newest(rows: Iterable[Row]) -> list[Row]:
    newest: dict[tuple[str, ...], Row] = {}
    for row in rows:
        key = (machine_name(row), row.suite, row.case, row.method, row.metric)
        if key not in newest or row.date >= newest[key].date:
            newest[key] = row
    return list(newest.values())


def _grouped(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _measured(row: Row) -> bool:
    return row.status == OK and row.median is not None


# Text


def _section(name: str, rows: Sequence[Row], plots: Sequence[Plot], folder: str) -> str:
    runs = sorted(_grouped(rows, _run), key=lambda run: json.loads(run)[0])
    numbers = {run: str(number) for number, run in enumerate(runs, start=1)} if len(runs) > 1 else {}
    lines = [f"## {_plain(name)}", "", *_runs(runs), ""]
    for plot in plots:
        lines += [f"![{plot.title}]({folder}/{plot.name}.svg)", ""]
    suites = _grouped(rows, lambda row: row.suite)
    for suite in sorted(suites, key=lambda suite: [*SUITES, suite].index(suite)):
        lines += [f"### {SUITES.get(suite, _plain(suite))}", ""]
        for title, cases in _tables(suites[suite]):
            lines += [*((f"#### {_plain(title)}", "") if title else ()), *_table(cases, numbers)]
    return "\n".join(lines)


def _run(row: Row) -> str:
    """When, from what and with what a row was measured, as JSON."""
    return json.dumps([row.date, row.commit, row.machine, row.versions], sort_keys=True)


def _runs(runs: Sequence[str]) -> Iterator[str]:
    for number, run in enumerate(runs, start=1):
        date, commit, machine, versions = json.loads(run)
        commit, _, dirty = commit.partition("-")
        code = f"commit {commit[:12]}{' with changes' if dirty else ''}" if commit else "commit unknown"
        details = (", ".join(f"{key} {value}" for key, value in each.items() if value != "") for each in (machine, versions))
        yield _plain(f"{number}. {date or 'date unknown'}, {code}; " + "; ".join(details))


def _tables(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """A title and the rows of each table: one for each case and metric; the limits, a row each, share one."""
    if rows[0].suite == LIMITS:
        yield "", list(rows)
        return
    for (case, metric), group in _grouped(rows, lambda row: (row.case, row.metric)).items():
        yield case if metric in ("seconds", "bytes") else f"{case}: {metric.replace('_', ' ')}", group


def _table(rows: Sequence[Row], numbers: dict[str, str]) -> Iterator[str]:
    """A table of those that have a figure, without columns that would be empty, and a list of those that have none."""
    measured = [row for row in rows if _measured(row)]
    columns = {heading: [cell(row) for row in measured] for heading, cell in _columns(rows, numbers).items()}
    columns = {heading: cells for heading, cells in columns.items() if any(cells)}
    if measured:
        yield "| " + " | ".join(columns) + " |"
        yield "|" + "|".join("---" if heading in ("case", "method", "dtype") else "---:" for heading in columns) + "|"
        yield from ("| " + " | ".join(cells) + " |" for cells in zip(*columns.values(), strict=True))
        yield ""
    others = [row for row in rows if not _measured(row)]
    if others:
        yield from (_plain(f"- {row.method}: {_reason(row)}") for row in others)
        yield ""


def _columns(rows: Sequence[Row], numbers: dict[str, str]) -> dict[str, Callable[[Row], str]]:
    units = {UNITS.get(row.metric, (row.metric, 1.0))[0] for row in rows}
    unit = f", {units.pop()}" if len(units) == 1 else ""
    others = sorted({row.ratio["to"] for row in rows if row.ratio}) or [BASELINE]
    return {
        **({"case": lambda row: _plain(row.case)} if rows[0].suite == LIMITS else {}),
        "method": lambda row: _plain(row.method),
        "dtype": lambda row: str(row.params.get("dtype", "")),
        f"median{unit}": lambda row: _figure(row, row.median) + ("" if unit else f" {_unit(row)[0]}"),
        "quartiles": lambda row: _between(_figure(row, row.q1), _figure(row, row.q3)),
        f"ratio to the {_plain(' or '.join(others))} (quartiles)": _ratio,
        "of the floor": lambda row: f"{row.extra['fraction_of_floor']:.0%}" if "fraction_of_floor" in row.extra else "",
        "J per image": lambda row: number(row.extra.get("joules_per_image")),
        "largest error": lambda row: f"{row.error['max']:.1e}" if row.error else "",
        "run": lambda row: numbers.get(_run(row), ""),
    }


def number(value: float | None) -> str:
    """To four digits, at least to the whole number; empty for None."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _reason(row: Row) -> str:
    error = f" (largest error {row.error['max']:.1e})" if row.error else ""
    return f"{row.status if row.status != OK else 'without a figure'}{error}: {row.note or 'no reason recorded'}"


def _unit(row: Row) -> tuple[str, float]:
    return UNITS.get(row.metric, (row.metric, 1.0))


def _figure(row: Row, value: float | None) -> str:
    return "" if value is None else number(value * _unit(row)[1])


def _between(low: str, high: str) -> str:
    return f"{low} to {high}" if low and high else ""


def _ratio(row: Row) -> str:
    if not row.ratio:
        return ""
    median, low, high = (f"{row.ratio[key]:.2f}" for key in ("median", "q1", "q3"))
    return f"{median} ({low} to {high})"


def _plain(text: str) -> str:
    """Text on one line in which nothing breaks a table or is taken for HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


# What the plots show


def _plots(prefix: str, rows: Sequence[Row]) -> Iterator[Plot]:
    """The plots of a machine that have anything to show."""
    measured = [row for row in rows if _measured(row)]
    timed = [row for row in measured if row.metric == "seconds"]
    whole, single = ([row for row in timed if bool(row.params.get("layer")) == layers] for layers in (False, True))
    methods = tuple(dict.fromkeys(row.method for row in measured if row.suite != LIMITS))

    def plot(name: str, title: str, panels: dict[str, list[Row]], draw: Any, x_label: str, y_label: str = "") -> Iterator[Plot]:
        if panels:
            yield Plot(f"{prefix}-{name}", title, panels, methods, draw, x_label, y_label)

    against = f"ratio to the {BASELINE}, above 1 is faster"
    yield from plot("time", "Time per image against size", _by_size(whole), _draw_times, "image", "ms per image")
    yield from plot("ratio", f"Speed relative to the {BASELINE}", _by_suite(whole, ratio_of), _draw_ratios, against)
    yield from plot("layers", f"Layers relative to the {BASELINE}", _by_suite(single, ratio_of), _draw_ratios, against)
    yield from plot("floor", "Fraction of the floor", _by_suite(timed, floor_share_of), _draw_floor_shares, "% of the floor")
    yield from plot("roofline", "Roofline", _by_dtype(measured), _draw_roofline, "floating-point operations per byte", "GFLOP/s")
    memory = _by_suite([row for row in measured if row.metric == "bytes"], memory_of)
    yield from plot("memory", "Peak memory", memory, _draw_memory, "MiB")


def ratio_of(row: Row) -> Quantity | None:
    """Of a row to its baseline."""
    return Quantity(row.ratio["q1"], row.ratio["median"], row.ratio["q3"]) if row.ratio else None


def floor_share_of(row: Row) -> Quantity | None:
    """The floor over the time, in per cent."""
    spread, floor = _spread(row), row.extra.get("floor_seconds")
    return Quantity(*(100 * floor / value for value in reversed(spread))) if spread and floor else None


def memory_of(row: Row) -> Quantity | None:
    """In MiB."""
    spread = _spread(row)
    return spread and Quantity(*(value * UNITS["bytes"][1] for value in spread))


def time_per_image_of(row: Row) -> Quantity | None:
    """In milliseconds."""
    spread = _spread(row)
    return spread and Quantity(*(1e3 * value / row.params.get("batch", 1) for value in spread))


def _spread(row: Row) -> Quantity | None:
    if row.median is None:
        return None
    return Quantity(row.median if row.q1 is None else row.q1, row.median, row.median if row.q3 is None else row.q3)


def _size(row: Row) -> str:
    return f"{row.params.get('height')}x{row.params.get('width')}"


def _by_size(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Cases that differ in size alone, where there are at least two sizes."""
    sized = [row for row in rows if _size(row) in row.case]
    panels = _grouped(sized, lambda row: f"{row.suite}, " + " ".join(row.case.replace(_size(row), "").split()))
    return {title: group for title, group in panels.items() if len({_size(row) for row in group}) > 1}


def _by_suite(rows: Iterable[Row], quantity: Callable[[Row], Quantity | None]) -> dict[str, list[Row]]:
    return _grouped([row for row in rows if quantity(row)], lambda row: row.suite)


def _by_dtype(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Single layers, or whole networks where there are none, with the limits of the device in the same dtype."""
    counted = [row for row in rows if row.metric == "seconds" and row.extra.get("flop") and row.extra.get("bytes")]
    counted = [row for row in counted if row.params.get("layer")] or counted
    roofs = [row for row in rows if row.suite == LIMITS]
    panels = _grouped(counted, lambda row: str(row.params.get("dtype", "")))
    return {dtype: group + [row for row in roofs if _is_roof(row, dtype)] for dtype, group in panels.items()}


def _is_roof(row: Row, dtype: str) -> bool:
    return row.metric == "bytes_per_second" or row.params.get("dtype") == dtype


# Drawing


def svg(plot: Plot) -> bytes:
    """The plot as an SVG file. Raises ReportError where matplotlib is missing."""
    matplotlib = _imported("matplotlib")
    figures = importlib.import_module("matplotlib.figure")
    # Settings of the user's would show; what is random in names, and the date, would make every file another one.
    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.simplefilter("ignore")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": plot.name, "svg.fonttype": "none", "font.size": 9})
        heights = [_inches(plot, rows) for rows in plot.panels.values()]
        figure = figures.Figure(figsize=(9, max(sum(heights), 0.2 * len(plot.methods)) + 0.5), layout="constrained")
        grid = figure.subplots(len(heights), squeeze=False, height_ratios=heights)
        _fill(figure, [row[0] for row in grid], plot)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ReportError(f"the plots need the package {name}: pip install 'lbam-fast[report]'") from error


def _inches(plot: Plot, rows: Sequence[Row]) -> float:
    if plot.y_label:
        return 3.8
    return 0.7 + len({row.case for row in rows}) * max(0.25, 0.07 * len(plot.methods))


def _fill(figure: Any, panels: Sequence[Any], plot: Plot) -> None:
    styles = _styles(plot.methods)
    for axes, (title, rows) in zip(panels, plot.panels.items(), strict=True):
        plot.draw(axes, rows, styles)
        axes.set_title(title, loc="left", fontsize=9)
        axes.set(xlabel=plot.x_label, ylabel=plot.y_label)
        axes.grid(alpha=0.3, axis="both" if plot.y_label else "x")
    figure.suptitle(plot.title)
    entries = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    labels = [method for method in (*plot.methods, "limit") if method in entries]
    figure.legend([entries[label] for label in labels], labels, loc="outside right upper", frameon=False)


def _styles(methods: Sequence[str]) -> Styles:
    """Colours and markers by place in the list; the published form is grey, this package is larger."""
    styles: Styles = {}
    for i, method in enumerate(methods):
        size = 7 if method.startswith("lbam_fast") else 4.5
        colour = "0.4" if method == BASELINE else f"C{'012345689'[i % 9]}"
        styles[method] = {"color": colour, "marker": "osD^vP*X<>"[(i + i // 10) % 10], "markersize": size}
    return styles


def _draw_times(axes: Any, rows: Sequence[Row], styles: Styles) -> None:
    sizes = {row.params["height"] * row.params["width"]: _size(row) for row in rows}
    for method, group in _grouped(rows, lambda row: row.method).items():
        group = sorted(group, key=lambda row: int(row.params["height"] * row.params["width"]))
        values = [value for row in group if (value := time_per_image_of(row))]
        pixels = [row.params["height"] * row.params["width"] for row in group]
        axes.errorbar(pixels, [value.median for value in values], yerr=_bars(values), label=method, linewidth=1, **styles[method])
    axes.set(xscale="log", yscale="log")
    axes.minorticks_off()
    axes.set_xticks(sorted(sizes), [sizes[pixels] for pixels in sorted(sizes)])
    _plain_logarithms(axes.yaxis)


def _draw_by_case(axes: Any, rows: Sequence[Row], styles: Styles, quantity: Callable[[Row], Quantity | None]) -> None:
    """A line for each case, from the top, and on it a marker with its quartiles for each method."""
    cases = list(dict.fromkeys(row.case for row in rows))
    heights = {method: 0.6 * (i + 0.5) / len(styles) - 0.3 for i, method in enumerate(styles)}
    for method, group in _grouped(rows, lambda row: row.method).items():
        values = [value for row in group if (value := quantity(row))]
        places = [cases.index(row.case) + heights[method] for row in group]
        axes.errorbar([each.median for each in values], places, xerr=_bars(values), label=method, linestyle="", **styles[method])
    axes.set_yticks(range(len(cases)), cases)
    axes.set_ylim(len(cases) - 0.5, -0.5)


def _draw_ratios(axes: Any, rows: Sequence[Row], styles: Styles) -> None:
    _draw_by_case(axes, rows, styles, ratio_of)
    values = [value for row in rows if (quartiles := ratio_of(row)) for value in quartiles]
    axes.set(xscale="log", xlim=(min(0.5, 0.8 * min(values)), max(2.0, 1.25 * max(values))))
    _plain_logarithms(axes.xaxis)
    axes.axvline(1, color="0.4", linewidth=1)


def _draw_floor_shares(axes: Any, rows: Sequence[Row], styles: Styles) -> None:
    _draw_by_case(axes, rows, styles, floor_share_of)
    axes.set_xlim(left=0)


def _draw_memory(axes: Any, rows: Sequence[Row], styles: Styles) -> None:
    _draw_by_case(axes, rows, styles, memory_of)
    axes.set_xlim(left=0)


def _draw_roofline(axes: Any, rows: Sequence[Row], styles: Styles) -> None:
    """Rates reached against operations per byte, below the copy bandwidth's slope and the matrix product's level."""
    counted = [row for row in rows if row.suite != LIMITS]
    for method, group in _grouped(counted, lambda row: row.method).items():
        x, y = zip(*(_intensity_and_rate(row) for row in group), strict=True)
        axes.plot(x, y, label=method, linestyle="", **styles[method])
    intensities = [_intensity_and_rate(row)[0] for row in counted]
    roofs = {row.metric: (row.median or 0.0) * 1e-9 for row in rows if row.suite == LIMITS}
    if len(roofs) == 2:
        bandwidth, rate = roofs["bytes_per_second"], roofs["flop_per_second"]
        knees = sorted({min(intensities) / 2, max(intensities) * 2, rate / bandwidth})
        axes.plot(knees, [min(rate, bandwidth * knee) for knee in knees], color="black", linewidth=1, label="limit")
    axes.set(xscale="log", yscale="log")
    _plain_logarithms(axes.xaxis)
    _plain_logarithms(axes.yaxis)


def _intensity_and_rate(row: Row) -> tuple[float, float]:
    flop = float(row.extra["flop"])
    return flop / row.extra["bytes"], 1e-9 * flop / (row.median or 1.0)


def _bars(values: Sequence[Quantity]) -> list[list[float]]:
    return [[max(0.0, value.median - value.low) for value in values], [max(0.0, value.high - value.median) for value in values]]


def _plain_logarithms(axis: Any) -> None:
    """Numbers such as 0.5, 1, 2, 5 on a logarithmic axis."""
    ticker = importlib.import_module("matplotlib.ticker")
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(ticker.NullLocator())
