// A graph of many series: drag to zoom, click a name to show it alone, Ctrl+click to toggle it.

import { useEffect, useMemo, useRef, type Dispatch, type StateUpdater } from "preact/hooks";
import uPlot from "uplot";
import { seriesName, type Series } from "../api";
import { formatSampleTime, formatStep, isoTime, timeZone, zoneName } from "../time";

export type Span = { start: number; end: number; step: number };

const SERIES_SHOWN_MAX = 250;

/** Lightness levels of lines, as the theme has them. */
const SHADES = ["--shade-0", "--shade-1", "--shade-2"];

/** The colour of a series among those of `shades`. */
function colour(at: number, shades: string[]): string {
  // The golden angle keeps neighbours apart; the lightness levels tell repeats apart.
  return `hsl(${(at * 137.508 + 12) % 360} 62% ${shades[at % shades.length]})`;
}

type Column = (number | null | undefined)[];

/** Values of `series` on the steps of `span`; gaps where there is none. */
function columns(series: Series[], span: Span): Column[] {
  const steps = Math.floor((span.end - span.start) / span.step + 1e-9) + 1;
  return series.map((one) => {
    const column: Column = new Array(steps).fill(null);
    const put = (time: number, value: number) => {
      const at = Math.round((time - span.start) / span.step);
      if (at >= 0 && at < steps) column[at] = Number.isFinite(value) ? value : null;
    };
    for (const [time, value] of one.values ?? []) put(time, Number(value));
    for (const [time, histogram] of one.histograms ?? []) put(time, Number(histogram.sum));
    return column;
  });
}

/** What values are drawn as so many of: their range, and with the room around it, must be a number. */
const LARGE = 1e308;

/** Whether the values can only be drawn as parts of LARGE. */
function areLarge(values: Column[]): boolean {
  let [least, most] = [0, 0];
  for (const column of values) {
    for (const value of column) {
      least = Math.min(least, value ?? 0);
      most = Math.max(most, value ?? 0);
    }
  }
  // Stacked they may all be added.
  return !Number.isFinite((most - least) * 2 * values.length);
}

/** Each column added to the shown ones before it; uPlot draws the last on the bottom. */
function stack(data: Column[], hidden: Set<number>): Column[] {
  const sum: number[] = new Array(data[0]?.length ?? 0).fill(0);
  return data.map((column, at) =>
    hidden.has(at) ? column : column.map((value, step) => (sum[step] = sum[step]! + (value ?? 0))),
  );
}

/** The least value that is written in a unit, how much the unit is, and its letter. */
const UNITS: [number, number, string][] = [[1e12, 1e12, "T"], [1e9, 1e9, "G"], [1e6, 1e6, "M"], [1e4, 1e3, "k"], [0, 1, ""]];
const DIGITS_MAX = 17;

/** A tick of the axis of values, with the digits that ticks `apart` need. */
function tick(value: number, apart: number): string {
  const size = Math.abs(value);
  // Ticks may be two and a half of a power of ten apart.
  const digits = (unit: number) => Math.min(DIGITS_MAX, Math.max(0, Math.ceil(Math.log10(unit / apart) - 1e-9) + 1));
  if (size !== 0 && (size < 1e-3 || size >= 1e15)) {
    return value.toExponential(digits(10 ** Math.floor(Math.log10(size)))).replace(/\.?0+e/, "e");
  }
  const [, unit, letter] = UNITS.find(([least]) => size >= least)!;
  return Number((value / unit).toFixed(digits(unit))) + letter;
}

/** Places of values that no line reaches, those without a neighbour; null where there are none. */
function alone(column: Column): number[] | null {
  const found: number[] = [];
  column.forEach((value, at) => {
    if (typeof value === "number" && typeof column[at - 1] !== "number" && typeof column[at + 1] !== "number") found.push(at);
  });
  return found.length > 0 ? found : null;
}

type Props = {
  series: Series[];
  span: Span;
  stacked: boolean;
  fromZero: boolean;
  tookMs: number;
  /** Names of the series that are hidden. */
  unwanted: Set<string>;
  setUnwanted: Dispatch<StateUpdater<Set<string>>>;
  onZoom: (from: number, to: number) => void;
};

