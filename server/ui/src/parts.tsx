// Parts that several pages are made of.

import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useState } from "preact/hooks";
import { get, type Answer, type Labels } from "./api";

/** Rows that a table has until it is asked for all. */
export const ROWS_SHOWN_MAX = 1000;

export type Loaded<T> = { answer?: Answer<T>; error?: Error; loading: boolean; reload: () => void };

type State<T> = { answer?: Answer<T>; of?: string; error?: Error; loading: boolean };

/** What `/api/v1/<path>` answers, within `withinMs` where that is given; asked for again by `reload`. Beside an error
 * stands the last answer to the same. */
export function useApi<T>(path: string, params: Record<string, string> = {}, withinMs?: number): Loaded<T> {
  const [state, setState] = useState<State<T>>({ loading: true });
  const [turn, setTurn] = useState(0);
  const query = JSON.stringify(params);
  useEffect(() => {
    const abort = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    const of = path + query;
    const signal = withinMs === undefined ? abort.signal : AbortSignal.any([abort.signal, AbortSignal.timeout(withinMs)]);
    get<T>(path, JSON.parse(query), { signal }).then(
      (answer) => setState({ answer, of, loading: false }),
      (error) => abort.signal.aborted || setState((before) => ({ ...(before.of === of ? before : {}), error, loading: false })),
    );
    return () => abort.abort();
  }, [path, query, withinMs, turn]);
  const reload = useCallback(() => setTurn((before) => before + 1), []);
  return { ...state, reload };
}

export function Page(props: { title: string; loaded?: Loaded<unknown>; children?: ComponentChildren; aside?: ComponentChildren }) {
  const { title, loaded, children, aside } = props;
  return (
    <section class="page" aria-busy={loaded?.loading ?? false}>
      <div class="title">
        <h1>{title}</h1>
        {aside}
        {loaded && (
          <button class="quiet" onClick={loaded.reload} disabled={loaded.loading}>
            Reload
          </button>
        )}
      </div>
      {loaded?.error && <Message kind="error">{loaded.error.message}</Message>}
      {loaded?.answer?.warnings.map((warning) => <Message kind="warning">{warning}</Message>)}
      {loaded && !loaded.answer ? !loaded.error && <p class="muted">Loading…</p> : children}
    </section>
  );
}

export function Message(props: { kind: "error" | "warning" | "info"; children: ComponentChildren }) {
  return (
    <div class={`message ${props.kind}`} role={props.kind === "error" ? "alert" : "status"}>
      {props.children}
    </div>
  );
}

export function LabelSet(props: { labels: Labels | null | undefined }) {
  const pairs = Object.entries(props.labels ?? {});
  if (pairs.length === 0) return <span class="muted">no labels</span>;
  return (
    <span class="labels">
      {pairs.map(([name, value]) => (
        <span class="label" key={name}>
          {name}=<b>{value}</b>
        </span>
      ))}
    </span>
  );
}

export function Badge(props: { kind: "good" | "bad" | "soso" | "plain"; children: ComponentChildren }) {
  return <span class={`badge ${props.kind}`}>{props.children}</span>;
}

/** Labels or annotations as a filter looks at them. */
export function textOf(labels: Labels | undefined): string {
  return Object.entries(labels ?? {}).map(([name, value]) => `${name}=${value}`).join(" ");
}

/** A text box that narrows a list. */
export function Filter(props: { value: string; onChange: (value: string) => void; what: string }) {
  return (
    <input
      class="filter"
      type="search"
      placeholder={`Filter ${props.what}`}
      aria-label={`Filter ${props.what}`}
      value={props.value}
      onInput={(event) => props.onChange(event.currentTarget.value)}
    />
  );
}

/** Rows of names and values. */
export function Facts(props: { facts: Record<string, unknown> }) {
  return (
    <div class="scroll">
      <table class="facts">
        <tbody>
          {Object.entries(props.facts).map(([name, value]) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td>{typeof value === "object" ? JSON.stringify(value) : String(value)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
