// A graph of many series: drag to zoom, click a name to show it alone, Ctrl+click to toggle it.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { seriesName, type Series } from "../api";
import { formatTime, isoTime, timeZone, zoneName } from "../time";

export type Span = { start: number; end: number; step: number };

const SERIES_SHOWN_MAX = 250;

function colour(at: number): string {
  // The golden angle keeps neighbours apart; three lightness levels tell repeats apart.
  return `hsl(${(at * 137.508 + 12) % 360} 62% ${[46, 58, 38][at % 3]}%)`;
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

function number(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e15)) return value.toExponential(3);
  const units: [number, string][] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]];
  const unit = units.find(([least]) => size >= least);
  if (!unit) return String(Number(value.toPrecision(5)));
  return Number((value / (unit[1] === "k" ? 1e3 : unit[0])).toPrecision(4)) + unit[1];
}

type Props = { series: Series[]; span: Span; stacked: boolean; tookMs: number; onZoom: (from: number, to: number) => void };

export function Graph({ series, span, stacked, tookMs, onZoom }: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const [hidden, setHidden] = useState<Set<number>>(new Set());
  const zoom = useRef(onZoom);
  zoom.current = onZoom;
  const drawn = useMemo(() => series.slice(0, SERIES_SHOWN_MAX), [series]);
  const names = useMemo(() => drawn.map((one) => seriesName(one.metric)), [drawn]);
  useEffect(() => setHidden(new Set()), [series]);
  useEffect(() => {
    const target = holder.current!;
    if (drawn.length === 0) return;
    const values = columns(drawn, span);
    const plot = draw(target, { values, names, span, stacked, hidden }, (from, to) => zoom.current(from, to));
    const resize = new ResizeObserver(() => plot.setSize({ width: target.clientWidth, height: height() }));
    resize.observe(target);
    const theme = new MutationObserver(() => plot.redraw());
    theme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    return () => {
      resize.disconnect();
      theme.disconnect();
      plot.destroy();
    };
  }, [drawn, span, stacked, hidden]);
  const toggle = (at: number, event: MouseEvent | KeyboardEvent) => {
    const others = names.map((_, other) => other).filter((other) => other !== at);
    if (event.ctrlKey || event.metaKey) {
      const next = new Set(hidden);
      if (!next.delete(at)) next.add(at);
      setHidden(next);
    } else {
      const alone = hidden.size === others.length && !hidden.has(at);
      setHidden(alone ? new Set() : new Set(others));
    }
  };
  if (series.length === 0) return <p class="muted">The query answers with no series in this range.</p>;
  return (
    <>
      <div class="graph" ref={holder} role="img" aria-label={`Graph of ${drawn.length} series`} />
      <p class="muted">
        {series.length} series{series.length > drawn.length && `, the first ${drawn.length} drawn`} · {Math.round(tookMs)} ms · drag to
        zoom
      </p>
      <ul class="legend" aria-label="Series">
        {names.map((name, at) => (
          <li key={name}>
            <button class="quiet" aria-pressed={!hidden.has(at)} onClick={(event) => toggle(at, event)}>
              <i style={{ background: colour(at) }} />
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

/** A tick of the time axis, as precise as ticks `apart` seconds need. */
function clock(seconds: number, apart: number): string {
  const text = isoTime(seconds);
  if (apart >= 86400) return text.slice(5, 10);
  const time = apart < 60 ? text.slice(11, 19) : text.slice(11, 16);
  return time.startsWith("00:00") ? `${time}\n${text.slice(5, 10)}` : time;
}

type Drawing = { values: Column[]; names: string[]; span: Span; stacked: boolean; hidden: Set<number> };

/** Pixels between two ticks at least: a time with seconds is somewhat narrower. */
const CLOCK_WIDTH = 80;

function draw(target: HTMLElement, drawing: Drawing, onZoom: (from: number, to: number) => void): uPlot {
  const { values, names, span, stacked, hidden } = drawing;
  const steps = values[0]!.map((_, step) => span.start + step * span.step);
  const large = areLarge(values);
  const parts = large ? values.map((column) => column.map((value) => (typeof value === "number" ? value / LARGE : value))) : values;
  const shown = stacked ? stack(parts, hidden) : parts;
  // Of stacked series the highest is drawn first, so that lower ones lie on it.
  const order = values.map((_, at) => at);
  if (stacked) order.reverse();
  const style = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
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
    scales: { x: { range: () => [span.start, Math.max(span.end, span.start + 1)] } },
    axes: [{ ...axis, space: CLOCK_WIDTH, values: (_, ticks, __, ___, apart) => ticks.map((tick) => clock(tick, apart)) }, { ...axis, size: 70, values: (_, ticks) => ticks.map(large ? (tick) => `${Number(tick.toPrecision(4))}e308` : number) }],
    cursor: { drag: { x: true, y: false, setScale: false }, focus: { prox: 16 } },
    series: [
      {},
      ...order.map((at) => ({
        label: names[at]!,
        show: !hidden.has(at),
        stroke: colour(at),
        width: 1.5,
        points: { show: values.length <= 20 && steps.length <= 40 },
        ...(stacked ? { fill: colour(at) } : {}),
      })),
    ],
    hooks: {
      setSelect: [
        (plot) => {
          if (plot.select.width < 4) return;
          onZoom(plot.posToVal(plot.select.left, "x"), plot.posToVal(plot.select.left + plot.select.width, "x"));
        },
      ],
    },
    plugins: [tooltip(values, order, names)],
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
        const time = formatTime(plot.data[0][idx]!);
        box.replaceChildren(`${time} ${zoneName()}`, document.createElement("br"), names[at]!, document.createElement("br"));
        box.append(Object.assign(document.createElement("b"), { textContent: number(values[at]![idx]) }));
        box.style.display = "block";
        const right = left > plot.over.clientWidth / 2;
        box.style.left = right ? "" : `${left + 12}px`;
        box.style.right = right ? `${plot.over.clientWidth - left + 12}px` : "";
        box.style.top = `${top ?? 0}px`;
      },
    },
  };
}
