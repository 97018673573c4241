// One panel: editor, controls, and the answer as table, graph or plan.

import { Component } from "preact";
import { useEffect, useRef, useState, type Dispatch, type StateUpdater } from "preact/hooks";
import { get, type Answer, type Flags, type Operator, type QueryData } from "../api";
import { Message } from "../parts";
import type { Panel, Tab } from "../state";
import {
  formatDuration,
  formatSampleTime,
  formatUtc,
  parseDuration,
  parseTime,
  parseUtc,
  timeZone,
  zoneName,
  type Zone,
} from "../time";
import { History, Stores, rememberQuery } from "./choices";
import { Editor, rewrite } from "./editor";
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
type Shown = { tab: Tab; answer?: Answer<QueryData>; plan?: Operator; span: Span; askedAt: number; tookMs: number };

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

/** A panel. An element among the children of another keeps what it became at first, here the answer before the one that
 * is shown; one that a component returns does not. */
export function PanelView(props: Props) {
  return <Asking {...props} />;
}

function Asking({ panel, flags, onChange, onType, onRemove }: Props) {
  const [shown, setShown] = useState<Shown>();
  const [error, setError] = useState<string>();
  const [running, setRunning] = useState(false);
  const [turn, setTurn] = useState(0);
  const [written, setWritten] = useState(0);
  const [unwanted, setUnwanted] = useState<Set<string>>(new Set());
  const section = useRef<HTMLElement>(null);
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
    editorOf(section.current)?.focus();
  };
  const remove = () => {
    const { nextElementSibling: next, previousElementSibling: before } = section.current!;
    (editorOf(next) ?? editorOf(before) ?? (next as HTMLElement | null))?.focus();
    onRemove();
  };
  const choose = (expr: string) => {
    run({ expr });
    setWritten(written + 1);
  };
  const write = (expr: string) => {
    setError(undefined);
    rewrite(section.current!, expr);
  };
  const zoom = useRef<(from: number, to: number) => void>();
  zoom.current = (from, to) => onChange({ end: formatUtc(Math.ceil(to)), range: formatDuration(Math.max(1, Math.round(to - from))) });
  const isShown = shown?.tab === panel.tab;
  // What ends at a time that is named does not depend on the clock.
  const ahead = panel.end === "" ? (shown?.answer?.ahead ?? 0) : 0;
  const isWaiting = !flags && panel.expr.trim() !== "";
  return (
    <section class="card panel" aria-label="Panel" aria-busy={running || !flags} ref={section}>
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
        <Format query={panel.expr} headers={headers(panel, flags)} onFormat={write} onError={setError} />
        <button class="quiet" onClick={remove} aria-label="Remove panel">
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
        {(running || isWaiting) && (
          <div class="running" role="status">
            Running… {running && <button onClick={cancel}>Cancel</button>}
          </div>
        )}
        {isShown && (
          <div class={running ? "old" : ""}>
            <Result
              shown={shown}
              stacked={panel.stacked}
              fromZero={panel.fromZero}
              zone={timeZone()}
              unwanted={unwanted}
              setUnwanted={setUnwanted}
              onZoom={(from, to) => zoom.current?.(from, to)}
            />
          </div>
        )}
        {!isShown && !error && <p class="muted">{running || !flags ? "\u00a0" : "No query has run yet."}</p>}
      </div>
    </section>
  );
}

type FormatProps = {
  query: string;
  headers: Record<string, string>;
  onFormat: (query: string) => void;
  onError: (text: string) => void;
};

/** Has the server lay out the query, unless it is changed or left meanwhile. What is laid out has no comments. */
function Format({ query, headers, onFormat, onError }: FormatProps) {
  const latest = useRef(query);
  latest.current = query;
  const abort = useRef<AbortController>();
  useEffect(() => () => abort.current?.abort(), []);
  const format = () => {
    abort.current?.abort();
    const { signal } = (abort.current = new AbortController());
    const isOld = () => signal.aborted || latest.current !== query;
    get<string>("format_query", { query }, { headers, signal }).then(
      ({ data }) => isOld() || onFormat(data),
      (reason: Error) => isOld() || onError(reason.message),
    );
  };
  return (
    <button class="quiet" onClick={format} disabled={query.trim() === ""}>
      Format
    </button>
  );
}

