// One panel: editor, controls, and the answer as table, graph or plan.

import { useEffect, useRef, useState } from "preact/hooks";
import { get, type Answer, type Operator, type QueryData } from "../api";
import { Message } from "../parts";
import type { Panel, Tab } from "../state";
import { formatDuration, formatTime, formatUtc, parseDuration, parseTime, parseUtc, zoneName } from "../time";
import { History, Stores, rememberQuery } from "./choices";
import { Editor } from "./editor";
import { Explain } from "./explain";
import { Graph, type Span } from "./graph";
import { Table } from "./table";

type Props = { panel: Panel; onChange: (panel: Panel) => void; onRemove: () => void };
type Shown = { tab: Tab; answer?: Answer<QueryData>; plan?: Operator; span: Span; tookMs: number };

const TABS: [Tab, string][] = [
  ["graph", "Graph"],
  ["table", "Table"],
  ["explain", "Explain"],
];
const RESOLUTIONS = [
  ["0s", "raw data"],
  ["5m", "5 m data"],
  ["1h", "1 h data"],
  ["auto", "automatic data"],
];

export function PanelView({ panel, onChange, onRemove }: Props) {
  const [shown, setShown] = useState<Shown>();
  const [error, setError] = useState<string>();
  const [running, setRunning] = useState(false);
  const [turn, setTurn] = useState(0);
  const [written, setWritten] = useState(0);
  const abort = useRef<AbortController>();
  const set = (change: Partial<Panel>) => onChange({ ...panel, ...change });

  useEffect(() => {
    if (panel.expr.trim() === "") return;
    abort.current?.abort();
    const controller = new AbortController();
    abort.current = controller;
    setRunning(true);
    setError(undefined);
    ask(panel, controller.signal).then(
      (answer) => {
        setShown(answer);
        setRunning(false);
        rememberQuery(panel.expr);
      },
      (reason: Error) => {
        if (controller.signal.aborted) return;
        setError(reason.message);
        setShown(undefined);
        setRunning(false);
      },
    );
    return () => controller.abort();
  }, [turn, panel.tab, panel.range, panel.end, panel.step, panel.dedup, panel.partial, panel.resolution, panel.stores.join("\n")]);

  const zoom = (from: number, to: number) =>
    set({ end: formatUtc(Math.ceil(to)), range: formatDuration(Math.max(1, Math.round(to - from))) });
  const choose = (expr: string) => {
    set({ expr });
    setWritten(written + 1);
    setTurn(turn + 1);
  };
  return (
    <section class="card panel" aria-label="Panel" aria-busy={running}>
      <div class="ask">
        <Editor key={written} value={panel.expr} onChange={(expr) => set({ expr })} onRun={() => setTurn(turn + 1)} />
        <button class="run" onClick={() => setTurn(turn + 1)}>
          Run
        </button>
        <button class="quiet" onClick={onRemove} aria-label="Remove panel">
          ✕
        </button>
      </div>
      <Controls panel={panel} set={set} choose={choose} />
      {error && <Message kind="error">{error}</Message>}
      {shown?.answer?.warnings.map((text) => <Message kind="warning">{text}</Message>)}
      {shown?.answer?.infos.map((text) => <Message kind="info">{text}</Message>)}
      {shown && shown.tab === panel.tab ? <Result shown={shown} panel={panel} onZoom={zoom} /> : !error && <p class="muted">{running ? "Running…" : "No query has run yet."}</p>}
    </section>
  );
}

function Result({ shown, panel, onZoom }: { shown: Shown; panel: Panel; onZoom: (from: number, to: number) => void }) {
  if (shown.tab === "explain") return <Explain plan={shown.plan} analysis={shown.answer?.data.analysis} tookMs={shown.tookMs} />;
  const data = shown.answer!.data;
  if (shown.tab === "graph" && data.resultType === "matrix") {
    return <Graph series={data.result} span={shown.span} stacked={panel.stacked} onZoom={onZoom} tookMs={shown.tookMs} />;
  }
  return <Table data={data} tookMs={shown.tookMs} />;
}

type ControlsProps = { panel: Panel; set: (change: Partial<Panel>) => void; choose: (expr: string) => void };