export function Graph({ series, span, stacked, fromZero, tookMs, unwanted, setUnwanted, onZoom }: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const zoom = useRef(onZoom);
  zoom.current = onZoom;
  const drawn = useMemo(() => series.slice(0, SERIES_SHOWN_MAX), [series]);
  const names = useMemo(() => drawn.map((one) => seriesName(one.metric)), [drawn]);
  const hidden = useMemo(() => new Set([...names.keys()].filter((at) => unwanted.has(names[at]!))), [names, unwanted]);
  // What is hidden stays hidden in the next answer, unless that leaves nothing.
  useEffect(() => setUnwanted((before) => (names.every((name) => before.has(name)) ? new Set() : before)), [names]);
  useEffect(() => {
    const target = holder.current!;
    if (drawn.length === 0) return;
    const values = columns(drawn, span);
    const plot = draw(target, { values, names, span, stacked, fromZero, hidden }, (from, to) => zoom.current(from, to));
    const resize = new ResizeObserver(() => plot.setSize({ width: target.clientWidth, height: height() }));
    resize.observe(target);
    const theme = new MutationObserver(() => plot.redraw());
    theme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    return () => {
      resize.disconnect();
      theme.disconnect();
      plot.destroy();
    };
  }, [drawn, span, stacked, fromZero, hidden, timeZone()]);
  const toggle = (at: number, event: MouseEvent | KeyboardEvent) => {
    const name = names[at]!;
    if (event.ctrlKey || event.metaKey) {
      const next = new Set(unwanted);
      if (!next.delete(name)) next.add(name);
      setUnwanted(next);
    } else {
      const isAlone = hidden.size === names.length - 1 && !hidden.has(at);
      setUnwanted(new Set<string>(isAlone ? [] : names.filter((other) => other !== name)));
    }
  };
  if (series.length === 0) return <p class="muted">The query answers with no series in this range.</p>;
  return (
    <>
      <div class="graph" ref={holder} role="img" aria-label={`Graph of ${drawn.length} series`} />
      <p class="muted">
        {series.length} series{series.length > drawn.length && `, the first ${drawn.length} drawn`} · step {formatStep(span.step)} ·{" "}
        {Math.round(tookMs)} ms · drag to zoom
      </p>
      <ul class="legend" aria-label="Series">
        {names.map((name, at) => (
          <li key={name}>
            <button class="quiet" aria-pressed={!hidden.has(at)} onClick={(event) => toggle(at, event)}>
              <i style={{ background: colour(at, SHADES.map((name) => `var(${name})`)) }} />
              {name}
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}

function height(): number {
  return innerWidth < 700 ? 240 : 340;
}

/** A tick of the time axis, as precise as ticks `apart` seconds need, with the year where they are of more than one. */
function clock(seconds: number, apart: number, hasYears: boolean): string {
  const text = isoTime(seconds);
  if (apart >= 86400) return hasYears ? text.slice(0, 10) : text.slice(5, 10);
  const time = text.slice(11, apart < 1 ? 23 : apart < 60 ? 19 : 16);
  return time.startsWith("00:00") ? `${time}\n${text.slice(5, 10)}` : time;
}

type Drawing = { values: Column[]; names: string[]; span: Span; stacked: boolean; fromZero: boolean; hidden: Set<number> };

/** Pixels between two ticks at least: a time with seconds is somewhat narrower. */
const CLOCK_WIDTH = 80;

/** The same where ticks may be less than a second apart: a time with milliseconds. */
const FINE_CLOCK_WIDTH = 110;

/** Width of an axis of values at least, of a letter there, and of what is beside the letters, in pixels. */
const [AXIS_WIDTH_MIN, LETTER_WIDTH, AXIS_ROOM] = [70, 7.5, 18];

/** What is narrower, in pixels, was pointed at and not selected. */
const SELECTED_WIDTH_MIN = 4;

/** The same of fingers, which move also where they only point. */
const TOUCHED_WIDTH_MIN = 16;

/** Of so many points the others are not drawn fainter than the one pointed at: that draws all of them again. */
const FADED_POINTS_MAX = 200_000;

function draw(target: HTMLElement, drawing: Drawing, onZoom: (from: number, to: number) => void): uPlot {
  const { values, names, span, stacked, fromZero, hidden } = drawing;
  const steps = values[0]!.map((_, step) => span.start + step * span.step);
  const large = areLarge(values);
  const parts = large ? values.map((column) => column.map((value) => (typeof value === "number" ? value / LARGE : value))) : values;
  const shown = stacked ? stack(parts, hidden) : parts;
  // Of stacked series the highest is drawn first, so that lower ones lie on it.
  const order = values.map((_, at) => at);
  if (stacked) order.reverse();
  const style = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let shades: string[] = [];
  const hasYears = isoTime(span.start).slice(0, 4) !== isoTime(span.end).slice(0, 4);
  const space = (_: uPlot, __: number, from: number, to: number, width: number) =>
    width / (to - from) > CLOCK_WIDTH ? FINE_CLOCK_WIDTH : CLOCK_WIDTH;
  const axis: uPlot.Axis = {
    stroke: () => style("--muted"),
    grid: { stroke: () => style("--line"), width: 1 },
    ticks: { stroke: () => style("--line"), width: 1 },
  };
  const options: uPlot.Options = {
    width: target.clientWidth,
    height: height(),
    legend: { show: false },
    tzDate: (seconds) => (timeZone() === "utc" ? uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC") : new Date(seconds * 1000)),
    scales: {
      x: { range: () => [span.start, Math.max(span.end, span.start + 1)] },
      ...(fromZero && { y: { range: (_, least, most) => uPlot.rangeNum(Math.min(least ?? 0, 0), Math.max(most ?? 0, 0), 0.1, true) } }),
    },
    axes: [
      { ...axis, space, values: (_, ticks, __, ___, apart) => ticks.map((at) => clock(at, apart, hasYears)) },
      {
        ...axis,
        size: (_, texts) => Math.max(AXIS_WIDTH_MIN, LETTER_WIDTH * Math.max(...(texts ?? []).map((text) => text.length)) + AXIS_ROOM),
        values: (_, ticks, __, ___, apart) => ticks.map((at) => (large ? `${Number(at.toPrecision(4))}e308` : tick(at, apart))),
      },
    ],
    focus: { alpha: values.length * steps.length > FADED_POINTS_MAX ? 1 : 0.3 },
    cursor: { drag: { x: true, y: false, setScale: false }, focus: { prox: 16 } },
    series: [
      {},
      ...order.map((at) => ({
        label: names[at]!,
        show: !hidden.has(at),
        stroke: () => colour(at, shades),
        width: 1.5,
        points: {
          show: values.length <= 20 && steps.length <= 40,
          filter: (_: uPlot, __: number, isShown: boolean) => (isShown ? null : alone(shown[at]!)),
        },
        ...(stacked ? { fill: () => colour(at, shades) } : {}),
      })),
    ],
    hooks: {
      // The theme may have changed since.
      drawClear: [() => void (shades = SHADES.map(style))],
      setSelect: [
        (plot) => {
          if (plot.select.width < SELECTED_WIDTH_MIN) return;
          onZoom(plot.posToVal(plot.select.left, "x"), plot.posToVal(plot.select.left + plot.select.width, "x"));
        },
      ],
    },
    plugins: [tooltip(values, order, names), touch()],
  };
  return new uPlot(options, [steps, ...order.map((at) => shown[at]!)] as uPlot.AlignedData, target);
}

/** Time, name and value of the series nearest to the cursor. */
function tooltip(values: Column[], order: number[], names: string[]): uPlot.Plugin {
  const box = document.createElement("div");
  box.className = "tooltip";
  let focused: number | null = null;
  return {
    hooks: {
      init: (plot) => void plot.over.appendChild(box),
      setSeries: (_, at) => void (focused = at),
      setCursor: (plot) => {
        const { idx, left, top } = plot.cursor;
        if (idx === null || idx === undefined || left === undefined || left < 0 || !focused) {
          box.style.display = "none";
          return;
        }
        const at = order[focused - 1]!;
        const time = formatSampleTime(plot.data[0][idx]!);
        box.replaceChildren(`${time} ${zoneName()}`, document.createElement("br"), names[at]!, document.createElement("br"));
        box.append(Object.assign(document.createElement("b"), { textContent: String(values[at]![idx] ?? "–") }));
        box.style.display = "block";
        const right = left > plot.over.clientWidth / 2;
        box.style.left = right ? "" : `${left + 12}px`;
        box.style.right = right ? `${plot.over.clientWidth - left + 12}px` : "";
        box.style.top = `${top ?? 0}px`;
      },
    },
  };
}

/** Selects by a finger, as uPlot does by the mouse. What goes up or down scrolls the page: the style says so, and the
 * browser takes the finger away then. */
function touch(): uPlot.Plugin {
  return { hooks: { init: follow } };
}

function follow(plot: uPlot) {
  let from: number | null = null;
  const placeOf = (event: PointerEvent) => {
    const { left, width } = plot.over.getBoundingClientRect();
    return Math.min(Math.max(event.clientX - left, 0), width);
  };
  const leave = () => {
    if (from !== null) plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    from = null;
  };
  const start = (event: PointerEvent) => {
    // A second finger ends what the first one selects.
    leave();
    if (event.isPrimary && event.pointerType === "touch") from = placeOf(event);
  };
  const extend = (event: PointerEvent, isDone: boolean) => {
    if (from === null || event.pointerType !== "touch") return;
    const [left, right] = [Math.min(from, placeOf(event)), Math.max(from, placeOf(event))];
    // What is pointed at would be below the finger.
    if (right > left) plot.setCursor({ left: -10, top: -10 });
    const isSelected = isDone && right - left >= TOUCHED_WIDTH_MIN;
    plot.setSelect({ left, top: 0, width: right - left, height: plot.over.clientHeight }, isSelected);
  };
  plot.over.addEventListener("pointerdown", start);
  plot.over.addEventListener("pointermove", (event) => extend(event, false));
  plot.over.addEventListener("pointerup", (event) => {
    extend(event, true);
    leave();
  });
  plot.over.addEventListener("pointercancel", leave);
}
