// One panel: editor, controls, and the answer as table, graph or plan.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, type Answer, type Flags, type Operator, type QueryData } from "../api";
import { Message } from "../parts";
import type { Panel, Tab } from "../state";
import { formatDuration, formatTime, formatUtc, parseDuration, parseTime, parseUtc, timeZone, zoneName } from "../time";
import { History, Stores, rememberQuery } from "./choices";
import { Editor } from "./editor";
import { Explain } from "./explain";
import { Graph, type Span } from "./graph";
import { Table } from "./table";

type Props = {
  panel: Panel;
  /** Those of the process, once they are known. */
  flags: Flags | undefined;
  onChange: (change: Partial<Panel>) => void;
  onType: (expr: string) => void;
  onRemove: () => void;
};
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

/** By how many seconds the clocks here and there may differ unsaid. */
const CLOCKS_APART_MAX = 30;

export function PanelView({ panel, flags, onChange, onType, onRemove }: Props) {
  const [shown, setShown] = useState<Shown>();
  const [error, setError] = useState<string>();
  const [running, setRunning] = useState(false);
  const [turn, setTurn] = useState(0);
  const [written, setWritten] = useState(0);
  const abort = useRef<AbortController>();

  useEffect(() => {
    if (!flags) return;
    setError(undefined);
    setRunning(panel.expr.trim() !== "");
    if (panel.expr.trim() === "") return setShown(undefined);
    const controller = new AbortController();
    abort.current = controller;
    ask(panel, flags, controller.signal).then(
      (answer) => {
        if (controller.signal.aborted) return;
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
  }, [
    flags, turn, panel.tab, panel.range, panel.end, panel.step, panel.dedup, panel.partial, panel.resolution, panel.tenant,
    panel.stores.join("\n"),
  ]);

  const run = (change: Partial<Panel> = {}) => {
    onChange(change);
    setTurn((before) => before + 1);
  };
  const cancel = () => {
    abort.current?.abort();
    setRunning(false);
  };
  const choose = (expr: string) => {
    run({ expr });
    setWritten(written + 1);
  };
  const zoom = useRef<(from: number, to: number) => void>();
  zoom.current = (from, to) => onChange({ end: formatUtc(Math.ceil(to)), range: formatDuration(Math.max(1, Math.round(to - from))) });
  // What is typed changes nothing of what is large.
  const result = useMemo(
    () => shown && <Result shown={shown} stacked={panel.stacked} onZoom={(from, to) => zoom.current?.(from, to)} />,
    [shown, panel.stacked, timeZone()],
  );
  const isShown = shown?.tab === panel.tab;
  const ahead = shown?.answer?.ahead ?? 0;
  return (
    <section class="card panel" aria-label="Panel" aria-busy={running || !flags}>
      <div class="ask">
        <Editor
          key={`${written} ${panel.tenant}`}
          value={panel.expr}
          headers={headers(panel, flags)}
          onChange={onType}
          onRun={run}
        />
        <button class="run" onClick={() => run()}>
          Run
        </button>
        <button class="quiet" onClick={onRemove} aria-label="Remove panel">
          ✕
        </button>
      </div>
      <Controls panel={panel} hasTenants={flags?.["query.enforce-tenancy"] === "true"} set={onChange} choose={choose} />
      {error && <Message kind="error">{error}</Message>}
      {shown?.answer?.warnings.map((text) => <Message kind="warning">{text}</Message>)}
      {shown?.answer?.infos.map((text) => <Message kind="info">{text}</Message>)}
      {Math.abs(ahead) > CLOCKS_APART_MAX && (
        <Message kind="warning">
          The clock here is {formatDuration(Math.abs(ahead))} {ahead > 0 ? "ahead of" : "behind"} the server's: what ends now may
          lack samples.
        </Message>
      )}
      <div class="result" role="tabpanel" id={`result-${panel.key}`} aria-label={TABS.find(([name]) => name === panel.tab)?.[1]}>
        {running && (
          <div class="running" role="status">
            Running… <button onClick={cancel}>Cancel</button>
          </div>
        )}
        {isShown && <div class={running ? "old" : ""}>{result}</div>}
        {!isShown && !error && <p class="muted">{running || !flags ? "\u00a0" : "No query has run yet."}</p>}
      </div>
    </section>
  );
}

/** Says who asks. */
function headers(panel: Panel, flags: Flags | undefined): Record<string, string> {
  return panel.tenant ? { [flags?.["query.tenant-header"] || "THANOS-TENANT"]: panel.tenant } : {};
}

function Result({ shown, stacked, onZoom }: { shown: Shown; stacked: boolean; onZoom: (from: number, to: number) => void }) {
  if (shown.tab === "explain") return <Explain plan={shown.plan} analysis={shown.answer?.data.analysis} tookMs={shown.tookMs} />;
  const data = shown.answer!.data;
  if (shown.tab === "graph" && data.resultType === "matrix") {
    return <Graph series={data.result} span={shown.span} stacked={stacked} onZoom={onZoom} tookMs={shown.tookMs} />;
  }
  return <Table data={data} tookMs={shown.tookMs} />;
}

type ControlsProps = { panel: Panel; hasTenants: boolean; set: (change: Partial<Panel>) => void; choose: (expr: string) => void };

function Controls({ panel, hasTenants, set, choose }: ControlsProps) {
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
      <Views tab={panel.tab} result={`result-${panel.key}`} onChange={(tab) => set({ tab })} />
      {panel.tab !== "table" && (
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
      {panel.tab !== "table" && (
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
      {hasTenants && <Field label="Tenant" value={panel.tenant} placeholder="tenant" valid onChange={(tenant) => set({ tenant })} />}
      <Stores chosen={panel.stores} onChange={(stores) => set({ stores })} />
      <History onChoose={choose} />
    </div>
  );
}

/** The views as tabs: one of them takes the focus, arrow keys go to the others. */
function Views({ tab, result, onChange }: { tab: Tab; result: string; onChange: (tab: Tab) => void }) {
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
        <button
          role="tab"
          aria-selected={tab === name}
          aria-controls={result}
          tabIndex={tab === name ? 0 : -1}
          onClick={() => onChange(name)}
          key={name}
        >
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

/** The steps that a panel asks for. A view that shows no range asks for one time, whatever its range is. */
function spanOf(panel: Panel, flags: Flags): Span {
  const end = panel.end === "" ? Date.now() / 1000 : parseUtc(panel.end);
  if (end === null) throw new Error(`"${panel.end}" is not a time: write 2026-01-31 12:00:00`);
  if (panel.tab === "table") return { start: end, end, step: 1 };
  const range = parseDuration(panel.range);
  if (range === null || range === 0) throw new Error(`"${panel.range}" is not a range: write 1h30m`);
  const least = parseDuration(flags["query.default-step"] ?? "") || 1;
  const step = panel.step === "" ? Math.max(least, Math.round(range / 250)) : parseDuration(panel.step);
  if (step === null || step === 0) throw new Error(`"${panel.step}" is not a step: write 30s`);
  return { start: end - range, end, step };
}

async function ask(panel: Panel, flags: Flags, signal: AbortSignal): Promise<Shown> {
  const span = spanOf(panel, flags);
  const how = { signal, headers: headers(panel, flags) };
  const params = {
    query: panel.expr,
    dedup: String(panel.dedup),
    partial_response: String(panel.partial),
    max_source_resolution: panel.resolution,
    "storeMatch[]": panel.stores.map((name) => `{__address__=${JSON.stringify(name)}}`),
  };
  const end = span.end.toFixed(3);
  const times = { start: span.start.toFixed(3), end, step: String(span.step) };
  const started = performance.now();
  const took = () => performance.now() - started;
  if (panel.tab === "table") {
    const answer = await get<QueryData>("query", { ...params, time: end }, how);
    return { tab: "table", answer, span, tookMs: took() };
  }
  if (panel.tab === "graph") {
    const answer = await get<QueryData>("query_range", { ...params, ...times }, how);
    return { tab: "graph", answer, span, tookMs: took() };
  }
  const plan = await get<Operator>("query_explain", { ...params, ...times }, how);
  const answer = await get<QueryData>("query_range", { ...params, ...times, analyze: "true" }, how);
  return { tab: "explain", plan: plan.data, answer, span, tookMs: took() };
}