/** Says who asks. */
function headers(panel: Panel, flags: Flags | undefined): Record<string, string> {
  return panel.tenant ? { [flags?.["query.tenant-header"] || "THANOS-TENANT"]: panel.tenant } : {};
}

/** Where the query of a panel is typed. */
const editorOf = (panel: Element | null) => panel?.querySelector<HTMLElement>(".cm-content");

type ResultProps = {
  shown: Shown;
  stacked: boolean;
  fromZero: boolean;
  zone: Zone;
  unwanted: Set<string>;
  setUnwanted: Dispatch<StateUpdater<Set<string>>>;
  /** The first one given is the one called. */
  onZoom: (from: number, to: number) => void;
};

/** The answer. What is typed changes nothing of what is large. An element kept by `useMemo` would do the same, but
 * keeps every answer before it. */
class Result extends Component<ResultProps> {
  override shouldComponentUpdate(next: ResultProps) {
    const { shown, stacked, fromZero, zone, unwanted } = this.props;
    if (next.stacked !== stacked || next.fromZero !== fromZero) return true;
    return next.shown !== shown || next.zone !== zone || next.unwanted !== unwanted;
  }

  render({ shown, ...graph }: ResultProps) {
    const { tab, answer, plan, span, askedAt, tookMs } = shown;
    if (tab === "explain") return <Explain plan={plan} analysis={answer?.data.analysis} tookMs={tookMs} />;
    const data = answer!.data;
    if (tab === "graph" && data.resultType === "matrix") {
      const { stacked, fromZero, unwanted, setUnwanted, onZoom } = graph;
      return <Graph series={data.result} {...{ span, tookMs, stacked, fromZero, unwanted, setUnwanted, onZoom }} />;
    }
    return <Table data={data} askedAt={askedAt} tookMs={tookMs} />;
  }
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
        <Field label={`End (${zoneName()})`} value={end === null ? panel.end : formatSampleTime(end)} placeholder="now" wide valid={panel.end === "" || end !== null} onChange={setEnd} />
        <button class="quiet" aria-label="Later" onClick={() => move(0.5)}>›</button>
        {panel.end !== "" && <button class="quiet" onClick={() => set({ end: "" })}>now</button>}
      </span>
      {panel.tab !== "table" && (
        <Field label="Step" value={panel.step} placeholder="auto" valid={panel.step === "" || parseDuration(panel.step) !== null} onChange={(value) => set({ step: value })} />
      )}
      {panel.tab === "graph" && <Check label="stacked" on={panel.stacked} onChange={(stacked) => set({ stacked })} />}
      {panel.tab === "graph" && <Check label="from zero" on={panel.fromZero} onChange={(fromZero) => set({ fromZero })} />}
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
  // What is typed outlasts an answer that arrives meanwhile.
  const [draft, setDraft] = useState<string>();
  const leave = () => setDraft(undefined);
  return (
    <input
      type="text"
      class={wide ? "wide" : "narrow"}
      aria-label={label}
      title={label}
      placeholder={placeholder}
      aria-invalid={!valid}
      value={draft ?? value}
      onInput={(event) => setDraft(event.currentTarget.value)}
      onChange={(event) => {
        leave();
        onChange(event.currentTarget.value.trim());
      }}
      onBlur={leave}
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
  const askedAt = performance.now();
  const took = () => performance.now() - askedAt;
  if (panel.tab === "table") {
    const answer = await get<QueryData>("query", { ...params, time: end }, how);
    return { tab: "table", answer, span, askedAt, tookMs: took() };
  }
  if (panel.tab === "graph") {
    const answer = await get<QueryData>("query_range", { ...params, ...times }, how);
    return { tab: "graph", answer, span, askedAt, tookMs: took() };
  }
  const plan = await get<Operator>("query_range_explain", { ...params, ...times }, how);
  const answer = await get<QueryData>("query_range", { ...params, ...times, analyze: "true" }, how);
  return { tab: "explain", plan: plan.data, answer, span, askedAt, tookMs: took() };
}