function Controls({ panel, set, choose }: ControlsProps) {
  const range = parseDuration(panel.range) ?? 3600;
  const scale = (factor: number) => set({ range: formatDuration(Math.max(1, Math.round(range * factor))) });
  const move = (by: number) => {
    const end = (parseUtc(panel.end) ?? Date.now() / 1000) + by * range;
    set({ end: formatUtc(Math.round(end)) });
  };
  const end = parseUtc(panel.end);
  const setEnd = (text: string) => {
    const time = parseTime(text);
    set({ end: time === null ? text : formatUtc(time) });
  };
  return (
    <div class="controls">
      <Views tab={panel.tab} onChange={(tab) => set({ tab })} />
      {panel.tab === "graph" && (
        <span class="group">
          <button class="quiet" aria-label="Shorter range" onClick={() => scale(0.5)}>−</button>
          <Field label="Range" value={panel.range} valid={parseDuration(panel.range) !== null} onChange={(value) => set({ range: value })} />
          <button class="quiet" aria-label="Longer range" onClick={() => scale(2)}>+</button>
        </span>
      )}
      <span class="group">
        <button class="quiet" aria-label="Earlier" onClick={() => move(-0.5)}>‹</button>
        <Field label={`End (${zoneName()})`} value={end === null ? panel.end : formatTime(end)} placeholder="now" wide valid={panel.end === "" || end !== null} onChange={setEnd} />
        <button class="quiet" aria-label="Later" onClick={() => move(0.5)}>›</button>
        {panel.end !== "" && <button class="quiet" onClick={() => set({ end: "" })}>now</button>}
      </span>
      {panel.tab === "graph" && (
        <Field label="Step" value={panel.step} placeholder="auto" valid={panel.step === "" || parseDuration(panel.step) !== null} onChange={(value) => set({ step: value })} />
      )}
      {panel.tab === "graph" && <Check label="stacked" on={panel.stacked} onChange={(stacked) => set({ stacked })} />}
      <Check label="de-duplicate" on={panel.dedup} onChange={(dedup) => set({ dedup })} />
      <Check label="partial response" on={panel.partial} onChange={(partial) => set({ partial })} />
      <select aria-label="Resolution" value={panel.resolution} onChange={(event) => set({ resolution: event.currentTarget.value })}>
        {RESOLUTIONS.map(([value, title]) => (
          <option value={value} key={value}>{title}</option>
        ))}
      </select>
      <Stores chosen={panel.stores} onChange={(stores) => set({ stores })} />
      <History onChoose={choose} />
    </div>
  );
}

/** The views as tabs: one of them takes the focus, arrow keys go to the others. */
function Views({ tab, onChange }: { tab: Tab; onChange: (tab: Tab) => void }) {
  const onKeyDown = (event: KeyboardEvent & { currentTarget: HTMLElement }) => {
    const by = { ArrowRight: 1, ArrowLeft: TABS.length - 1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const next = (TABS.findIndex(([name]) => name === tab) + by) % TABS.length;
    onChange(TABS[next]![0]);
    (event.currentTarget.children[next] as HTMLElement).focus();
  };
  return (
    <div class="tabs" role="tablist" aria-label="View" onKeyDown={onKeyDown}>
      {TABS.map(([name, title]) => (
        <button role="tab" aria-selected={tab === name} tabIndex={tab === name ? 0 : -1} onClick={() => onChange(name)} key={name}>
          {title}
        </button>
      ))}
    </div>
  );
}

type FieldProps = { label: string; value: string; placeholder?: string; wide?: boolean; valid: boolean; onChange: (value: string) => void };

/** A text box whose value counts once it is left or Enter is pressed. */
function Field({ label, value, placeholder, wide, valid, onChange }: FieldProps) {
  return (
    <input
      type="text"
      class={wide ? "wide" : "narrow"}
      aria-label={label}
      title={label}
      placeholder={placeholder}
      aria-invalid={!valid}
      value={value}
      onChange={(event) => onChange(event.currentTarget.value.trim())}
    />
  );
}

function Check(props: { label: string; on: boolean; onChange: (on: boolean) => void }) {
  return (
    <label class="check">
      <input type="checkbox" checked={props.on} onChange={(event) => props.onChange(event.currentTarget.checked)} />
      {props.label}
    </label>
  );
}

async function ask(panel: Panel, signal: AbortSignal): Promise<Shown> {
  const end = panel.end === "" ? Date.now() / 1000 : parseUtc(panel.end);
  const range = parseDuration(panel.range);
  const step = panel.step === "" ? Math.max(1, Math.round((range ?? 3600) / 250)) : parseDuration(panel.step);
  if (end === null) throw new Error(`"${panel.end}" is not a time: write 2026-01-31 12:00:00`);
  if (range === null || range === 0) throw new Error(`"${panel.range}" is not a range: write 1h30m`);
  if (step === null || step === 0) throw new Error(`"${panel.step}" is not a step: write 30s`);
  const span = { start: end - range, end, step };
  const params = {
    query: panel.expr,
    dedup: String(panel.dedup),
    partial_response: String(panel.partial),
    max_source_resolution: panel.resolution,
    "storeMatch[]": panel.stores.map((name) => `{__address__=${JSON.stringify(name)}}`),
  };
  const times = { start: span.start.toFixed(3), end: end.toFixed(3), step: String(step) };
  const started = performance.now();
  const took = () => performance.now() - started;
  if (panel.tab === "table") {
    const answer = await get<QueryData>("query", { ...params, time: end.toFixed(3) }, signal);
    return { tab: "table", answer, span, tookMs: took() };
  }
  if (panel.tab === "graph") {
    const answer = await get<QueryData>("query_range", { ...params, ...times }, signal);
    return { tab: "graph", answer, span, tookMs: took() };
  }
  const plan = await get<Operator>("query_explain", { ...params, ...times }, signal);
  const answer = await get<QueryData>("query_range", { ...params, ...times, analyze: "true" }, signal);
  return { tab: "explain", plan: plan.data, answer, span, tookMs: took() };
}
